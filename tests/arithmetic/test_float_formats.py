"""Claim: small float formats decode and encode as their definition says, and the fast twins equal the exact form.

The exact form itself is held to something simpler: the nearest entry of the table of all values.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.arithmetic.float_codes import decode, encode
from simulator.arithmetic.float_formats import (
    BFLOAT16,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E4M3_NAN,
    E5M2,
    E5M2_INF,
    E8M0,
    FLOAT16,
    FLOAT32,
    NARROW_FORMATS,
    FloatFormat,
    Overflow,
    floor_log2,
)
from simulator.arithmetic.rounding import Rounding

BYTES = [format for format in NARROW_FORMATS if format.bits <= 8]
ROUNDINGS = [Rounding.HALF_EVEN, Rounding.HALF_AWAY]
F32 = np.float32

every_format = pytest.mark.parametrize("format", NARROW_FORMATS, ids=str)
byte_format = pytest.mark.parametrize("format", BYTES, ids=str)
every_rounding = pytest.mark.parametrize("rounding", ROUNDINGS)


def all_codes(format: FloatFormat) -> np.ndarray:
    return np.arange(1 << format.bits).astype(format.dtype)


def magnitudes(format: FloatFormat) -> np.ndarray:
    """All finite magnitudes, ascending, as float64."""
    return decode(np.arange(format.largest_code + 1).astype(format.dtype), format).astype(np.float64)


def adversarial(format: FloatFormat, every: int = 1) -> np.ndarray:
    """Values, ties between neighbours and beyond the largest, and the float32 next to each; both signs; extremes."""
    grid = magnitudes(format)
    beyond = grid[-1] + (grid[-1] - grid[-2]) * np.array([0.5, 1.0, 1.5])
    points = np.concatenate([grid, (grid[1:] + grid[:-1]) / 2, grid[:1] / 2])[::every]
    with np.errstate(over="ignore"):  # beyond bfloat16's largest value lies no float32
        points = np.concatenate([points, beyond]).astype(F32)
    up, down = np.nextafter(points, F32(np.inf)), np.nextafter(points, F32(-np.inf))
    extremes = np.array([0, 1e-45, 1.1754944e-38, 1.1754942e-38, 3.4028235e38, np.inf], F32)
    random = np.random.default_rng(5).integers(0, 0x7F800000, 400).astype(np.int32).view(F32)
    positive = np.concatenate([points, up, down, extremes, random])
    return np.concatenate([positive, -positive])


def exact_codes(x: np.ndarray, format: FloatFormat, rounding: Rounding) -> np.ndarray:
    return np.array([format.encode_exact(float(v), rounding) for v in x]).astype(format.dtype)


def nearest(value: float, format: FloatFormat, rounding: Rounding) -> int:
    """Code of a positive finite value by search in the table of values, from the definition of rounding alone."""
    grid = [Fraction(float(v)) for v in magnitudes(format)]
    # the value that the next code would have if the format went on
    grid.append(2 * grid[-1] - grid[-2] if format.mantissa_bits else 2 * grid[-1])
    above = next((i for i, v in enumerate(grid) if v >= Fraction(value)), None)
    if above is None or (above == 0 and Fraction(value) < grid[0]):
        return format.overflow_code if above is None else 0
    if grid[above] == Fraction(value):
        code = above
    else:
        low, high = Fraction(value) - grid[above - 1], grid[above] - Fraction(value)
        tie_down = rounding is Rounding.HALF_EVEN and format.mantissa_bits > 0 and above % 2 == 1
        code = above - 1 if low < high or (low == high and tie_down) else above
    return format.overflow_code if code > format.largest_code else code


@pytest.mark.parametrize(
    ("format", "largest", "smallest_normal", "smallest", "emax", "bits"),
    [
        (E4M3, 448, 2**-6, 2**-9, 8, 8),
        (E4M3_NAN, 448, 2**-6, 2**-9, 8, 8),
        (E5M2, 57344, 2**-14, 2**-16, 15, 8),
        (E5M2_INF, 57344, 2**-14, 2**-16, 15, 8),
        (E3M2, 28, 0.25, 0.0625, 4, 6),
        (E2M3, 7.5, 1, 0.125, 2, 6),
        (E2M1, 6, 1, 0.5, 2, 4),
        (E8M0, 2.0**127, 2.0**-127, 2.0**-126, 127, 8),
        (FLOAT16, 65504, 2**-14, 2**-24, 15, 16),
        (BFLOAT16, float.fromhex("0x1.fep127"), 2**-126, 2.0**-133, 127, 16),
        (FLOAT32, float.fromhex("0x1.fffffep127"), 2**-126, 2.0**-149, 127, 32),
    ],
    ids=str,
)
def test_format__has_the_published_parameters(format, largest, smallest_normal, smallest, emax, bits):
    assert (format.max, format.emax, format.bits) == (largest, emax, bits)
    assert 2.0**format.emin == smallest_normal
    assert format.decode_exact(1) == smallest


@every_format
def test_decode__equals_the_exact_form_on_every_code(format):
    codes = all_codes(format)
    exact = np.array([format.decode_exact(int(c)) for c in codes])
    fast = decode(codes, format)
    assert fast.dtype == np.float32
    assert np.array_equal(fast.astype(np.float64), exact, equal_nan=True)
    assert np.array_equal(np.signbit(fast), np.signbit(exact))


@every_format
def test_decode__is_injective_and_monotone_up_to_nan(format):
    codes = all_codes(format)
    values = decode(codes, format)
    kept = ~np.isnan(values)
    patterns = values[kept].view(np.uint32)  # so that -0 and 0 differ
    assert len(np.unique(patterns)) == kept.sum()
    assert np.all(np.diff(magnitudes(format)) > 0)
    expected_nans = {E4M3: 2, E4M3_NAN: 2, E5M2: 6, E5M2_INF: 6, E8M0: 1, FLOAT16: 2046, BFLOAT16: 254}
    assert (~kept).sum() == expected_nans.get(format, 0)


@every_rounding
@every_format
def test_encode__gives_back_every_code(format, rounding):
    codes = all_codes(format)
    values = decode(codes, format)
    plain = np.isfinite(values) if format.overflow is Overflow.SATURATE else ~np.isnan(values)
    assert np.array_equal(encode(values[plain], format, rounding), codes[plain])
    if format.nans:
        assert set(encode(values[np.isnan(values)], format, rounding).tolist()) == {format.nan_code}


@every_rounding
@every_format
def test_encode__equals_the_exact_form_on_ties_and_neighbours(format, rounding):
    x = adversarial(format, every=1 if format.bits <= 8 else 37)
    assert np.array_equal(encode(x, format, rounding), exact_codes(x, format, rounding))


@pytest.mark.slow
@every_rounding
@pytest.mark.parametrize("format", [FLOAT16, BFLOAT16], ids=str)
def test_encode__equals_the_exact_form_on_every_tie_of_sixteen_bits(format, rounding):
    x = adversarial(format)
    assert np.array_equal(encode(x, format, rounding), exact_codes(x, format, rounding))


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 5])
@every_format
def test_encode__equals_the_exact_form_on_float16_and_bfloat16_values(format, every):
    halves = np.arange(0, 2**16, every).astype(np.uint16)
    values = np.concatenate([decode(halves, FLOAT16), decode(halves, BFLOAT16)])
    if not format.nans:
        values = values[~np.isnan(values)]
    assert np.array_equal(encode(values, format), exact_codes(values, format, Rounding.HALF_EVEN))


@every_rounding
@byte_format
def test_encode_exact__is_the_nearest_value_of_the_table(format, rounding):
    x = adversarial(format)
    for value in x[np.isfinite(x) & (x > 0)][::3]:
        assert format.encode_exact(float(value), rounding) == nearest(float(value), format, rounding), value


@every_rounding
@every_format
def test_encode__is_monotone_and_idempotent(format, rounding):
    x = np.sort(adversarial(format, every=1 if format.bits <= 8 else 11))
    x = x[x >= 0]
    once = decode(encode(x, format, rounding), format)
    finite = once[np.isfinite(once)]
    assert np.all(np.diff(finite) >= 0)
    assert np.array_equal(decode(encode(finite, format, rounding), format), finite)


@pytest.mark.parametrize(
    ("format", "value", "code"),
    [
        (E4M3, 464.0, 0x7E),
        (E4M3, 465.0, 0x7E),
        (E4M3, -math.inf, 0xFE),
        (E4M3_NAN, 464.0, 0x7E),
        (E4M3_NAN, 464.00003, 0x7F),
        (E4M3_NAN, math.inf, 0x7F),
        (E5M2, 61440.0, 0x7B),
        (E5M2, math.inf, 0x7B),
        (E5M2_INF, 61439.996, 0x7B),
        (E5M2_INF, 61440.0, 0x7C),
        (E5M2_INF, -math.inf, 0xFC),
        (E5M2, math.nan, 0x7E),
        (E3M2, 1e30, 0x1F),
        (E2M3, -8.0, 0x3F),
        (E2M1, 2.5, 0x4),
        (E2M1, -0.25, 0x8),
        (E2M1, -0.0, 0x8),
        (E8M0, 0.0, 0),
        (E8M0, -0.0, 0),
        (E8M0, 2.0**-140, 0),
        (E8M0, -1.0, 255),
        (E8M0, 3.0, 129),
        (E8M0, math.inf, 255),
        (E8M0, 1.5 * 2.0**127, 255),
        (FLOAT16, 65519.996, 0x7BFF),
        (FLOAT16, 65520.0, 0x7C00),
        (FLOAT16, 2.0**-25, 0),
        (BFLOAT16, math.nan, 0x7FC0),
    ],
)
def test_encode__follows_the_stated_rule_at_special_values(format, value, code):
    assert format.encode_exact(value) == code
    assert int(encode(np.array([value], F32), format)[0]) == code


def test_encode__rounds_ties_by_the_rounding_asked_for():
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], F32)
    assert encode(ties, E2M1, Rounding.HALF_EVEN).tolist() == [0, 2, 2, 4, 4, 6, 6]
    assert encode(ties, E2M1, Rounding.HALF_AWAY).tolist() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("format", "dtype"), [(FLOAT16, np.float16), (FLOAT32, np.float32)])
def test_ieee_formats__agree_with_numpy(format, dtype):
    rng = np.random.default_rng(3)
    wide = np.concatenate([rng.standard_normal(3000) * 10.0 ** rng.integers(-45, 39, 3000), [1e39, -1e39, 0.0, -0.0]])
    with np.errstate(over="ignore"):
        want = wide.astype(dtype).view(format.dtype)
    assert [format.encode_exact(float(v)) for v in wide] == want.tolist()


def test_encode__keeps_shape_and_takes_views():
    x = np.arange(24, dtype=F32).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    codes = encode(x, E4M3)
    assert codes.shape == x.shape
    assert np.array_equal(decode(codes, E4M3)[0], [[0, 4, 8], [12, 16, 20]])
    assert encode(np.empty((0, 3), F32), E4M3).shape == decode(np.empty((0, 3), np.uint8), E4M3).shape == (0, 3)
    assert int(encode(np.array(F32(1)), E2M1)) == 2


@every_format
def test_kernel__without_compilation_gives_the_same_codes(format):
    from simulator.arithmetic.kernels import blockscale as kernels

    function = getattr(kernels.encode_elementwise, "py_func", kernels.encode_elementwise)
    x = adversarial(format, every=1 if format.bits <= 6 else 97 if format.bits == 16 else 7)
    out = np.empty(x.shape, format.dtype)
    function(x.view(np.int32), format.kernel_form(), True, out)
    assert np.array_equal(out, encode(x, format))


def test_floor_log2__is_exact_beside_powers_of_two():
    for n in range(-160, 130):
        power, little = Fraction(2) ** n, Fraction(1, 3**200)
        assert (floor_log2(power), floor_log2(power + little), floor_log2(power - little)) == (n, n, n - 1)


def test_any_other_format__is_held_to_the_same_rules():
    """Every shape of format that fits a byte, against the table: the code knows no format by name."""
    for exponent_bits in range(1, 5):
        for mantissa_bits in range(4):
            for nans in (False, True):
                if nans and exponent_bits + mantissa_bits < 2:
                    continue
                format = FloatFormat("free", exponent_bits, mantissa_bits, 3, nans=nans)
                x = adversarial(format)
                assert np.array_equal(encode(x, format), exact_codes(x, format, Rounding.HALF_EVEN)), format
                codes = all_codes(format)[: format.largest_code + 1]
                assert np.array_equal(encode(decode(codes, format), format), codes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FloatFormat("x", 0, 3, 1),
        lambda: FloatFormat("x", 9, 3, 1),
        lambda: FloatFormat("x", 4, 24, 7),
        lambda: FloatFormat("x", 8, 7, 200),
        lambda: FloatFormat("x", 8, 7, 0),
        lambda: FloatFormat("x", 4, 3, 7, infinities=True),
        lambda: FloatFormat("x", 4, 0, 7, infinities=True, nans=True),
        lambda: replace(E2M1, overflow=Overflow.NAN),
        lambda: replace(E4M3, overflow=Overflow.INFINITY),
        lambda: encode(np.ones(3), E4M3),
        lambda: encode(np.ones(3, F32), FLOAT32),
        lambda: encode(np.array([np.nan], F32), E2M1),
        lambda: E3M2.encode_exact(math.nan),
        lambda: E2M1.decode_exact(16),
        lambda: E2M1.decode_exact(-1),
        lambda: decode(np.array([16], np.uint8), E2M1),
        lambda: decode(np.array([1], np.int8), E4M3),
        lambda: decode(np.array([1], np.uint32), FLOAT32),
        lambda: encode(np.ones(1, F32), E4M3, "half_even"),
    ],
)
def test_bad_input__is_a_typed_error(make):
    with pytest.raises(BadInput):
        make()
