"""Claim: sums in a limited accumulator are those of the big-integer form, and each of its six fields matters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Bias, Count, KOrder, Overflow, ZeroPoint, accumulate_exact
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.matmul import integer_matmul

pytestmark = pytest.mark.usefixtures("one_thread")

DTYPES = [np.int8, np.uint8, np.int16, np.uint16]

accumulators = st.builds(
    Accumulator,
    st.integers(2, 40),
    st.sampled_from(Overflow),
    st.integers(1, 5),
    st.sampled_from(KOrder),
    st.sampled_from(ZeroPoint),
    st.sampled_from(Bias),
)


def reference(x, w, accumulator, x_zero, w_zero, bias):
    """The normative form for every output: values, and one number per way of counting."""
    sums = [
        [
            accumulate_exact(row, column, accumulator, x_zero, int(z), int(b))
            for column, z, b in zip(w, w_zero, bias, strict=True)
        ]
        for row in x.tolist()
    ]
    flat = [one for row in sums for one in row]
    counts = {
        Count.NONE: None,
        Count.OUTPUTS: sum(one.overflowed for one in flat),
        Count.STEPS: sum(one.steps for one in flat),
    }
    return [[one.value for one in row] for row in sums], counts


@given(accumulators, st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.integers(0, 2**32 - 1))
def test_integer_matmul__is_the_big_integer_form(accumulator, x_type, w_type, seed):
    rng = np.random.default_rng(seed)
    rows, outputs, depth = rng.integers(1, 5), rng.integers(1, 5), rng.integers(0, 12)

    def codes(dtype, shape):
        info = np.iinfo(dtype)
        extremes = rng.choice(np.array([info.min, info.max]), shape)
        return np.where(rng.random(shape) < 0.3, extremes, rng.integers(info.min, info.max, shape)).astype(dtype)

    x, w = codes(x_type, (rows, depth)), codes(w_type, (outputs, depth))
    x_zero, w_zero = int(codes(x_type, ())), codes(w_type, (outputs,)).astype(np.int64)
    bias = rng.integers(-(2**31), 2**31, outputs)
    want, counts = reference(x, w.tolist(), accumulator, x_zero, w_zero, bias)
    for count in Count:
        got = integer_matmul(x, w, accumulator, x_zero=x_zero, w_zero=w_zero, bias=bias, count=count)
        assert got.values.tolist() == want
        assert got.overflowed == counts[count]


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize("k_order", KOrder)
def test_integer_conv__is_the_big_integer_form_in_its_stated_order(overflow, k_order):
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (2, 5, 4, 3)).astype(np.uint8)
    w = rng.integers(-128, 128, (4, 3, 3, 2)).astype(np.int8)
    bias = rng.integers(-2000, 2000, 4)
    accumulator = Accumulator(14, overflow, k_order=k_order)
    got = integer_conv(x, w, accumulator, Geometry.of(2, stride=(2, 1), padding=1), x_zero=128, bias=bias)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=128).tolist()
    taps = [(i, j, c) for i in range(3) for j in range(2) for c in range(3)]
    if k_order is KOrder.CHANNEL_ROW_COLUMN:
        taps = [(i, j, c) for c in range(3) for i in range(3) for j in range(2)]
    overflowed = 0
    for b, y, z, n in np.ndindex(got.values.shape):
        pixels = [padded[b][2 * y + i][z + j][c] for i, j, c in taps]
        weights = [int(w[n, c, i, j]) for i, j, c in taps]
        want, over, _ = accumulate_exact(pixels, weights, accumulator, 128, 0, int(bias[n]))
        assert got.values[b, y, z, n] == want
        overflowed += over
    assert got.overflowed == overflowed
    assert overflowed or overflow is Overflow.EXACT


FIELDS = {
    "bits": 18,
    "overflow": Overflow.WRAP,
    "tree": 4,
    "k_order": KOrder.CHANNEL_ROW_COLUMN,
    "zero_point": ZeroPoint.OUTSIDE,
    "bias": Bias.LAST,
}


@pytest.mark.parametrize("field", FIELDS)
def test_accumulator__every_field_matters_when_it_saturates(field):
    assert set(FIELDS) == {f.name for f in dataclasses.fields(Accumulator)}
    rng = np.random.default_rng(6)
    x = rng.integers(0, 256, (2, 6, 6, 32)).astype(np.uint8)
    w = rng.integers(-128, 128, (8, 32, 3, 3)).astype(np.int8)
    bias = rng.integers(-20000, 20000, 8)
    base = Accumulator(16, Overflow.SATURATE)
    outputs = [
        integer_conv(x, w, accumulator, Geometry.of(2, padding=1), x_zero=128, bias=bias).values
        for accumulator in (base, dataclasses.replace(base, **{field: FIELDS[field]}))
    ]
    assert np.mean(outputs[0] != outputs[1]) > 0.1


def test_wrap__does_not_depend_on_order_tree_or_bias_position():
    rng = np.random.default_rng(7)
    x, w = rng.integers(0, 256, (5, 60)).astype(np.uint8), rng.integers(-128, 128, (7, 60)).astype(np.int8)
    bias, order = rng.integers(-9999, 9999, 7), rng.permutation(60)
    base = Accumulator(12, Overflow.WRAP)
    want = integer_matmul(x, w, base, x_zero=3, bias=bias)
    for other in (base, dataclasses.replace(base, tree=8), dataclasses.replace(base, bias=Bias.LAST)):
        got = integer_matmul(x[:, order], w[:, order], other, x_zero=3, bias=bias)
        assert np.array_equal(got.values, want.values)
        assert got.overflowed == want.overflowed


@pytest.mark.parametrize("overflow", [Overflow.WRAP, Overflow.SATURATE])
def test_limited__equals_exact_and_counts_nothing_where_a_certificate_excludes_overflow(overflow):
    rng = np.random.default_rng(8)
    x, w = rng.integers(0, 256, (5, 40)).astype(np.uint8), rng.integers(-8, 8, (6, 40)).astype(np.int8)
    bound = int(np.abs(w.astype(int)).sum(axis=1).max()) * 255  # of A2Q: no input can reach further
    bits = bound.bit_length() + 1
    exact = integer_matmul(x, w, Accumulator())
    limited = integer_matmul(x, w, Accumulator(bits, overflow))
    assert np.array_equal(limited.values, exact.values)
    assert limited.overflowed == exact.overflowed == 0
    worst = np.where(w[np.abs(w.astype(int)).sum(axis=1).argmax()] > 0, 255, 0).astype(np.uint8)[None]
    assert integer_matmul(worst, w, Accumulator(9, overflow)).overflowed > 0


@pytest.mark.parametrize("bits", [2, 8, 31, 32, 33, 63, 64])
def test_narrow__wraps_and_saturates_at_the_registers_ends(bits):
    wrap, saturate = Accumulator(bits, Overflow.WRAP), Accumulator(bits, Overflow.SATURATE)
    low, high = wrap.smallest, wrap.largest
    assert high - low + 1 == 2**bits
    for value in (low, -1, 0, high):
        assert wrap.narrow(value) == saturate.narrow(value) == value
    assert wrap.narrow(high + 1) == low
    assert wrap.narrow(low - 1) == high
    assert saturate.narrow(high + 1) == high
    assert saturate.narrow(low - 1) == low


def test_steps__count_every_lossy_add_while_outputs_count_once_and_wrap_may_return():
    # 3 bits: 3 + 3 wraps (or saturates), - 3 - 3 brings a wrapped register back to a sum that fits
    x, w = np.ones((1, 4), np.int8), np.array([[3, 3, -3, -3]], np.int8)
    found = {
        (overflow, count): integer_matmul(x, w, Accumulator(3, overflow), count=count).overflowed
        for overflow in Overflow
        for count in Count
    }
    assert [found[Overflow.WRAP, count] for count in Count] == [None, 0, 2]
    assert [found[Overflow.SATURATE, count] for count in Count] == [None, 1, 1]
    assert [found[Overflow.EXACT, count] for count in Count] == [None, 0, 0]


X, W = np.zeros((2, 3), np.int8), np.zeros((4, 3), np.int8)
BAD = {
    "bits 1": lambda: Accumulator(1),
    "bits 65": lambda: Accumulator(65),
    "tree 0": lambda: Accumulator(tree=0),
    "float codes": lambda: integer_matmul(X.astype(np.float32), W, Accumulator()),
    "int32 codes": lambda: integer_matmul(X, W.astype(np.int32), Accumulator()),
    "other depth": lambda: integer_matmul(X, W[:, :2], Accumulator()),
    "rank": lambda: integer_matmul(X[0], W, Accumulator()),
    "float bias": lambda: integer_matmul(X, W, Accumulator(), bias=np.zeros(4)),
    "bias length": lambda: integer_matmul(X, W, Accumulator(), bias=np.zeros(3, np.int64)),
    "beyond int64": lambda: integer_matmul(X, W, Accumulator(), x_zero=2**60),
    "conv rank": lambda: integer_conv(X, W, Accumulator()),
    "conv channels": lambda: integer_conv(np.zeros((1, 4, 4, 2), "i1"), np.zeros((1, 3, 3, 3), "i1"), Accumulator()),
    "conv zero point that no padded tap can hold": lambda: integer_conv(
        np.zeros((1, 4, 4, 2), "i1"), np.zeros((1, 2, 3, 3), "i1"), Accumulator(), x_zero=128),
    "conv float codes": lambda: integer_conv(np.zeros((1, 4, 4, 2)), np.zeros((1, 2, 3, 3), "i1"), Accumulator()),
    "conv kernel": lambda: integer_conv(np.zeros((1, 2, 2, 3), "i1"), np.zeros((1, 3, 3, 3), "i1"), Accumulator()),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_accumulate__refuses_bad_input(case):
    with pytest.raises(BadInput) as caught:
        BAD[case]()
    assert caught.value.fix


@pytest.mark.parametrize(("x_type", "w_type"), [(np.uint8, np.int8), (np.uint16, np.uint8), (np.uint16, np.uint16)])
def test_integer_matmul__of_batches_is_that_of_each_matrix(x_type, w_type):
    rng = np.random.default_rng(5)
    x = rng.integers(0, np.iinfo(x_type).max, (3, 1, 2, 5), endpoint=True).astype(x_type)
    w = rng.integers(np.iinfo(w_type).min, np.iinfo(w_type).max, (4, 6, 5), endpoint=True).astype(w_type)
    zeros, bias = rng.integers(0, 100, 6), rng.integers(-(2**31), 2**31, 6)
    for accumulator in (Accumulator(), Accumulator(bits=20, overflow=Overflow.WRAP)):
        got = integer_matmul(x, w, accumulator, x_zero=77, w_zero=zeros, bias=bias)
        assert got.values.shape == (3, 4, 2, 6)
        assert got.values.dtype == np.int64
        for i, j in np.ndindex(3, 4):
            want, _ = reference(x[i, 0], w[j].tolist(), accumulator, 77, zeros, bias)
            assert got.values[i, j].tolist() == want
    outside = integer_matmul(x, w, Accumulator(), x_zero=-5, w_zero=zeros)  # a zero point that is no code
    first = [[sum((int(a) + 5) * (int(b) - int(z)) for a, b in zip(row, column, strict=True))
              for column, z in zip(w[0], zeros, strict=True)] for row in x[0, 0]]  # fmt: skip
    assert outside.values[0, 0].tolist() == first
