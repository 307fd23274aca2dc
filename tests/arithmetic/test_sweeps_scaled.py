"""Claim: a million outputs of ten thousand scaled problems, per operation and epilogue, have the stated steps' bits.

Activation scales per tensor, sample, token and group; weight scales per tensor, channel, group and block; float32,
float16, bfloat16 and integer group registers; requantized codes. The slow test asserts both numbers; the default run
compares a hundredth of the same stream.
"""

from __future__ import annotations

import numpy as np
import pytest
import scaled_sums
import wide_sums
from plain_convolution import random_geometry
from scaled_sums import f32, random_scaled

from simulator.arithmetic import codes_out, contract
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.float_formats import BFLOAT16, FLOAT16, FLOAT32
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerBlock, PerGroup, PerTensor
from simulator.arithmetic.group_sums import GroupOrder, GroupRegister, add_groups, add_integer_groups
from simulator.arithmetic.operands import left_operand, pad
from simulator.arithmetic.requantize import REQUANTIZERS
from simulator.arithmetic.weights import prepare_matrices, prepare_weight

pytestmark = pytest.mark.usefixtures("one_thread")

OUTPUTS, PROBLEMS = 1_000_000, 10_000
REGISTERS = {"float32": FLOAT32, "float16": FLOAT16, "bfloat16": BFLOAT16}


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def random_bias(rng, outputs):
    return rng.normal(size=outputs).astype(f32) if rng.integers(2) else None


def matrices(rng):
    """A left operand and a weight, the channels that share an int32 sum, and the prepared operands."""
    rows, outputs, depth = (int(n) for n in (rng.integers(4, 9), rng.choice([9, 16, 33]), rng.integers(1, 40)))
    size = int(rng.integers(1, depth + 1)) if rng.integers(3) else None
    by_rows = [PerTensor(), PerAxis((0,)), PerAxis((1, 0)), PerAxis((1,))]
    by_group = [PerGroup(2, size or 1, (0, 1)), PerGroup(2, size or 1), PerBlock((1, None, size))]
    x = random_scaled(rng, (2, rows, depth), pick(rng, by_rows + (by_group if size else [])))
    shared = [PerTensor(), PerAxis((0,))]
    grouped = [PerGroup(1, size or 1, (0,)), PerGroup(1, size or 1), PerBlock((4, size)), PerBlock((None, size))]
    w = random_scaled(rng, (outputs, depth), pick(rng, shared + (grouped if size else [])))
    return x, w, size, left_operand(x.tensor), prepare_weight(w.tensor, group_size=size)


def linear(rng):
    x, w, size, left, weight = matrices(rng)
    bias = random_bias(rng, len(w.tensor.codes))
    return contract.linear(left, weight, bias), scaled_sums.added(scaled_sums.linear_parts(x, w, size), bias), (x, w)


def image(rng, axes):
    geometry = random_geometry(rng, axes)
    kernel = tuple(int(n) for n in rng.integers(1, 4 if axes < 3 else 3, axes))
    size = tuple(
        max(1, d * (k - 1) + 1 - sum(pads)) + int(rng.integers(1, 6 - axes))
        for k, d, pads in zip(kernel, geometry.dilation, geometry.padding, strict=True)
    )
    channels, share = int(rng.integers(1, 9)), int(rng.choice([3, 6] if geometry.groups > 1 else [6, 17]))
    group = int(rng.integers(1, channels + 1)) if rng.integers(2) else None
    per_sample = pick(rng, [PerTensor(), PerAxis((0,))])
    x = random_scaled(rng, (2, *size, channels * geometry.groups), per_sample)
    kinds = [PerTensor(), PerAxis((0,))]
    if group:
        kinds += [PerGroup(1, group, (0,)), PerGroup(1, group), PerBlock((2, group, *(None,) * axes))]
    w = random_scaled(rng, (share * geometry.groups, channels, *kernel), pick(rng, kinds))
    weight = prepare_weight(w.tensor, parts=geometry.groups, group_size=group)
    return x, w, group, pad(left_operand(x.tensor), geometry), weight, geometry


def conv(axes):
    def make(rng):
        x, w, group, left, weight, geometry = image(rng, axes)
        bias = random_bias(rng, len(w.tensor.codes))
        want = scaled_sums.added(scaled_sums.conv_parts(x, w, geometry, group), bias)
        return contract.conv(left, weight, bias, geometry), want, (x, w, geometry)

    return make


def batched(rng):
    rows, columns, depth = (int(n) for n in (rng.integers(2, 9), rng.choice([5, 9, 33]), rng.integers(1, 24)))
    left = random_scaled(rng, (2, 2, rows, depth), pick(rng, [PerTensor(), PerAxis((0, 1)), PerAxis((0, 1, 2))]))
    kinds = [PerTensor(), PerAxis((0,)), PerAxis((0, 1, 2)), PerAxis((2,)), PerBlock((1, 2, 3, None))]
    right = random_scaled(rng, (2, 2, columns, depth), pick(rng, kinds))
    got = contract.batched_matmul(left_operand(left.tensor), prepare_matrices(right.tensor))
    return got, scaled_sums.added(scaled_sums.linear_parts(left, right, None)), (left, right)


def group_register(kind, order):
    def make(rng):
        x, w, size, left, weight = matrices(rng)
        bias = random_bias(rng, len(w.tensor.codes))
        sums, depth = contract.linear_sums(left, weight), w.tensor.codes.shape[1]
        starts = [group.start for group in scaled_sums.ranges(depth, size)]
        left_scale = np.moveaxis(x.scales[..., starts], -1, 0)[..., None]
        register = GroupRegister(REGISTERS[kind], order)
        got = add_groups(sums, w.scales[:, starts].T, register, left_scale=left_scale, bias=bias)
        parts = scaled_sums.linear_parts(x, w, size)
        want = scaled_sums.added(parts, bias, kind, pairwise=order is GroupOrder.PAIRWISE)
        return got, want, (x, w, bias is None)

    return make


def integer_register(rng):
    """In ascending order: every product narrows, then every addition."""
    x, w, size, left, weight = matrices(rng)
    sums = contract.linear_sums(left, weight)
    groups, outputs = len(sums), sums.shape[-1]
    machine = Accumulator(int(rng.integers(8, 34)), pick(rng, list(Overflow)))
    multiplier = rng.integers(-128, 128, (groups, outputs)).astype(np.int16)
    got = add_integer_groups(sums, multiplier, machine)
    register, lost = np.zeros(sums.shape[1:], np.int64), np.zeros(sums.shape[1:], bool)
    exact = 0
    for (part, _), factor in zip(scaled_sums.linear_parts(x, w, size), multiplier.astype(np.int64), strict=True):
        product = wide_sums.narrowed(part * factor, machine)
        after = wide_sums.narrowed(register + product, machine)
        lost |= (product != part * factor) | (after != register + product)
        exact, register = exact + part * factor, after
    lost = register != exact if machine.overflow is Overflow.WRAP else lost
    assert got.overflowed == lost.sum()
    return got.values, register, (x, w, machine)


def coded(operation):
    """Codes through a requantizer, its parameters fit so that codes use their range."""

    def make(rng):
        while True:
            x, w, group, left, weight, *geometry = matrices(rng) if operation == "linear" else image(rng, 2)
            if left.scale.size == len(weight.groups) == 1:
                break
        outputs, fmt = len(w.tensor.codes), IntFormat(8, bool(rng.integers(2)))
        name = pick(rng, sorted(scaled_sums.FORMULAS))
        parts = scaled_sums.linear_parts if operation == "linear" else scaled_sums.conv_parts
        sums = parts(x, w, *geometry, group)[0][0]
        y_scale, zero = f32(np.abs(sums).max() / 200 + 0.1), int(rng.integers(fmt.qmin, fmt.qmax))
        scales = np.exp(rng.uniform(-1, 1, outputs)).astype(f32)
        bias = rng.integers(-50, 50, outputs).astype(f32 if name == "onednn" else np.int32)
        requantizer = REQUANTIZERS[name](f32(0.7), scales, y_scale, zero, fmt, bias)
        call = codes_out.linear_codes if operation == "linear" else codes_out.conv_codes
        got = call(left, weight, requantizer, *geometry)
        want = scaled_sums.FORMULAS[name](sums, f32(0.7), scales, y_scale, zero, fmt, bias)
        return got.codes.astype(np.int64), want, (x, w, name, zero)

    return make


OPERATIONS = {
    "linear": linear, "conv1d": conv(1), "conv2d": conv(2), "conv3d": conv(3), "batched matmul": batched,
    **{f"{kind} {order.value}": group_register(kind, order) for kind in REGISTERS for order in GroupOrder},
    "integer register": integer_register, "linear codes": coded("linear"), "conv codes": coded("conv"),
}  # fmt: skip


def identity(part):
    if not isinstance(part, scaled_sums.Scaled):
        return part
    tensor = part.tensor
    return tensor.codes.shape, tensor.spec.format, tensor.spec.granularity, tensor.zero_point.tobytes()


def same_bits(got, want):
    """NaN (two infinities in float16) has no payload here."""
    if got.dtype == f32:
        got, want = (np.where(np.isnan(a), f32(np.nan), a).view(np.int32) for a in (got, want))
    return np.array_equal(got, want)


def sweep(operation, least_outputs, least_problems):
    rng = np.random.default_rng([32, list(OPERATIONS).index(operation)])
    outputs, problems = 0, set()
    while outputs < least_outputs or len(problems) < least_problems:
        got, want, parts = OPERATIONS[operation](rng)
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        assert same_bits(got, want)
        outputs += got.size
        problems.add(tuple(map(identity, parts)))
    return outputs, len(problems)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_sweep__a_hundredth_has_the_stated_steps_bits(operation):
    sweep(operation, OUTPUTS // 100, PROBLEMS // 100)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_sweep__a_million_outputs_of_ten_thousand_problems_have_the_stated_steps_bits(operation):
    outputs, problems = sweep(operation, OUTPUTS, PROBLEMS)
    assert outputs >= 1_000_000
    assert problems >= 10_000
