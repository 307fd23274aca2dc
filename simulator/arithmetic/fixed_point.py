"""Fixed-point multiplication by a positive real number: the primitives of gemmlowp, TensorFlow Lite, ruy and FBGEMM.

A positive real multiplier is held as ``multiplier * 2**(shift - 31)`` with an int32 ``multiplier`` in [2^30, 2^31).
The libraries then disagree about rounding: gemmlowp rounds twice, ties away from zero at the end; ruy on x86 rounds
twice, ties up; TensorFlow Lite built for single rounding and FBGEMM round once, ties up.

Plain Python integers, exact: the normative form that ``kernels/requantize.py`` is tested against.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from samplers.errors import BadInput

INT32_MIN = -(1 << 31)
INT32_MAX = (1 << 31) - 1


def wrap_int32(value: int) -> int:
    """The int32 with the same low 32 bits: what an int32 addition or left shift leaves in a register."""
    return (value - INT32_MIN) % (1 << 32) + INT32_MIN


def saturating_rounding_doubling_high_mul(a: int, b: int) -> int:
    """``(a b + (2^30 if a b >= 0 else 1 - 2^30)) / 2^31``, the division truncating toward zero.

    That is ``a b / 2^31`` to nearest, ties up. Only ``INT32_MIN * INT32_MIN`` saturates, to ``INT32_MAX``.
    Source: gemmlowp ``fixedpoint/fixedpoint.h``, ``SaturatingRoundingDoublingHighMul``.
    """
    if a == b == INT32_MIN:
        return INT32_MAX
    product = a * b
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    return nudged >> 31 if nudged >= 0 else -(-nudged >> 31)


def rounding_divide_by_pot(x: int, exponent: int) -> int:
    """``x / 2**exponent`` to nearest, ties away from zero, for an exponent from 0 to 31.

    ``(x >> e) + (rem > threshold)`` with ``rem = x & mask``, ``mask = 2^e - 1``, ``threshold = (mask >> 1) + (x < 0)``.
    Source: gemmlowp ``fixedpoint/fixedpoint.h``, ``RoundingDivideByPOT``.
    """
    mask = (1 << exponent) - 1
    return (x >> exponent) + int((x & mask) > (mask >> 1) + int(x < 0))


def quantize_multiplier(real: float) -> tuple[int, int]:
    """A positive real as ``(multiplier, shift)`` with ``real ~ multiplier * 2**(shift - 31)``.

    ``q, shift = frexp(real)``; ``multiplier = round_half_away(q 2^31)``; a multiplier of 2^31 is halved and the shift
    raised; a shift below -31 gives (0, 0).
    Source: TensorFlow Lite ``kernels/internal/quantization_util.cc``, ``QuantizeMultiplier``.

    Raises:
        BadInput: not positive and finite, or above 2^29 (a single rounding needs a shift of at most 30).
    """
    if not (math.isfinite(real) and 0 < real <= 2.0**29):
        raise BadInput(
            "a multiplier must lie in (0, 2^29]", got=real, fix="check the scales: x_scale * w_scale / y_scale"
        )
    fraction, shift = math.frexp(real)
    multiplier = math.floor(Fraction(fraction) * (1 << 31) + Fraction(1, 2))
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def multiply_double_rounding(x: int, multiplier: int, shift: int) -> int:
    """``RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(x << max(shift, 0), multiplier), max(-shift, 0))``.

    The left shift keeps the low 32 bits, as the compiled C does.
    Source: TensorFlow Lite ``kernels/internal/common.h``, ``MultiplyByQuantizedMultiplier``.
    """
    high = saturating_rounding_doubling_high_mul(wrap_int32(x << max(shift, 0)), multiplier)
    return rounding_divide_by_pot(high, max(-shift, 0))


def multiply_single_rounding(x: int, multiplier: int, shift: int) -> int:
    """``(x multiplier + 2^(30 - shift)) >> (31 - shift)``: to nearest, ties up, once.

    Source: TensorFlow Lite ``kernels/internal/common.h``, ``MultiplyByQuantizedMultiplier`` with
    ``TFLITE_SINGLE_ROUNDING``.
    """
    return (x * multiplier + (1 << (30 - shift))) >> (31 - shift)


def multiply_two_step_half_up(x: int, multiplier: int, shift: int) -> int:
    """``h = (x' multiplier + 2^30) >> 31``, then ``(h + 2^(r-1)) >> r`` with ``r = max(-shift, 0)``: ties up, twice.

    ``x' = x << max(shift, 0)`` keeps its low 32 bits. Source: what ruy's x86 kernels compute.
    """
    high = (wrap_int32(x << max(shift, 0)) * multiplier + (1 << 30)) >> 31
    right = max(-shift, 0)
    return (high + (1 << (right - 1))) >> right if right else high


def fbgemm_multiplier(real: float) -> tuple[int, int]:
    """A positive float32 as ``(multiplier, right_shift)`` with ``real = multiplier / 2**right_shift``, exactly.

    A float32 has 24 significant bits, so the 31 of the multiplier hold it without rounding.
    Source: FBGEMM ``src/QuantUtils.cc``, ``ChooseRequantizationMultiplier``. It keeps a real of 1 as ``2^30 / 2^30``.

    Raises:
        BadInput: not positive and finite, or a right shift outside 1..63.
    """
    if not (math.isfinite(real) and real > 0):
        raise BadInput("a multiplier must be positive and finite", got=real, fix="check the scales")
    fraction, exponent = math.frexp(np.float32(real))
    right_shift = 31 - exponent
    if not 1 <= right_shift <= 63:
        raise BadInput(
            "FBGEMM's right shift must lie in 1..63", got=right_shift, fix="use a multiplier in [2^-33, 2^30)"
        )
    return int(Fraction(fraction) * (1 << 31)), right_shift


def multiply_half_up_shift(x: int, multiplier: int, right_shift: int) -> int:
    """``(x multiplier + 2^(right_shift - 1)) >> right_shift`` in 64 bits: to nearest, ties up, once.

    Source: FBGEMM ``src/QuantUtils.cc``, ``SaturatingRoundingMulWithShift`` (which does not saturate).
    """
    return (x * multiplier + (1 << (right_shift - 1))) >> right_shift
