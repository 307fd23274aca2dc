"""Claim: q = clip(round(f32(x / scale)) + zero_point) with one correctly rounded float32 division, and what follows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from integer_reference import nearest_float32, quantize_one

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.operands import ScaledFormat, quantize_image, quantize_matrices
from simulator.arithmetic.quantizer import QuantSpec, dequantize, parameters_from_range, quantize, quantize_to_range
from simulator.arithmetic.rounding import Rounding

pytestmark = pytest.mark.usefixtures("one_thread")

FORMATS = [
    IntFormat(bits, signed, narrow)
    for bits in (4, 8)
    for signed, narrow in ((True, False), (True, True), (False, False))
]
SCALES = [np.float32(s) for s in (0.1, 1 / 3, 0.25, 1.0, 7.3, 1e-6, 1.2e-38, 3e37)]
SPECIAL = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38, 1.17549435e-38], "f4")
formats = st.builds(IntFormat, st.integers(1, 16), st.booleans())
roundings = st.sampled_from(list(Rounding))
deterministic = st.sampled_from([mode for mode in Rounding if mode is not Rounding.STOCHASTIC])
NEAREST = (Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.HALF_DOWN)
OTHERS = tuple(mode for mode in Rounding if mode not in NEAREST)
floats = st.floats(width=32, allow_nan=False)
scales = st.floats(min_value=2.0**-40, max_value=2.0**40, width=32)


def one(x, spec, scale, zero):
    """Quantize with per-tensor parameters."""
    shape = (1,) * np.ndim(x)
    return quantize(x, spec, np.full(shape, scale, np.float32), np.full(shape, zero, np.int32))


def tie_dense(scale: np.float32, fmt: IntFormat, rng: np.random.Generator) -> np.ndarray:
    """Multiples of scale / 2 and their float32 neighbours, random values, special values."""
    codes = np.arange(-(2 ** (fmt.bits + 1)), 2 ** (fmt.bits + 1)) / 2
    with np.errstate(over="ignore"):
        ties = (codes * np.float64(scale)).astype(np.float32)
        spread = (rng.normal(size=200) * scale * 2**fmt.bits).astype(np.float32)
    up, down = (np.nextafter(ties, np.float32(sign * np.inf)) for sign in (1, -1))
    return np.concatenate([ties, up, down, spread, SPECIAL])


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_quantize__equals_an_exact_rational_model(fmt, rounding):
    rng = np.random.default_rng(2)
    for scale in SCALES:
        for zero in (fmt.qmin, fmt.qmax, (fmt.qmin + fmt.qmax) // 2):
            x = rng.choice(tie_dense(scale, fmt, rng), 80)
            want = [quantize_one(v, scale, zero, fmt, rounding, i) for i, v in enumerate(x)]
            spec = QuantSpec(fmt, rounding=rounding)
            got = one(x, spec, scale, zero)
            assert got.codes.dtype == fmt.dtype
            assert got.codes.tolist() == [code for code, _ in want]
            assert got.clipped == sum(clipped for _, clipped in want)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_byte_kernels__equal_an_exact_rational_model(fmt, rounding):
    rng = np.random.default_rng(3)
    for scale in SCALES[:6]:
        zero = int(rng.integers(fmt.qmin, fmt.qmax, endpoint=True))
        x = rng.choice(tie_dense(scale, fmt, rng), (1, 2, 3, 24))
        want = [quantize_one(v, scale, zero, fmt, rounding, i) for i, v in enumerate(x.reshape(-1))]
        codes, clipped = np.array([c for c, _ in want]).reshape(x.shape), sum(c for _, c in want)
        how = ScaledFormat(QuantSpec(fmt, rounding=rounding), scale, zero)
        image = quantize_image(x, how, Geometry.of(2, padding=(2, 1)))
        up, down = (128, 0) if fmt.signed else (0, -128)
        padded = np.pad(codes, ((0, 0), (2, 2), (1, 1), (0, 0)), constant_values=zero)
        assert np.array_equal(image.bytes, padded + up)
        assert (image.clipped, image.zero) == (clipped, zero + up)
        for side, shift in (("left", up), ("right", down)):
            matrix = quantize_matrices(x[0], how, side=side)
            assert np.array_equal(matrix.bytes, codes[0] + shift)
            assert (matrix.clipped, matrix.zero) == (clipped, zero + shift)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_quantize__maps_nan_to_qmin_and_saturates_infinities_and_counts_them(fmt):
    x = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
    for zero in (fmt.qmin, fmt.qmax):
        got = one(x, QuantSpec(fmt), 0.5, zero)
        assert got.codes.tolist() == [fmt.qmin, fmt.qmax, fmt.qmin, zero]
        assert got.clipped == 3


@pytest.mark.parametrize("fmt", [IntFormat(b, s) for b in range(1, 17) for s in (True, False)], ids=str)
def test_quantize__leaves_every_grid_point_fixed(fmt):
    codes = np.arange(fmt.qmin, fmt.qmax + 1)
    for scale in (np.float32(0.25), np.float32(0.1), np.float32(1 / 3)):
        for zero in {fmt.qmin, max(fmt.qmin, 0), fmt.qmax}:
            spec = QuantSpec(fmt)
            x = (codes - zero).astype(np.float32) * scale
            got = one(x, spec, scale, zero)
            assert np.array_equal(got.codes, codes)
            assert got.clipped == 0
            assert np.array_equal(dequantize(got), x)


def again(first, spec, scale, zero):
    """Codes of the values that codes stand for."""
    found = one(dequantize(first), spec, scale, zero)
    assert found.clipped == 0
    return found.codes


@given(st.lists(floats, min_size=1, max_size=30), formats, st.sampled_from(NEAREST), scales, st.data())
def test_quantize__is_idempotent(values, fmt, rounding, scale, data):
    zero = data.draw(st.integers(fmt.qmin, fmt.qmax))
    spec = QuantSpec(fmt, rounding=rounding)
    first = one(np.array(values, np.float32), spec, scale, zero)
    assert np.array_equal(again(first, spec, scale, zero), first.codes)


@given(st.lists(floats, min_size=1, max_size=30), formats, st.sampled_from(OTHERS), scales, st.data())
def test_quantize__of_other_roundings_is_idempotent_where_float32_holds_the_value(values, fmt, rounding, scale, data):
    zero = data.draw(st.integers(fmt.qmin, fmt.qmax))
    spec = QuantSpec(fmt, rounding=rounding)
    first = one(np.array(values, np.float32), spec, scale, zero)
    steps = first.codes.astype(int) - zero
    held = steps * np.float64(scale) == dequantize(first)  # 17 bits times 24: float64 has the product
    moved = again(first, spec, scale, zero).astype(int) - first.codes
    assert not moved[held].any()
    assert (np.abs(moved) <= 1).all()


def test_quantize__of_other_roundings_may_step_back_where_float32_does_not_hold_the_value():
    spec, scale = QuantSpec(IntFormat(3, signed=False), rounding=Rounding.TOWARD_ZERO), np.float32(2529731)
    first = one(np.array([17708118], np.float32), spec, scale, 0)
    assert (first.codes, again(first, spec, scale, 0)) == (7, 6)  # 7 steps are odd beyond 2^24, hence one less


@given(st.lists(floats, min_size=2, max_size=30), formats, deterministic, scales, st.data())
def test_quantize__is_monotone(values, fmt, rounding, scale, data):
    zero = data.draw(st.integers(fmt.qmin, fmt.qmax))
    codes = one(np.sort(np.array(values, np.float32)), QuantSpec(fmt, rounding=rounding), scale, zero).codes
    assert np.all(np.diff(codes.astype(int)) >= 0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), formats, roundings, scales, st.data())
def test_quantize__errs_by_at_most_half_a_step_or_one_inside_the_range(shares, fmt, rounding, scale, data):
    zero = data.draw(st.integers(fmt.qmin, fmt.qmax))
    low, high = (fmt.qmin - zero) * scale, (fmt.qmax - zero) * scale
    x = (low + np.array(shares) * (high - low)).astype(np.float32)
    got = one(x, QuantSpec(fmt, rounding=rounding), scale, zero)
    error = np.abs(dequantize(got).astype(np.float64) - x.astype(np.float64))
    # beside the step: one float32 rounding of the quotient, and one of the product that goes back
    steps = 0.5 if rounding in NEAREST else 1.0
    assert np.all(error <= steps * scale + 2.0**-23 * np.abs(x))


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20), roundings, st.integers(-20, 20))
def test_quantize__commutes_with_powers_of_two(values, rounding, power):
    x = np.array(values, np.float32)
    scaled = (x.astype(np.float64) * 2.0**power).astype(np.float32)
    assume(np.array_equal(scaled.astype(np.float64), x.astype(np.float64) * 2.0**power))
    spec = QuantSpec(IntFormat(8), rounding=rounding)
    left, right = one(x, spec, 0.3, 5), one(scaled, spec, np.float32(0.3) * np.float32(2.0**power), 5)
    assert np.array_equal(left.codes, right.codes)


@pytest.mark.parametrize(
    "granularity", [PerTensor(), PerAxis((0,)), PerAxis((0, 2)), PerGroup(1, 3, (0,)), PerGroup(2, 4)]
)
def test_quantize__uses_the_parameters_of_each_elements_own_group(granularity):
    rng = np.random.default_rng(4)
    shape, fmt = (3, 7, 5), IntFormat(6)
    x = rng.normal(size=shape).astype(np.float32)
    parameters = granularity.parameter_shape(shape)
    scale = rng.uniform(0.01, 0.2, parameters).astype(np.float32)
    zero = rng.integers(fmt.qmin, fmt.qmax, parameters).astype(np.int32)
    spec = QuantSpec(fmt, granularity)
    got = quantize(x, spec, scale, zero)
    back = dequantize(got)
    for index in np.ndindex(shape):
        at = own_parameters(granularity, index, parameters)
        code, _ = quantize_one(x[index], scale[at], int(zero[at]), fmt, Rounding.HALF_EVEN)
        assert got.codes[index] == code
        assert back[index] == np.float32(code - int(zero[at])) * scale[at]


def own_parameters(granularity, index, parameters):
    at = [min(i, n - 1) for i, n in zip(index, parameters, strict=True)]
    if isinstance(granularity, PerGroup):
        at[granularity.axis] = index[granularity.axis] // granularity.size
    return tuple(at)


ranges = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(sorted)


@given(ranges, st.builds(IntFormat, st.integers(2, 16), st.booleans()), st.booleans())
def test_parameters_from_range__represent_zero_exactly(bounds, fmt, symmetric):
    assume(not symmetric or fmt.signed)
    spec = QuantSpec(fmt, symmetric=symmetric)
    scale, zero = parameters_from_range(np.array([bounds[0]]), np.array([bounds[1]]), spec)
    assert scale.dtype == np.float32
    assert zero.dtype == np.int32
    assert fmt.qmin <= zero[0] <= fmt.qmax
    assert scale[0] > 0
    assert dequantize(one(np.zeros(1, np.float32), spec, scale[0], zero[0]))[0] == 0
    assert not symmetric or zero[0] == 0


@given(ranges, st.builds(IntFormat, st.integers(2, 12), st.booleans()), st.booleans(), st.floats(0, 1))
def test_parameters_from_range__cover_the_range_to_half_a_step(bounds, fmt, symmetric, share):
    assume(not symmetric or fmt.signed)
    low, high = np.float32(bounds[0]), np.float32(bounds[1])
    spec = QuantSpec(fmt, symmetric=symmetric)
    scale, zero = parameters_from_range(np.array([low]), np.array([high]), spec)
    x = np.array([low, high, np.float32(low + share * (float(high) - float(low)))], np.float32)
    error = np.abs(dequantize(one(x, spec, scale[0], zero[0])).astype(float) - x.astype(float))
    step = float(scale[0])
    assert np.all(error <= step / 2 + step * 2.0 ** (fmt.bits - 22))


def test_parameters_from_range__have_the_documented_values():
    scale, zero = parameters_from_range(
        np.array([-1.0, 2.0, -3.0]), np.array([3.0, 5.0, -1.0]), QuantSpec(IntFormat(8, signed=False))
    )
    assert np.array_equal(scale, np.array([4 / 255, 5 / 255, 3 / 255], np.float32))
    assert zero.tolist() == [64, 0, 255]
    symmetric = QuantSpec(IntFormat(4, narrow=True), symmetric=True)
    scale, zero = parameters_from_range(np.array([-14.0, 0.5]), np.array([3.0, 7.0]), symmetric)
    assert scale.tolist() == [2, 1]
    assert zero.tolist() == [0, 0]


@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-40])
def test_parameters_from_range__give_scale_one_to_a_range_of_no_width(value):
    for spec in (QuantSpec(IntFormat(8)), QuantSpec(IntFormat(8), symmetric=True)):
        scale, _ = parameters_from_range(np.array([value]), np.array([value]), spec)
        assert scale[0] == 1


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_quantize_to_range__clips_nothing_when_symmetric(bits, seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(4, 9)) * np.exp(rng.uniform(-20, 20, (4, 1)))).astype(np.float32)
    got = quantize_to_range(x, QuantSpec(IntFormat(bits, narrow=True), PerGroup(1, 4, (0,)), symmetric=True))
    assert got.clipped == 0
    # the largest magnitude of each group is on the outermost code
    assert np.all(np.maximum.reduceat(np.abs(got.codes), [0, 4, 8], axis=1) == 2 ** (bits - 1) - 1)


def test_nearest_float32__is_what_numpy_computes():
    from fractions import Fraction

    rng = np.random.default_rng(6)
    bits = rng.integers(0, 0x7F800000, (2, 3000), dtype=np.uint32)
    for a, b in zip(*bits.view(np.float32), strict=True):
        with np.errstate(all="ignore"):
            want = a / b
        got = nearest_float32(Fraction(float(a)) / Fraction(float(b)))
        assert float(want) == (float("inf") if got is None else float(got))


def test_parameters_from_range__takes_numpy_numbers_as_arrays_of_no_axis():
    x, spec = np.array([-1.5, 3.25], np.float32), QuantSpec(IntFormat(8, signed=False))
    found = parameters_from_range(x.min(), x.max(), spec)
    assert found == parameters_from_range(np.array(-1.5), np.array(3.25), spec)
    assert found[0].shape == ()
