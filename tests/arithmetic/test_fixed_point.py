"""Claim: the fixed-point primitives equal exact rationals rounded in the stated way, ties included."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.errors import BadInput
from simulator.arithmetic.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    fbgemm_multiplier,
    multiply_double_rounding,
    multiply_half_up_shift,
    multiply_single_rounding,
    multiply_two_step_half_up,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
    wrap_int32,
)

EDGES = [INT32_MIN, INT32_MIN + 1, -3 << 29, -(1 << 30), -3, -2, -1, 0, 1, 2, 3, 1 << 30, 3 << 29, INT32_MAX]
int32 = st.integers(INT32_MIN, INT32_MAX) | st.sampled_from(EDGES)
multipliers = st.integers(1 << 30, INT32_MAX) | st.sampled_from([1 << 30, 3 << 29, INT32_MAX])
reals = st.floats(2.0**-20, 2.0**29)


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def half_away(value: Fraction) -> int:
    return half_up(abs(value)) * (1 if value >= 0 else -1)


@given(st.integers(-(2**66), 2**66))
def test_wrap_int32__is_twos_complement(value):
    assert wrap_int32(value) == int(np.array(value % 2**32, np.uint32).astype(np.int32))


@given(int32, int32)
def test_high_mul__is_half_up_and_saturates_once(a, b):
    want = INT32_MAX if a == b == INT32_MIN else half_up(Fraction(a * b, 1 << 31))
    assert saturating_rounding_doubling_high_mul(a, b) == want


@given(int32, st.integers(0, 31))
def test_divide_by_pot__is_half_away(x, exponent):
    assert rounding_divide_by_pot(x, exponent) == half_away(Fraction(x, 1 << exponent))


@given(reals)
def test_quantize_multiplier__has_31_bits_and_half_a_unit_of_error(real):
    multiplier, shift = quantize_multiplier(real)
    assert 1 << 30 <= multiplier <= INT32_MAX
    assert abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) - Fraction(real)) <= Fraction(2) ** (shift - 32)


def test_quantize_multiplier__carries_and_underflows_as_the_source_says():
    assert quantize_multiplier(1 - 2.0**-40) == (1 << 30, 1)
    assert quantize_multiplier(2.0**-32) == (1 << 30, -31)
    assert quantize_multiplier(2.0**-33) == (0, 0)
    assert quantize_multiplier((2.0**31 - 1.5) / 2**31) == (INT32_MAX, 0)  # half away from zero, upward


@given(st.floats(2.0**-30, 2.0**29, width=32))
def test_fbgemm_multiplier__is_exact(real):
    multiplier, right_shift = fbgemm_multiplier(real)
    assert 1 << 30 <= multiplier <= INT32_MAX
    assert Fraction(multiplier, 1 << right_shift) == Fraction(real)


@given(int32, multipliers, st.integers(-31, 0))
def test_multiplications__round_as_described(x, multiplier, shift):
    exact = Fraction(x * multiplier, 1 << 31)
    step = 1 << -shift
    assert multiply_double_rounding(x, multiplier, shift) == half_away(Fraction(half_up(exact), step))
    assert multiply_two_step_half_up(x, multiplier, shift) == half_up(Fraction(half_up(exact), step))
    assert multiply_single_rounding(x, multiplier, shift) == half_up(exact / step)
    assert multiply_half_up_shift(x, multiplier, 31 - shift) == half_up(exact / step)


@given(st.integers(-(1 << 20), 1 << 20), multipliers, st.integers(1, 10))
def test_multiplications__shift_left_first_where_the_multiplier_exceeds_one(x, multiplier, shift):
    exact = half_up(Fraction((x << shift) * multiplier, 1 << 31))
    assert multiply_double_rounding(x, multiplier, shift) == exact
    assert multiply_two_step_half_up(x, multiplier, shift) == exact
    assert multiply_single_rounding(x, multiplier, shift) == exact


def test_left_shift__keeps_the_low_32_bits():
    assert multiply_double_rounding(1 << 30, 1 << 30, 2) == 0
    assert multiply_two_step_half_up(1 << 29, 1 << 30, 2) == -(1 << 30)
    assert multiply_single_rounding(1 << 30, 1 << 30, 2) == 1 << 31


def test_double_and_single_rounding__differ_on_known_cases():
    # -1/2 at the last rounding: away from zero against up; at the first rounding always up
    assert multiply_double_rounding(-1, 1 << 30, 0) == 0
    assert multiply_double_rounding(-2, 1 << 30, -1) == -1
    assert multiply_two_step_half_up(-2, 1 << 30, -1) == multiply_single_rounding(-2, 1 << 30, -1) == 0
    below = ((1 << 31) - (1 << 20), -1)  # 1/2 - 2^-12: the first rounding makes a tie of it
    assert multiply_double_rounding(1, *below) == multiply_two_step_half_up(1, *below) == 1
    assert multiply_single_rounding(1, *below) == 0


@pytest.mark.parametrize("real", [0.0, -1.0, math.nan, math.inf, 2.0**30])
def test_multipliers__refuse_what_has_no_fixed_point(real):
    with pytest.raises(BadInput, match="multiplier"):
        quantize_multiplier(real)
    if real != 2.0**30:
        with pytest.raises(BadInput, match="multiplier"):
            fbgemm_multiplier(real)
    with pytest.raises(BadInput, match="right shift"):
        fbgemm_multiplier(2.0**-40)
