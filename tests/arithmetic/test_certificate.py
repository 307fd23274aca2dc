"""Claim: a certificate's bound is attained by some input, exceeded by none, and refuses what int32 might not hold."""

from __future__ import annotations

import numpy as np
import pytest
from contraction_problems import Conv, as_activation, as_kernel, as_side, random_codes
from hypothesis import given
from hypothesis import strategies as st

from samplers.errors import BadInput
from simulator.arithmetic import contract
from simulator.arithmetic.accumulator import Accumulator, Overflow, ZeroPoint
from simulator.arithmetic.certificate import Certificate, certify
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerGroup
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.operands import ScaledFormat
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.arithmetic.weights import prepare_weight

pytestmark = pytest.mark.usefixtures("one_thread")

ONE = np.float32(1)
formats = st.builds(IntFormat, st.integers(2, 8), st.booleans())


def weight_of(codes: np.ndarray, zero: np.ndarray, fmt: IntFormat, granularity) -> Quantized:
    return Quantized(codes, np.ones(zero.shape, np.float32), zero.astype(np.int32), QuantSpec(fmt, granularity))


@given(
    formats, formats, st.integers(1, 12), st.integers(1, 5), st.sampled_from([None, 1, 3]), st.integers(0, 2**32 - 1)
)
def test_certificate__is_never_exceeded_by_any_partial_sum(x_format, w_format, depth, outputs, size, seed):
    rng = np.random.default_rng(seed)
    granularity = PerAxis((0,)) if size is None else PerGroup(1, size, (0,))
    codes = random_codes(rng, w_format, (outputs, depth))
    zero = rng.integers(w_format.qmin, w_format.qmax, granularity.parameter_shape(codes.shape), endpoint=True)
    x_zero = int(rng.integers(x_format.qmin, x_format.qmax, endpoint=True))
    how = ScaledFormat(QuantSpec(x_format), ONE, x_zero)
    bound = prepare_weight(weight_of(codes, zero, w_format, granularity)).certificate(how.largest).bound
    w = codes.astype(np.int64) - granularity.expand(zero, codes.shape)
    for _ in range(10):
        x = rng.choice([x_format.qmin, x_format.qmax], depth) - x_zero
        starts = range(0, depth, size or depth)
        for start in starts:
            stop = min(start + (size or depth), depth)
            partial = np.cumsum(w[:, start:stop] * x[start:stop], axis=1)
            assert np.abs(partial).max() <= bound


@given(
    st.integers(2, 8), st.integers(1, 12), st.integers(1, 5), st.sampled_from([None, 1, 3]), st.integers(0, 2**32 - 1)
)
def test_certificate__is_attained_when_the_left_format_is_symmetric(bits, depth, outputs, size, seed):
    rng = np.random.default_rng(seed)
    fmt = IntFormat(bits, narrow=True)
    granularity = PerAxis((0,)) if size is None else PerGroup(1, size, (0,))
    codes = random_codes(rng, IntFormat(8), (outputs, depth))
    zero = rng.integers(-128, 128, granularity.parameter_shape(codes.shape))
    bound = prepare_weight(weight_of(codes, zero, IntFormat(8), granularity)).certificate(fmt.qmax).bound
    w = codes.astype(np.int64) - granularity.expand(zero, codes.shape)
    # the adversary: every x on the outermost code, with the sign of its weight
    sums = np.add.reduceat(np.abs(w) * fmt.qmax, range(0, depth, size or depth), axis=1)
    reached = np.add.reduceat(w * np.where(w < 0, -fmt.qmax, fmt.qmax), range(0, depth, size or depth), axis=1)
    assert np.array_equal(sums, reached)
    assert bound == reached.max()


@pytest.mark.parametrize("x_zero", [0, 3, 200, 255])
def test_certificate__is_attained_by_weights_of_one_sign_through_the_engine(x_zero):
    fmt = IntFormat(8, signed=False)
    how = ScaledFormat(QuantSpec(fmt), ONE, x_zero)
    codes = np.array([[5, 9, 2, 100, 33]], np.int8)
    weight = weight_of(codes, np.zeros((1, 1)), IntFormat(8), PerAxis((0,)))
    far = 255 if 255 - x_zero >= x_zero else 0
    problem = Conv(np.full((1, 1, 1, 5), far, np.uint8), how, weight, None, (1, 1), (0, 0))
    assert abs(problem.engine().item()) == prepare_weight(weight).certificate(how.largest).bound


@pytest.mark.parametrize(("bound", "bits"), [(0, 1), (1, 2), (127, 8), (128, 9), (2**31 - 1, 32), (2**31, 33)])
def test_certificate__names_the_smallest_accumulator(bound, bits):
    assert Certificate(bound).accumulator_bits == bits
    assert certify(bound, 1) == Certificate(bound)


def test_linear__refuses_a_sum_that_needs_33_bits_and_takes_one_that_needs_32():
    how = ScaledFormat(QuantSpec(IntFormat(8)), ONE, 0)
    depth = 2**31 // (128 * 128)
    x = np.full((1, 1, 1, depth), -128, np.int8)
    w = np.full((1, depth), -128, np.int8)
    refused = weight_of(w, np.zeros((1, 1)), IntFormat(8), PerAxis((0,)))
    with pytest.raises(BadInput, match=r"33 bits"):
        contract.conv(as_activation(x, how), prepare_weight(as_kernel(refused)))
    w[0, 0] = -127
    taken = weight_of(w, np.zeros((1, 1)), IntFormat(8), PerAxis((0,)))
    got = contract.conv(as_activation(x, how), prepare_weight(as_kernel(taken)))
    assert got.item() == np.float32(2**31 - 128)


def test_linear__is_refused_by_what_the_format_allows_and_not_by_the_data():
    how = ScaledFormat(QuantSpec(IntFormat(8)), ONE, 0)
    depth = 2**17
    weight = weight_of(np.full((1, depth), -128, np.int8), np.zeros((1, 1)), IntFormat(8), PerAxis((0,)))
    with pytest.raises(BadInput, match="int32"):
        contract.conv(as_activation(np.zeros((1, 1, 1, depth), np.int8), how), prepare_weight(as_kernel(weight)))


def test_conv2d__is_certified_group_by_group():
    how = ScaledFormat(QuantSpec(IntFormat(8)), ONE, 0)
    depth = 2**17
    codes = np.full((1, depth), -128, np.int8)
    x = np.full((1, 1, 1, depth), -128, np.int8)
    halves = weight_of(codes, np.zeros((1, 2)), IntFormat(8), PerGroup(1, depth // 2, (0,)))
    assert contract.conv(as_activation(x, how), prepare_weight(as_kernel(halves))).item() == 2.0**31


def test_batched_matmul__refuses_a_sum_that_needs_33_bits_and_takes_one_that_needs_32():
    how = ScaledFormat(QuantSpec(IntFormat(8)), ONE, 0)
    depth = 2**31 // (128 * 128)

    def product(count: int) -> np.ndarray:
        sides = (np.full((1, 1, count), -128, np.int8) for _ in range(2))
        return contract.batched_matmul(
            *(as_side(x, how, side) for x, side in zip(sides, ("left", "right"), strict=True))
        )

    with pytest.raises(BadInput, match=r"33 bits"):
        product(depth)
    assert product(depth - 1).item() == np.float32((depth - 1) * 128 * 128)


@pytest.mark.parametrize("overflow", [Overflow.WRAP, Overflow.SATURATE])
def test_certificate__excludes_overflow_exactly_where_the_adversary_fits(overflow):
    codes = np.array([[3, -128, 7], [100, 27, -1]], np.int8)
    prepared = prepare_weight(weight_of(codes, np.zeros((2, 1)), IntFormat(8), PerAxis((0,))))
    certificate = prepared.certificate(127)
    worst = np.where(codes[0] < 0, -127, 127).astype(np.int8)[None]
    assert certificate.bound == 138 * 127
    for bits, fits in ((15, False), (16, True)):
        accumulator = Accumulator(bits, overflow)
        assert certificate.excludes_overflow(accumulator) is fits
        assert (integer_matmul(worst, codes, accumulator).overflowed == 0) is fits
    room = 2**15 - 1 - certificate.bound
    assert certificate.excludes_overflow(Accumulator(16, overflow), -room)
    assert not certificate.excludes_overflow(Accumulator(16, overflow), room + 1)
    assert not certificate.excludes_overflow(Accumulator(16, overflow, zero_point=ZeroPoint.OUTSIDE))
    assert certificate.excludes_overflow(Accumulator(2))
