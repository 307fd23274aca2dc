"""Normative conversions: exact numbers to float32, float32 to integers, as processors do them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from simulator.arithmetic.fixed_point import INT32_MAX, INT32_MIN


def convert_x86(value: np.float32) -> int:
    """``cvtps2dq`` (nearest even, INT32_MIN for what does not fit), then saturated to int16."""
    code = round(float(value)) if -(2.0**31) <= np.rint(value) < 2.0**31 else INT32_MIN
    return min(max(code, -(1 << 15)), (1 << 15) - 1)


def saturate_int32(value: np.float32) -> int:
    """Nearest even, saturated to int32."""
    return round(min(max(float(value), float(INT32_MIN)), float(INT32_MAX)))


def nearest_float32(value: Fraction) -> np.float32:
    """The float32 nearest to an exact rational, ties to even; infinity beyond the largest."""
    if not value:
        return np.float32(0)
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent
    step = Fraction(2) ** max(exponent - 23, -149)
    return np.float32(float(round(value / step) * step))
