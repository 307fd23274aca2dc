"""Claim: a million outputs of ten thousand problems, per operation and kind of register, are the wide-integer sums.

A batch of problems shares shapes, formats, geometry and machine, and differs in data, zero points and biases; the
engine sees them one by one, the reference (``wide_sums.py``) all at once. Counts of losses are compared too. The slow
test asserts both numbers; the default run compares a fortieth of the same stream.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import wide_sums
from plain_convolution import random_geometry

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Bias, Count, KOrder, Overflow, ZeroPoint
from simulator.arithmetic.conv import integer_conv, integer_conv_transpose
from simulator.arithmetic.group_sums import add_integer_groups
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing

pytestmark = pytest.mark.usefixtures("one_thread")

OUTPUTS, PROBLEMS, BATCH = 1_000_000, 10_000, 100
TYPES = ("i1", "u1", "i2", "u2")


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def exact(rng):
    return Accumulator(zero_point=pick(rng, list(ZeroPoint)), bias=pick(rng, list(Bias)))


def limited(overflow, low, high, trees):
    def make(rng):
        return Accumulator(
            int(rng.integers(low, high, endpoint=True)), overflow, int(pick(rng, trees)), pick(rng, list(KOrder)),
            pick(rng, list(ZeroPoint)), pick(rng, list(Bias)),
        )  # fmt: skip

    return make


FAMILIES = {
    "exact": exact,
    "wrap": limited(Overflow.WRAP, 2, 64, (1, 3, 4)),
    "saturate to 16": limited(Overflow.SATURATE, 6, 16, (1,)),
    "saturate to 16, tree": limited(Overflow.SATURATE, 6, 16, (2, 3, 4, 7)),
    "saturate 17 to 31": limited(Overflow.SATURATE, 17, 31, (1,)),
    "saturate 17 to 31, tree": limited(Overflow.SATURATE, 17, 31, (2, 3, 4, 7)),
    "saturate from 32": limited(Overflow.SATURATE, 32, 64, (1, 1, 4)),
    "pairs": lambda rng: PairAccumulator(pick(rng, list(Pairing))),
}


def codes(rng, dtype, shape):
    """Codes of the whole type, its extremes alone, or both mixed."""
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, shape, np.int64, endpoint=True)
    extremes = rng.choice([info.min, info.max], shape)
    return np.where(rng.random(shape) < pick(rng, [0, 0, 0.5, 1]), extremes, values).astype(dtype)


def types(rng, machine, family):
    if isinstance(machine, PairAccumulator):
        return "u1", "i1"
    return ("i2", "u2") if family == "saturate from 32" else (pick(rng, TYPES), pick(rng, TYPES))


def parameters(rng, outputs, x_type, w_type, problems):
    """(x_zero, w_zero, bias), one row per problem."""
    info_x, info_w = np.iinfo(x_type), np.iinfo(w_type)
    x_zero = rng.integers(info_x.min, info_x.max, problems, endpoint=True)
    w_zero = rng.integers(info_w.min, info_w.max, (problems, outputs), endpoint=True)
    if rng.integers(2):
        w_zero[:] = w_zero[:, :1]
    reach = 2 ** int(rng.integers(4, 40))
    return x_zero, w_zero, rng.integers(-reach, reach, (problems, outputs))


def matmul(rng, machine, family, problems):
    x_type, w_type = types(rng, machine, family)
    rows, outputs, depth = (int(n) for n in (rng.integers(5, 15), rng.choice([7, 16, 33]), rng.integers(1, 24)))
    x, w = codes(rng, x_type, (problems, rows, depth)), codes(rng, w_type, (problems, outputs, depth))
    rest = parameters(rng, outputs, x_type, w_type, problems)
    want = wide_sums.accumulate(wide_sums.matmul_adds(x, w, machine), machine, *rest)
    return (x.shape, w.shape, x_type, w_type), (x, w, *rest), integer_matmul, {}, want


def batched(rng, machine, family, problems):
    """Three matrices by three, or by one that they share: the reference stacks them along the problems."""
    x_type, w_type = types(rng, machine, family)
    rows, outputs, depth = (int(n) for n in (rng.integers(3, 7), rng.choice([5, 16]), rng.integers(1, 20)))
    count = pick(rng, [1, 3])
    x, w = codes(rng, x_type, (problems, 3, rows, depth)), codes(rng, w_type, (problems, count, outputs, depth))
    rest = parameters(rng, outputs, x_type, w_type, problems)
    stacked = np.broadcast_to(w, (problems, 3, outputs, depth)).reshape(-1, outputs, depth)
    adds = wide_sums.matmul_adds(x.reshape(-1, rows, depth), stacked, machine)
    want = wide_sums.accumulate(adds, machine, *(np.repeat(values, 3, axis=0) for values in rest))
    want = wide_sums.Sums(*(values.reshape(problems, -1, outputs) for values in want))
    return (x.shape, w.shape, x_type, w_type), (x, w, *rest), integer_matmul, {}, want


def conv(axes):
    def make(rng, machine, family, problems):
        x_type, w_type = types(rng, machine, family)
        geometry = random_geometry(rng, axes)
        kernel = tuple(int(n) for n in rng.integers(1, 4 if axes < 3 else 3, axes))
        size = tuple(
            max(1, d * (k - 1) + 1 - sum(pads)) + int(rng.integers(1, 5 - axes + 1))
            for k, d, pads in zip(kernel, geometry.dilation, geometry.padding, strict=True)
        )
        channels, share = int(rng.integers(1, 4)), int(rng.choice([2, 5] if geometry.groups > 1 else [5, 16]))
        x = codes(rng, x_type, (problems, 2, *size, channels * geometry.groups))
        w = codes(rng, w_type, (problems, share * geometry.groups, channels, *kernel))
        rest = parameters(rng, w.shape[1], x_type, w_type, problems)
        want = wide_sums.convolution(x, w, machine, geometry, *rest)
        name = (x.shape, w.shape, x_type, w_type, geometry)
        return name, (x, w, *rest), integer_conv, {"geometry": geometry}, want

    return make


def transpose(rng, machine, family, problems):
    axes = int(rng.integers(1, 3))
    x_type, w_type = types(rng, machine, family)
    geometry = random_geometry(rng, axes)
    kernel, size = (tuple(int(n) for n in rng.integers(low, 4, axes)) for low in (1, 2))
    extra = tuple(int(rng.integers(max(pair))) for pair in zip(geometry.stride, geometry.dilation, strict=True))
    channels, share = int(rng.integers(1, 3)), int(rng.choice([2, 3] if geometry.groups > 1 else [5, 9]))
    x = codes(rng, x_type, (problems, 2, *size, channels * geometry.groups))
    w = codes(rng, w_type, (problems, channels * geometry.groups, share, *kernel))
    rest = parameters(rng, share * geometry.groups, x_type, w_type, problems)
    options = {"geometry": geometry, "output_padding": extra}
    name = (x.shape, w.shape, x_type, w_type, geometry, extra)
    try:
        integer_conv_transpose(x[0], w[0], Accumulator(), **options)
    except BadInput:  # no output element is left: draw again
        return transpose(rng, machine, family, problems)
    want = wide_sums.transposed(x, w, machine, geometry, extra, *rest)
    return name, (x, w, *rest), integer_conv_transpose, options, want


OPERATIONS = {
    "matmul": matmul, "batched matmul": batched, "conv1d": conv(1), "conv2d": conv(2), "conv3d": conv(3),
    "transposed conv": transpose,
}  # fmt: skip
CELLS = list(product(OPERATIONS, FAMILIES))


def sweep(operation, family, least_outputs, least_problems):
    """Compare batches until both numbers are reached; returns them and the lost outputs."""
    rng = np.random.default_rng([31, list(OPERATIONS).index(operation), list(FAMILIES).index(family)])
    outputs, lost, problems = 0, 0, set()
    while outputs < least_outputs or len(problems) < least_problems:
        machine = FAMILIES[family](rng)
        count = pick(rng, [Count.OUTPUTS, Count.OUTPUTS, Count.OUTPUTS, Count.STEPS])
        batch = min(BATCH, max(least_problems // 4, 1))
        name, arrays, engine, options, want = OPERATIONS[operation](rng, machine, family, batch)
        for i, (x, w, x_zero, w_zero, bias) in enumerate(zip(*arrays, strict=True)):
            got = engine(x, w, machine, x_zero=int(x_zero), w_zero=w_zero, bias=bias, count=count, **options)
            assert got.values.dtype in (np.int32, np.int64)
            assert np.array_equal(got.values.reshape(want.values[i].shape), want.values[i])
            expected = want.steps[i].sum() if count is Count.STEPS else want.overflowed[i].sum()
            assert got.overflowed == expected
            outputs += got.values.size
            lost += int(want.overflowed[i].sum())
            problems.add((name, machine, int(x_zero), w_zero.tobytes()))
    return outputs, len(problems), lost


@pytest.mark.parametrize(("operation", "family"), CELLS)
def test_sweep__a_fortieth_equals_the_wide_sums(operation, family):
    _, _, lost = sweep(operation, family, OUTPUTS // 40, PROBLEMS // 40)
    assert lost > 0 or family in ("exact", "saturate from 32")


@pytest.mark.slow
@pytest.mark.parametrize(("operation", "family"), CELLS)
def test_sweep__a_million_outputs_of_ten_thousand_problems_equal_the_wide_sums(operation, family):
    outputs, problems, lost = sweep(operation, family, OUTPUTS, PROBLEMS)
    assert outputs >= 1_000_000
    assert problems >= 10_000
    assert lost > 0 or family == "exact"


MACHINES = [
    Accumulator(), Accumulator(9, Overflow.WRAP), Accumulator(13, Overflow.SATURATE),
    Accumulator(12, Overflow.SATURATE, 2, zero_point=ZeroPoint.OUTSIDE, bias=Bias.LAST),
]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m.overflow.name}{m.bits}")
@pytest.mark.parametrize(("x_type", "w_type"), list(product(("i1", "u1"), repeat=2)))
def test_integer_matmul__multiplies_every_pair_of_bytes(x_type, w_type, machine):
    x, w = (np.arange(256, dtype=np.uint8).view(t).reshape(256, 1) for t in (x_type, w_type))
    for x_zero, w_zero in ((0, 0), (int(x.min()), int(w.max())), (int(x.max()), int(w.min())), (3, 100)):
        got = integer_matmul(x, w, machine, x_zero=x_zero, w_zero=w_zero, count=Count.STEPS)
        rest = np.array([x_zero]), np.full((1, 256), w_zero), np.zeros((1, 256), int)
        want = wide_sums.accumulate(wide_sums.matmul_adds(x[None], w[None], machine), machine, *rest)
        assert np.array_equal(got.values, want.values[0])
        assert got.overflowed == want.steps.sum()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m.overflow.name}{m.bits}")
@pytest.mark.parametrize(("x_signed", "w_signed"), list(product((True, False), repeat=2)))
def test_integer_matmul__adds_every_pair_of_int4_products(x_signed, w_signed, machine):
    def pairs(signed):
        four = np.arange(-8, 8) if signed else np.arange(16)
        return np.array(list(product(four, repeat=2))).astype(np.int8 if signed else np.uint8)

    x, w = pairs(x_signed), pairs(w_signed)
    machine = Accumulator(min(machine.bits, 7), machine.overflow, machine.tree, machine.k_order, machine.zero_point)
    for x_zero, w_zero in ((0, 0), (int(x.min()), int(w.max()))):
        got = integer_matmul(x, w, machine, x_zero=x_zero, w_zero=w_zero)
        rest = np.array([x_zero]), np.full((1, 256), w_zero), np.zeros((1, 256), int)
        want = wide_sums.accumulate(wide_sums.matmul_adds(x[None], w[None], machine), machine, *rest)
        assert np.array_equal(got.values, want.values[0])
        assert got.overflowed == want.overflowed.sum()


def test_integer_matmul__refuses_a_sum_that_could_exceed_int64():
    x, bias = np.zeros((1, 2), np.int16), np.array([2**62 - 2**31])
    with pytest.raises(BadInput, match="int64"):
        integer_matmul(x, x, Accumulator(), x_zero=2**40, w_zero=2**22)
    for overflow in Overflow:
        with pytest.raises(BadInput, match="int64"):
            integer_matmul(x, x, Accumulator(20, overflow), bias=bias)
        with pytest.raises(BadInput, match="int64"):
            integer_conv(x[None], x[..., None], Accumulator(20, overflow), bias=bias)
    with pytest.raises(BadInput, match="int64"):
        add_integer_groups(np.full((2, 1), 2**46), np.full((2, 1), 2**15, np.int32), Accumulator())
