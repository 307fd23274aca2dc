"""Claim: every contraction is the exact integer sum and then the stated float32 operations, bit for bit.

The reference (``integer_reference.py``) sums Python integers and replays the epilogue one numpy operation at a time.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from contraction_problems import (
    Batched,
    Conv,
    as_activation,
    as_kernel,
    as_side,
    random_batched,
    random_codes,
    random_conv,
    random_linear,
    random_scaled_format,
    random_scales,
    random_weight,
)
from hypothesis import given
from hypothesis import strategies as st

from simulator.arithmetic import contract
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.operands import ScaledFormat, quantize_image
from simulator.arithmetic.quantizer import Quantized, QuantSpec, quantize_to_range
from simulator.arithmetic.weights import prepare_weight

pytestmark = pytest.mark.usefixtures("one_thread")

ONE = np.float32(1)
MAKERS = {"linear": random_linear, "conv": random_conv, "batched": random_batched}


def assert_same_bits(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype == np.float32
    assert np.array_equal(got.view(np.int32), want.view(np.int32))


def codes_of(fmt: IntFormat) -> np.ndarray:
    return np.arange(fmt.qmin, fmt.qmax + 1).astype(fmt.dtype)


def plain_weight(codes: np.ndarray, fmt: IntFormat, zero: int) -> Quantized:
    return Quantized(codes, np.ones((1, 1), np.float32), np.full((1, 1), zero, np.int32), QuantSpec(fmt))


def plain_kernel(codes: np.ndarray, fmt: IntFormat, zero: int) -> Quantized:
    return as_kernel(plain_weight(codes, fmt, zero))


PAIRS = [
    (IntFormat(bits, left), IntFormat(bits, right))
    for bits in (4, 8)
    for left, right in product((True, False), repeat=2)
]


@pytest.mark.parametrize(("left", "right"), PAIRS, ids=lambda f: str(f))
def test_linear__multiplies_every_pair_of_codes_exactly_at_every_place_of_a_tile_step(left, right):
    x, w = codes_of(left), codes_of(right)
    for place in range(4):
        for x_zero, w_zero in ((left.qmin, right.qmax), (0, 0), (left.qmax, max(right.qmin, 0))):
            rows, columns = np.full((len(x), 1, 1, 4), x_zero, x.dtype), np.full((len(w), 4), w_zero, w.dtype)
            rows[..., place], columns[:, place] = x[:, None, None], w
            how = ScaledFormat(QuantSpec(left), ONE, x_zero)
            got = contract.conv(as_activation(rows, how), prepare_weight(plain_kernel(columns, right, w_zero)))
            want = [[(a - x_zero) * (b - w_zero) for b in w.tolist()] for a in x.tolist()]
            assert np.array_equal(got.reshape(len(x), len(w)), np.array(want, np.float32))


@pytest.mark.parametrize(("left", "right"), PAIRS, ids=lambda f: str(f))
def test_batched_matmul__multiplies_every_pair_of_codes_exactly(left, right):
    x, w = codes_of(left), codes_of(right)
    for x_zero, w_zero in ((left.qmin, right.qmax), (0, 0), (left.qmax, right.qmin)):
        a = as_side(x.reshape(1, -1, 1), ScaledFormat(QuantSpec(left), ONE, x_zero), "left")
        b = as_side(w.reshape(1, -1, 1), ScaledFormat(QuantSpec(right), ONE, w_zero), "right")
        want = [[(p - x_zero) * (q - w_zero) for q in w.tolist()] for p in x.tolist()]
        assert np.array_equal(contract.batched_matmul(a, b)[0], np.array(want, np.float32))


def test_linear__adds_every_pair_of_int4_products_exactly():
    fmt = IntFormat(4)
    pairs = np.array(list(product(codes_of(fmt), repeat=2)), np.int8)
    how = ScaledFormat(QuantSpec(fmt), ONE, 0)
    got = contract.conv(as_activation(pairs.reshape(256, 1, 1, 2), how), prepare_weight(plain_kernel(pairs, fmt, 0)))
    want = [[a * c + b * d for c, d in pairs.tolist()] for a, b in pairs.tolist()]
    assert np.array_equal(got.reshape(256, 256), np.array(want, np.float32))


@pytest.mark.parametrize("kind", MAKERS)
def test_contraction__equals_the_reference_on_random_problems(kind):
    rng = np.random.default_rng([7, list(MAKERS).index(kind)])
    for _ in range(120):
        problem = MAKERS[kind](rng)
        assert_same_bits(problem.engine(), problem.reference())


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_contraction__equals_the_reference_on_many_random_problems(kind):
    rng = np.random.default_rng([8, list(MAKERS).index(kind)])
    for _ in range(1200):
        problem = MAKERS[kind](rng)
        assert_same_bits(problem.engine(), problem.reference())


@given(
    batch=st.integers(1, 2),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    channels=st.integers(1, 9),
    outputs=st.integers(1, 35),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    seed=st.integers(0, 2**32 - 1),
)
def test_conv2d__equals_the_reference_at_any_shape(
    batch, height, width, channels, outputs, kernel, stride, padding, seed
):
    kernel = tuple(min(k, n + 2 * p) for k, n, p in zip(kernel, (height, width), padding, strict=True))
    rng = np.random.default_rng(seed)
    how = random_scaled_format(rng)
    x = random_codes(rng, how.spec.format, (batch, height, width, channels))
    bias = rng.normal(size=outputs).astype(np.float32)
    problem = Conv(x, how, random_weight(rng, (outputs, channels, *kernel)), bias, stride, padding)
    assert_same_bits(problem.engine(), problem.reference())


@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_batched_matmul__equals_the_reference_at_any_shape(batch, rows, columns, depth, seed):
    rng = np.random.default_rng(seed)
    left, right = random_scaled_format(rng), random_scaled_format(rng)
    a, b = (
        random_codes(rng, how.spec.format, (batch, count, depth)) for how, count in ((left, rows), (right, columns))
    )
    problem = Batched(a, left, b, right)
    assert_same_bits(problem.engine(), problem.reference())


@pytest.mark.parametrize("sizes", list(product((1, 8, 9, 64, 65, 128), (1, 32, 33), (4, 8, 12, 30))))
def test_linear__equals_the_reference_where_rows_are_read_in_place_and_where_they_are_gathered(sizes):
    rows, outputs, depth = sizes
    rng = np.random.default_rng(sizes)
    how = ScaledFormat(QuantSpec(IntFormat(8, signed=False)), np.float32(0.013), 77)
    fmt = IntFormat(8, signed=False)
    weight = Quantized(
        random_codes(rng, fmt, (outputs, depth)), random_scales(rng, (outputs, 1)),
        rng.integers(0, 255, (outputs, 1)).astype(np.int32), QuantSpec(fmt, PerAxis((0,))),
    )  # fmt: skip
    problem = Conv(random_codes(rng, how.spec.format, (rows, 1, 1, depth)), how, weight, None, (1, 1), (0, 0))
    assert_same_bits(problem.engine(), problem.reference())
    left = as_activation(problem.x, how)
    flat = replace(left, bytes=left.bytes.reshape(rows, depth))
    assert_same_bits(contract.linear(flat, prepare_weight(weight)), problem.reference().reshape(rows, outputs))


@pytest.mark.parametrize("granularity", [PerTensor(), PerAxis((0,)), PerGroup(1, 5, (0,)), PerGroup(1, 5)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((3, 3), (2, 2), (1, 1)), ((5, 3), (1, 2), (2, 0)), ((1, 1), (2, 1), (2, 2))]
)
def test_conv2d__is_exact_on_operands_that_reach_the_certificate(granularity, kernel, stride, padding):
    x_format, w_format = IntFormat(8, signed=False), IntFormat(8)
    shape = (33, 13, *kernel)
    parameters = granularity.parameter_shape(shape)
    for x_code, x_zero in ((255, 0), (0, 255)):
        for w_code, w_zero in ((-128, 127), (127, -128), (-128, 0)):
            weight = Quantized(
                np.full(shape, w_code, np.int8), np.full(parameters, 0.1, np.float32),
                np.full(parameters, w_zero, np.int32), QuantSpec(w_format, granularity),
            )  # fmt: skip
            how = ScaledFormat(QuantSpec(x_format), np.float32(0.7), x_zero)
            problem = Conv(np.full((1, 6, 7, 13), x_code, np.uint8), how, weight, None, stride, padding)
            assert_same_bits(problem.engine(), problem.reference())


def test_linear__is_exact_next_to_the_end_of_int32():
    # with zero point 255 the raw sum of bytes is 0 and the whole result comes from the corrections
    depth = 2**31 // (255 * 128)
    x = np.full((1, 1, 1, depth), 255, np.uint8)
    w = np.full((2, depth), 127, np.int8)
    w[1] = -128
    how = ScaledFormat(QuantSpec(IntFormat(8, signed=False)), ONE, 0)
    got = contract.conv(as_activation(x, how), prepare_weight(plain_kernel(w, IntFormat(8), 0)))
    assert got.reshape(-1).tolist() == [np.float32(depth * 255 * 127), np.float32(-depth * 255 * 128)]
    shifted = ScaledFormat(QuantSpec(IntFormat(8, signed=False)), ONE, 255)
    got = contract.conv(as_activation(x * 0, shifted), prepare_weight(plain_kernel(w, IntFormat(8), 0)))
    assert got.reshape(-1).tolist() == [np.float32(-depth * 255 * 127), np.float32(depth * 255 * 128)]


def test_conv2d__adds_groups_in_order_and_each_in_float32():
    # 2^24 + 1 + 1 is 2^24 in float32 from the left, and 2^24 + 2 in any other order
    weight = Quantized(
        np.ones((1, 3), np.int8), np.array([[2.0**24, 1, 1]], np.float32), np.zeros((1, 3), np.int32),
        QuantSpec(IntFormat(8), PerGroup(1, 1, (0,))),
    )  # fmt: skip
    how = ScaledFormat(QuantSpec(IntFormat(8)), ONE, 0)
    left = as_activation(np.ones((1, 1, 1, 3), np.int8), how)
    assert contract.conv(left, prepare_weight(as_kernel(weight))).item() == 2.0**24
    assert contract.conv(left, prepare_weight(as_kernel(weight)), np.array([2.0], np.float32)).item() == 2.0**24 + 2


@pytest.mark.parametrize("addend", ["bias", "group"])
def test_conv2d__rounds_the_product_before_it_adds(addend):
    # 4097 (1 + 2^-12) = 4098 + 2^-12 rounds to 4098; a fused multiply-add of -4098 would leave 2^-12
    scale, codes = 1 + 2.0**-12, [[-1, 17]]
    fmt = QuantSpec(IntFormat(8), PerGroup(1, 1, (0,)))
    if addend == "bias":
        codes, fmt = [[0, 17]], QuantSpec(IntFormat(8), PerGroup(1, 2, (0,)))
    scales = np.array([[4098, scale]] if addend == "group" else [[scale]], np.float32)
    weight = Quantized(np.array(codes, np.int8), scales, np.zeros(scales.shape, np.int32), fmt)
    left = as_activation(
        np.array([[[[1, 241]]]], np.uint8), ScaledFormat(QuantSpec(IntFormat(8, signed=False)), ONE, 0)
    )
    bias = np.array([-4098], np.float32) if addend == "bias" else None
    assert contract.conv(left, prepare_weight(as_kernel(weight)), bias).item() == 0


def test_conv2d__of_quantized_floats_is_close_to_the_real_convolution():
    # a coarse check that no convention cancels: all operands from floats, compared in float64
    rng = np.random.default_rng(9)
    x, w = rng.normal(size=(2, 7, 6, 5)).astype(np.float32), rng.normal(size=(4, 5, 3, 3)).astype(np.float32)
    weight = quantize_to_range(w, QuantSpec(IntFormat(8, narrow=True), PerAxis((0,)), symmetric=True))
    how = ScaledFormat(QuantSpec(IntFormat(8, signed=False)), np.float32(8 / 255), 128)
    got = contract.conv(quantize_image(x, how, Geometry.of(2, padding=1)), prepare_weight(weight))
    padded = np.pad(x.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    want = np.einsum("bhwcij,ncij->bhwn", windows, w.astype(float))
    # per output 45 products, each with two relative errors of at most half a step
    assert np.abs(got - want).max() < 45 * (4 * 0.5 * float(weight.scale.max()) + 4 * 0.5 * 8 / 255)
    assert np.corrcoef(got.reshape(-1), want.reshape(-1))[0, 1] > 0.999


@pytest.mark.parametrize("kind", MAKERS)
def test_contraction__writes_into_the_output_it_is_given(kind):
    rng = np.random.default_rng(10)
    problem = MAKERS[kind](rng)
    want = problem.reference()
    memory = np.full(want.size + 2, 7, np.float32)
    out = memory[1:-1].reshape(want.shape)
    got = problem.engine(out)
    assert got is out
    assert np.shares_memory(got, memory)
    assert_same_bits(out, want)
    assert memory[0] == memory[-1] == 7


def test_linear__writes_into_the_output_it_is_given():
    how = ScaledFormat(QuantSpec(IntFormat(8)), ONE, 0)
    left = as_side(np.ones((1, 3, 5), np.int8), how, "left")
    left = replace(left, bytes=left.bytes[0])
    out = np.zeros((3, 2), np.float32)
    got = contract.linear(left, prepare_weight(plain_weight(np.ones((2, 5), np.int8), IntFormat(8), 0)), out=out)
    assert got is out
    assert np.all(out == 5)
