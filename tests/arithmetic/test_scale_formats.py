"""Claim: a scale is rounded into its format by the stated rule, is never 0 or infinite, and the zero point follows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.errors import BadInput
from simulator.arithmetic.float_formats import BFLOAT16, E4M3, E4M3_NAN, E8M0, FLOAT16, FLOAT32, NARROW_FORMATS
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.quantizer import QuantSpec, dequantize, parameters_from_range, quantize, quantize_to_range
from simulator.arithmetic.rounding import Rounding, round_exact
from simulator.arithmetic.scale_formats import FixedPointScale, Float32Scale, FloatScale, PowerOfTwoScale

pytestmark = pytest.mark.usefixtures("one_thread")

TINY, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
FORMATS = [
    Float32Scale(),
    FloatScale(FLOAT16),
    FloatScale(BFLOAT16),
    FloatScale(E4M3),
    FloatScale(E4M3_NAN),
    *(PowerOfTwoScale(mode) for mode in (Rounding.CEIL, Rounding.FLOOR, Rounding.HALF_EVEN)),
    *(FixedPointScale(bits) for bits in (1, 7, 15, 24)),
]


def stratum() -> np.ndarray:
    """Every normal exponent with mantissas at and beside powers of two, midpoints of formats, and random ones."""
    rng = np.random.default_rng(1)
    edges = [0, 1, 2, 2**22 - 1, 2**22, 2**22 + 1, 2**23 - 1, 2**12, 2**12 + 1, 2**15, 2**15 - 1, 3 * 2**15, 2**7, 2**8]
    mantissas = np.concatenate([edges, rng.integers(0, 2**23, 18)]).astype(np.uint32)
    return (np.arange(1, 255, dtype=np.uint32)[:, None] * np.uint32(2**23) + mantissas).reshape(-1).view(np.float32)


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_round__is_idempotent_monotone_positive_and_finite(format):
    values = format.round(stratum())
    assert values.dtype == np.float32
    assert np.all((values > 0) & np.isfinite(values))
    assert np.array_equal(format.round(values), values)
    assert np.all(np.diff(format.round(np.sort(stratum()))) >= 0)
    assert format.round(np.ones((2, 1, 3), np.float32)).shape == (2, 1, 3)


@pytest.mark.parametrize("format", NARROW_FORMATS, ids=str)
def test_float_scale__is_the_formats_exact_encoding_inside_its_range(format):
    values = stratum()
    got = FloatScale(format).round(values)
    smallest = format.decode_exact(int(format.subnormals))
    for value, rounded in zip(values.tolist(), got.tolist(), strict=True):
        exact = format.decode_exact(format.encode_exact(value))
        if value >= format.max:
            assert rounded == format.max
        elif exact == 0:
            assert rounded == smallest
        elif np.isfinite(exact):
            assert rounded == exact
        else:  # rounded up past the largest value
            assert rounded == format.max


@pytest.mark.parametrize("mode", [Rounding.CEIL, Rounding.FLOOR, Rounding.HALF_EVEN])
def test_power_of_two_scale__is_the_stated_power(mode):
    for value, rounded in zip(stratum().tolist(), PowerOfTwoScale(mode).round(stratum()).tolist(), strict=True):
        down = max(e for e in range(-126, 128) if 2.0**e <= value)
        up = down if 2.0**down == value else min(down + 1, 127)
        if mode is Rounding.HALF_EVEN:
            want = down if value < 1.5 * 2.0**down else up
            assert rounded == (E8M0.decode_exact(E8M0.encode_exact(value)) if value < 1.5 * 2.0**127 else 2.0**127)
        else:
            want = up if mode is Rounding.CEIL else down
        assert rounded == 2.0**want


@pytest.mark.parametrize("bits", [1, 7, 15, 23, 24])
def test_fixed_point_scale__is_an_integer_of_its_bits_times_a_power_of_two(bits):
    format = FixedPointScale(bits)
    largest = Fraction(2**bits - 1, 2**bits) * 2**29
    for value, rounded in zip(stratum().tolist(), format.round(stratum()).tolist(), strict=True):
        multiplier, shift = format.parts(value)
        assert 2 ** (bits - 1) <= multiplier < 2**bits
        assert -31 <= shift <= 29
        assert Fraction(rounded) == multiplier * Fraction(2) ** (shift - bits)
        limited = max(Fraction(value), Fraction(1, 2**32))
        quantum = Fraction(2) ** (int(np.frexp(float(limited))[1]) - bits)
        want = round_exact(limited / quantum, Rounding.HALF_UP) * quantum
        assert Fraction(rounded) == min(want, largest)


def test_fixed_point_scale__of_24_bits_holds_every_float32_of_its_range():
    values = stratum()
    inside = values[(values >= 2.0**-32) & (values < 2.0**29)]
    assert np.array_equal(FixedPointScale(24).round(inside), inside)


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("symmetric", [False, True])
def test_parameters_from_range__rounds_the_scale_before_the_zero_point(format, symmetric):
    rng = np.random.default_rng(2)
    fmt = IntFormat(8, signed=symmetric)
    low = -np.exp(rng.uniform(-30, 30, 500)).astype(np.float32).astype(np.float64)
    high = np.exp(rng.uniform(-30, 30, 500)).astype(np.float32).astype(np.float64)
    low[:3], high[:3] = (0, -1e38, -1e-30), (0, 3e38, 1e-30)
    plain, _ = parameters_from_range(low, high, QuantSpec(fmt, symmetric=symmetric))
    scale, zero = parameters_from_range(low, high, QuantSpec(fmt, symmetric=symmetric, scale_format=format))
    assert np.array_equal(scale, format.round(plain))
    want = 0 if symmetric else np.clip(np.rint(fmt.qmin - low / scale), fmt.qmin, fmt.qmax)
    assert np.array_equal(zero, np.broadcast_to(want, zero.shape))


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_power_of_two_scale__rounded_up_saturates_nothing_and_down_may(bits, seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(5, 40)) * np.exp(rng.uniform(-20, 20, (5, 1)))).astype(np.float32)
    fmt = IntFormat(bits, narrow=True)
    got = quantize_to_range(x, QuantSpec(fmt, PerAxis((0,)), symmetric=True, scale_format=PowerOfTwoScale()))
    assert got.clipped == 0
    error = np.abs(dequantize(got).astype(np.float64) - x)
    assert np.all(error <= got.scale.astype(np.float64) / 2)
    assert np.all(np.abs(got.codes).max(axis=1) >= (fmt.qmax - 1) // 2)  # at most one bit is lost


def test_power_of_two_scale__rounded_down_or_to_nearest_clips():
    x = np.array([-1.49, 0.1, 1.49], np.float32) * np.float32(127)
    for mode in (Rounding.FLOOR, Rounding.HALF_EVEN):
        spec = QuantSpec(IntFormat(8, narrow=True), symmetric=True, scale_format=PowerOfTwoScale(mode))
        assert quantize_to_range(x, spec).clipped == 2


def test_quantize__refuses_a_scale_that_is_not_of_its_format():
    x, zero = np.ones(3, np.float32), np.zeros(1, np.int32)
    for format in FORMATS[1:]:
        spec = QuantSpec(IntFormat(8), scale_format=format)
        quantize(x, spec, np.full(1, 0.5, np.float32), zero)
        if format != FixedPointScale(24):
            with pytest.raises(BadInput, match="scale format"):
                quantize(x, spec, np.full(1, 1 + 2.0**-23, np.float32), zero)


@pytest.mark.parametrize(
    "call",
    [
        lambda: PowerOfTwoScale(Rounding.HALF_UP),
        lambda: FixedPointScale(0),
        lambda: FixedPointScale(25),
        lambda: FixedPointScale(8.0),
        lambda: FloatScale(FLOAT32),
    ],
)
def test_scale_format__refuses_what_it_cannot_hold(call):
    with pytest.raises(BadInput):
        call()
