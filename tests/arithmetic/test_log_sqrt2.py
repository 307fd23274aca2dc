"""Claim: log-sqrt2 codes are those of exact arithmetic, for every float32 near a boundary, whatever libm says."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.arithmetic.log_sqrt2 import LARGEST_BITS, SQRT2, LogSqrt2

F32 = np.float32
BITS = range(2, LARGEST_BITS + 1)
DELTAS = [F32(1), F32(0.37), F32(2.0**-126), F32(3e38)]
SPECIAL = np.array([0, -0.0, -1, np.inf, -np.inf, np.nan, 1, 0.5, 2.0**-149, 2.0**-126, 3.4e38], F32)


def by_logarithm(x, delta):
    """``-2 log2(x / delta)`` to 60 digits."""
    with localcontext() as context:
        context.prec = 60
        ratio = Decimal(float(x)) / Decimal(float(delta))
        return -2 * ratio.ln() / Decimal(2).ln()


def near_boundaries(how):
    edges = how.thresholds
    below, above = (np.nextafter(edges, F32(end)) for end in (0, np.inf))
    return np.concatenate([edges, below, np.nextafter(below, F32(0)), above, how.values, SPECIAL])


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("bits", BITS)
def test_quantize__is_the_exact_form_around_every_boundary(bits, delta):
    how = LogSqrt2(bits, delta, zero=bool(delta == F32(0.37)))
    x = near_boundaries(how)
    found = how.quantize(x)
    want = [how.code(each) for each in x]
    assert found.codes.tolist() == [code for code, _ in want]
    assert found.clipped == sum(clipped for _, clipped in want) > 0
    assert set(found.codes.tolist()) == set(range(how.levels)) or delta == F32(2.0**-126)  # subnormals are few


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("delta", [F32(1), F32(0.37)])
def test_code__is_the_nearest_integer_to_the_logarithm(bits, delta):
    how = LogSqrt2(bits, delta)
    for x in near_boundaries(how):
        if 0 < x < np.inf:
            exact = by_logarithm(x, delta)
            assert abs(exact - exact.to_integral_value()) != Decimal("0.5")
            nearest = int(exact.to_integral_value())
            assert how.code(x) == (min(max(nearest, 0), 2**bits - 1), not 0 <= nearest < 2**bits)


def test_quantize__is_monotone_and_a_float_logarithm_is_not_it():
    how = LogSqrt2(8)
    x = np.sort(np.concatenate([near_boundaries(how)[:-11], np.random.default_rng(0).random(2000, F32)]))
    codes = how.quantize(x).codes.astype(int)
    assert (np.diff(codes) <= 0).all()
    with np.errstate(divide="ignore"):
        naive = np.clip(np.rint(F32(-2) * np.log2(x)), 0, 255).astype(int)
    assert (naive != codes).any()  # float32 logarithms round across boundaries


@pytest.mark.parametrize("bits", BITS)
def test_values__are_two_factors_times_powers_of_two(bits):
    how = LogSqrt2(bits, F32(0.75))
    odd = F32(SQRT2 * F32(0.75))
    assert abs(Fraction(float(SQRT2)) ** 2 - 2) < Fraction(1, 2**23)
    for q, value in enumerate(how.values):
        exact = Fraction(float(odd if q % 2 else F32(0.75))) / 2 ** ((q + 1) // 2)
        assert value == F32(float(exact))
        assert abs(float(value) / (0.75 * 2 ** (-q / 2)) - 1) < 2**-23 or value < 2.0**-125
    assert how.values.dtype == F32
    assert LogSqrt2(bits, F32(0.75), zero=True).values.tolist() == [*how.values.tolist(), 0]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("zero", [False, True])
def test_quantize__gives_back_the_codes_of_its_values(bits, zero):
    how = LogSqrt2(bits, F32(0.9), zero)
    codes = np.arange(how.levels, dtype=np.uint16)
    assert np.array_equal(how.quantize(how.dequantize(codes)).codes, codes)


def test_quantize__of_zero_and_specials():
    x = np.array([0, 2.0**-20, np.nan, np.inf, -1, 1, 1.19, 1.18], F32)
    paper, released = LogSqrt2(4).quantize(x), LogSqrt2(4, zero=True).quantize(x)
    assert paper.codes.tolist() == [15, 15, 0, 0, 15, 0, 0, 0]
    assert released.codes.tolist() == [16, 16, 0, 0, 16, 0, 0, 0]
    assert paper.clipped == released.clipped == 6  # 1.19 lies above 2^(1/4) = 1.1892, 1.18 below


@pytest.mark.parametrize(
    ("arguments", "match"),
    [((1,), "bits"), ((9,), "bits"), ((4, 0.0), "delta"), ((4, np.nan), "delta"), ((4, 1e39), "delta"),
     ((4, 1e-40), "delta"), ((4, 1.0, 1), "zero")],
)  # fmt: skip
def test_log_sqrt2__refuses_other_parameters(arguments, match):
    with pytest.raises(BadInput, match=match):
        LogSqrt2(*arguments)
    with pytest.raises(BadInput, match="x"):
        LogSqrt2(4).quantize(np.zeros(3))
