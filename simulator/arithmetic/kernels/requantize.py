"""Integer sums to output codes: one loop per formula of ``simulator.arithmetic.requantize``, on checked input.

Every loop takes int32 ``acc`` (rows, channels) and one constant per channel, writes clipped codes to ``out`` and
returns how many were clipped. Float operations round to float32 (or float64 where said) one by one.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel

TWO_TO_31 = np.float32(2.0**31)
# beyond these every format of 8 bits saturates, and int32 could overflow once the zero point is added
LIMIT = np.float32(2.0**24)
LIMIT_64 = np.float64(2.0**24)
HALF_64 = np.float64(0.5)
ONE_64 = np.float64(1.0)
INT32_MIN = np.int64(-(2**31))
INT32_MAX = np.int64(2**31 - 1)
INT16_MIN = np.int64(-(2**15))
INT16_MAX = np.int64(2**15 - 1)
LOW_32_BITS = np.int64(2**32 - 1)
BIT_30 = np.int64(1 << 30)
ONE = np.int64(1)


@kernel
def wrap_int32(value):
    """Low 32 bits of an int64 as a signed number."""
    return ((value - INT32_MIN) & LOW_32_BITS) + INT32_MIN


@kernel
def convert_x86(value):
    """``cvtps2dq``: nearest even; what does not fit int32 becomes INT32_MIN. Then saturated to int16, as in packing."""
    rounded = np.rint(value)
    code = np.int64(np.int32(rounded)) if -TWO_TO_31 <= rounded < TWO_TO_31 else INT32_MIN
    return min(max(code, INT16_MIN), INT16_MAX)


@kernel
def convert_saturating(value):
    """Nearest even, saturated."""
    return np.int64(np.int32(np.rint(min(max(value, -LIMIT), LIMIT))))


@kernel
def put(out, i, j, code, qmin, qmax):
    """Store one clipped code; 1 if that changed it, else 0."""
    inside = min(max(code, qmin), qmax)
    out[i, j] = inside
    return np.int64(inside != code)


@parallel_kernel
def float_bias_in_accumulator(acc, bias, multiplier, zero, qmin, qmax, out):
    """``rint(f32(f32(acc) + bias) * multiplier) + zero``: FBGEMM."""
    saturated = np.int64(0)
    for i in prange(acc.shape[0]):
        for j in range(acc.shape[1]):
            total = np.float32(np.float32(acc[i, j]) + bias[j])
            saturated += put(out, i, j, convert_x86(np.float32(total * multiplier[j])) + zero, qmin, qmax)
    return saturated


@parallel_kernel
def integer_bias_packed(acc, bias, multiplier, zero, qmin, qmax, out):
    """``rint(f32(acc + bias) * multiplier) + zero``, conversion and packing of x86: QNNPACK."""
    saturated = np.int64(0)
    for i in prange(acc.shape[0]):
        for j in range(acc.shape[1]):
            total = np.float32(wrap_int32(np.int64(acc[i, j]) + np.int64(bias[j])))
            saturated += put(out, i, j, convert_x86(np.float32(total * multiplier[j])) + zero, qmin, qmax)
    return saturated


@parallel_kernel
def integer_bias_saturating(acc, bias, multiplier, zero, qmin, qmax, out):
    """``rint(f32(acc + bias) * multiplier) + zero``, clamped before it is converted: ONNX Runtime, XNNPACK."""
    saturated = np.int64(0)
    for i in prange(acc.shape[0]):
        for j in range(acc.shape[1]):
            total = np.float32(wrap_int32(np.int64(acc[i, j]) + np.int64(bias[j])))
            saturated += put(out, i, j, convert_saturating(np.float32(total * multiplier[j])) + zero, qmin, qmax)
    return saturated


@parallel_kernel
def zero_point_before_rounding(acc, scale, bias, inverse, zero, qmin, qmax, out):
    """``rint(f32(f32(f32(f32(acc) * scale) + bias) * inverse) + zero)``, all float32: oneDNN."""
    saturated = np.int64(0)
    shift = np.float32(zero)
    for i in prange(acc.shape[0]):
        for j in range(acc.shape[1]):
            real = np.float32(np.float32(np.float32(acc[i, j]) * scale[j]) + bias[j])
            total = np.float32(np.float32(real * inverse) + shift)
            saturated += put(out, i, j, convert_saturating(total), qmin, qmax)
    return saturated


@parallel_kernel
def double_half_away(acc, bias, scale, zero, qmin, qmax, out):
    """``round_half_away(f64(acc + bias) * scale) + zero`` in float64: fully connected of TensorFlow Lite."""
    saturated = np.int64(0)
    for i in prange(acc.shape[0]):
        for j in range(acc.shape[1]):
            value = np.float64(wrap_int32(np.int64(acc[i, j]) + np.int64(bias[j]))) * scale[j]
            value = min(max(value, -LIMIT_64), LIMIT_64)
            whole = np.trunc(value)
            nearest = whole + np.copysign(ONE_64, value) if np.abs(value - whole) >= HALF_64 else whole
            saturated += put(out, i, j, np.int64(nearest) + zero, qmin, qmax)
    return saturated


@kernel
def double_rounding(x, multiplier, shift):
    """gemmlowp: ties up at 31 bits, then ties away from zero. A multiplier is positive, so nothing saturates."""
    left, right = max(shift, np.int64(0)), max(-shift, np.int64(0))
    product = wrap_int32(x << left) * multiplier
    nudged = product + (BIT_30 if product >= 0 else ONE - BIT_30)
    high = nudged >> np.int64(31) if nudged >= 0 else -(-nudged >> np.int64(31))
    mask = (ONE << right) - ONE
    return (high >> right) + np.int64((high & mask) > (mask >> ONE) + np.int64(high < 0))


@kernel
def two_step_half_up(x, multiplier, shift):
    """Ruy on x86: ties up at 31 bits, then ties up."""
    left, right = max(shift, np.int64(0)), max(-shift, np.int64(0))
    high = (wrap_int32(x << left) * multiplier + BIT_30) >> np.int64(31)
    return (high + ((ONE << right) >> ONE)) >> right


@parallel_kernel
def fixed_point_double(acc, bias, multiplier, shift, zero, qmin, qmax, out):
    """gemmlowp's double rounding: convolution of TensorFlow Lite."""
    saturated = np.int64(0)
    for i in prange(acc.shape[0]):
        for j in range(acc.shape[1]):
            total = wrap_int32(np.int64(acc[i, j]) + np.int64(bias[j]))
            saturated += put(out, i, j, double_rounding(total, multiplier[j], shift[j]) + zero, qmin, qmax)
    return saturated


@parallel_kernel
def fixed_point_two_step(acc, bias, multiplier, shift, zero, qmin, qmax, out):
    """Two half-up roundings: ruy on x86."""
    saturated = np.int64(0)
    for i in prange(acc.shape[0]):
        for j in range(acc.shape[1]):
            total = wrap_int32(np.int64(acc[i, j]) + np.int64(bias[j]))
            saturated += put(out, i, j, two_step_half_up(total, multiplier[j], shift[j]) + zero, qmin, qmax)
    return saturated


@parallel_kernel
def fixed_point_once(acc, bias, multiplier, right_shift, zero, qmin, qmax, out):
    """``((acc + bias) * multiplier + 2^(r-1)) >> r``: single rounding of TensorFlow Lite, and FBGEMM."""
    saturated = np.int64(0)
    for i in prange(acc.shape[0]):
        for j in range(acc.shape[1]):
            total = wrap_int32(np.int64(acc[i, j]) + np.int64(bias[j]))
            code = (total * multiplier[j] + (ONE << (right_shift[j] - ONE))) >> right_shift[j]
            saturated += put(out, i, j, code + zero, qmin, qmax)
    return saturated


@kernel
def fused_multiply_add(a, b, c):
    """``a b + c`` of float32 numbers rounded once.

    The product is exact in float64. The sum is rounded to odd there (the neighbour with an odd last bit, unless exact),
    after which rounding to float32 equals one rounding of the exact value: float64 has 53 >= 2 * 24 + 2 bits.
    """
    product, addend = np.float64(a) * np.float64(b), np.float64(c)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    odd = (np.float64(total).view(np.int64) & ONE) == ONE
    if error != 0 and not odd:
        total = np.nextafter(total, np.copysign(np.float64(np.inf), error))
    return np.float32(total)


@parallel_kernel
def linear_combination(acc, alpha, addend, qmin, qmax, out):
    """``rint(fma(alpha, f32(acc), addend))``: CUTLASS."""
    saturated = np.int64(0)
    for i in prange(acc.shape[0]):
        for j in range(acc.shape[1]):
            total = fused_multiply_add(alpha[j], np.float32(acc[i, j]), addend[j])
            saturated += put(out, i, j, convert_saturating(total), qmin, qmax)
    return saturated
