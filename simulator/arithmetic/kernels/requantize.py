"""Integer sums to output codes: one loop per formula of ``simulator.arithmetic.requantize``, on checked input.

Every loop takes int32 ``acc`` (rows, channels) and one constant per channel, writes clipped codes to ``out`` and
returns how many were clipped. Float operations round to float32 (or float64 where said) one by one. The loop over a
row holds int32 and float32 alone where the formula does, its count included: that is what lets LLVM vectorise it with
full registers.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel

TWO_TO_31 = np.float32(2.0**31)
# beyond these every format of 16 bits saturates, and int32 holds them with a zero point added
LIMIT = np.float32(2.0**24)
LIMIT_64 = np.float64(2.0**24)
LIMIT_INT = np.int64(2**24)
HALF_64 = np.float64(0.5)
ONE_64 = np.float64(1.0)
INT16_MIN = np.int32(-(2**15))
INT16_RANGE = np.float32(-(2.0**15)), np.float32(2.0**15 - 1)
INT32_MIN = np.int64(-(2**31))
LOW_32_BITS = np.int64(2**32 - 1)
BIT_30 = np.int64(1 << 30)
ONE = np.int64(1)
ZERO = np.int64(0)
NO_SHIFT = np.int32(0)


@kernel
def wrap_int32(value):
    """Low 32 bits of an int64 as a signed number."""
    return ((value - INT32_MIN) & LOW_32_BITS) + INT32_MIN


@kernel
def add(acc, bias):
    """``acc + bias`` in an int32 register."""
    return np.int32(wrap_int32(np.int64(acc) + np.int64(bias)))


@kernel
def convert_x86(value):
    """``cvtps2dq``: nearest even; what does not fit int32 becomes INT32_MIN. Then saturated to int16, as in packing."""
    rounded = np.rint(value)
    code = np.int32(min(max(rounded, INT16_RANGE[0]), INT16_RANGE[1]))
    return code if rounded < TWO_TO_31 else INT16_MIN


@kernel
def convert_saturating(value):
    """Nearest even, saturated."""
    return np.int32(np.rint(min(max(value, -LIMIT), LIMIT)))


@kernel
def narrow(code):
    """An int64 as int32; beyond the limits only that it saturates is kept."""
    return np.int32(min(max(code, -LIMIT_INT), LIMIT_INT))


@kernel
def put(out, i, j, code, zero, qmin, qmax):
    """Store one clipped code, all int32; 1 if clipping changed it, else 0."""
    code = np.int32(code + zero)
    inside = min(max(code, qmin), qmax)
    out[i, j] = inside
    return np.int32(inside != code)


@parallel_kernel
def float_bias_in_accumulator(acc, bias, multiplier, zero, qmin, qmax, out):
    """``rint(f32(f32(acc) + bias) * multiplier) + zero``: FBGEMM."""
    saturated, zero, qmin, qmax = ZERO, np.int32(zero), np.int32(qmin), np.int32(qmax)
    for i in prange(acc.shape[0]):
        count = np.int32(0)
        for j in range(acc.shape[1]):
            total = np.float32(np.float32(acc[i, j]) + bias[j])
            code = convert_x86(np.float32(total * multiplier[j]))
            count = np.int32(count + put(out, i, j, code, zero, qmin, qmax))
        saturated += np.int64(count)
    return saturated


@parallel_kernel
def integer_bias_packed(acc, bias, multiplier, zero, qmin, qmax, out):
    """``rint(f32(acc + bias) * multiplier) + zero``, conversion and packing of x86: QNNPACK."""
    saturated, zero, qmin, qmax = ZERO, np.int32(zero), np.int32(qmin), np.int32(qmax)
    for i in prange(acc.shape[0]):
        count = np.int32(0)
        for j in range(acc.shape[1]):
            total = np.float32(add(acc[i, j], bias[j]))
            code = convert_x86(np.float32(total * multiplier[j]))
            count = np.int32(count + put(out, i, j, code, zero, qmin, qmax))
        saturated += np.int64(count)
    return saturated


@parallel_kernel
def integer_bias_saturating(acc, bias, multiplier, zero, qmin, qmax, out):
    """``rint(f32(acc + bias) * multiplier) + zero``, clamped before it is converted: ONNX Runtime, XNNPACK."""
    saturated, zero, qmin, qmax = ZERO, np.int32(zero), np.int32(qmin), np.int32(qmax)
    for i in prange(acc.shape[0]):
        count = np.int32(0)
        for j in range(acc.shape[1]):
            total = np.float32(add(acc[i, j], bias[j]))
            code = convert_saturating(np.float32(total * multiplier[j]))
            count = np.int32(count + put(out, i, j, code, zero, qmin, qmax))
        saturated += np.int64(count)
    return saturated


@parallel_kernel
def zero_point_before_rounding(acc, x_scale, w_scale, bias, inverse, zero, qmin, qmax, out):
    """``rint(f32(f32(f32(f32(f32(acc) * x_scale) * w_scale) + bias) * inverse) + zero)``, all float32: oneDNN."""
    saturated, zero, qmin, qmax = ZERO, np.int32(zero), np.int32(qmin), np.int32(qmax)
    shift = np.float32(zero)
    for i in prange(acc.shape[0]):
        count = np.int32(0)
        for j in range(acc.shape[1]):
            product = np.float32(np.float32(np.float32(acc[i, j]) * x_scale) * w_scale[j])
            real = np.float32(product + bias[j])
            code = convert_saturating(np.float32(np.float32(real * inverse) + shift))
            count = np.int32(count + put(out, i, j, code, NO_SHIFT, qmin, qmax))
        saturated += np.int64(count)
    return saturated


@parallel_kernel
def double_half_away(acc, bias, scale, zero, qmin, qmax, out):
    """``round_half_away(f64(acc + bias) * scale) + zero`` in float64: fully connected of TensorFlow Lite."""
    saturated, zero, qmin, qmax = ZERO, np.int32(zero), np.int32(qmin), np.int32(qmax)
    for i in prange(acc.shape[0]):
        count = np.int32(0)
        for j in range(acc.shape[1]):
            value = np.float64(add(acc[i, j], bias[j])) * scale[j]
            value = min(max(value, -LIMIT_64), LIMIT_64)
            whole = np.trunc(value)
            nearest = whole + np.copysign(ONE_64, value) if np.abs(value - whole) >= HALF_64 else whole
            code = np.int32(nearest)
            count = np.int32(count + put(out, i, j, code, zero, qmin, qmax))
        saturated += np.int64(count)
    return saturated


@kernel
def multiply(total, multiplier):
    """Product in 64 bits of two numbers that fit 32: cast so that LLVM sees it and need not multiply 64 by 64 bits."""
    return np.int64(np.int32(total)) * np.int64(np.int32(multiplier))


@kernel
def high_half(x, multiplier, shift):
    """``x << max(shift, 0)`` in an int32 register, times ``multiplier / 2^31``, ties up.

    gemmlowp's ``SaturatingRoundingDoublingHighMul`` is this too: for a negative product it truncates
    ``(ab + 1 - 2^30) / 2^31`` toward zero, which is the floor of ``(ab + 2^30) / 2^31``; a positive multiplier never
    saturates.
    """
    return (multiply(wrap_int32(np.int64(x) << max(shift, ZERO)), multiplier) + BIT_30) >> np.int64(31)


@kernel
def double_rounding(x, multiplier, shift):
    """gemmlowp: ties up at 31 bits, then ties away from zero."""
    high, right = high_half(x, multiplier, shift), max(-shift, ZERO)
    mask = (ONE << right) - ONE
    return (high >> right) + np.int64((high & mask) > (mask >> ONE) + np.int64(high < ZERO))


@kernel
def two_step_half_up(x, multiplier, shift):
    """Ruy on x86: ties up at 31 bits, then ties up."""
    high, right = high_half(x, multiplier, shift), max(-shift, ZERO)
    return (high + ((ONE << right) >> ONE)) >> right


@parallel_kernel
def fixed_point_double(acc, bias, multiplier, shift, zero, qmin, qmax, out):
    """gemmlowp's double rounding: convolution of TensorFlow Lite."""
    saturated, zero, qmin, qmax = ZERO, np.int32(zero), np.int32(qmin), np.int32(qmax)
    for i in prange(acc.shape[0]):
        count = np.int32(0)
        for j in range(acc.shape[1]):
            total = add(acc[i, j], bias[j])
            code = narrow(double_rounding(total, multiplier[j], shift[j]))
            count = np.int32(count + put(out, i, j, code, zero, qmin, qmax))
        saturated += np.int64(count)
    return saturated


@parallel_kernel
def fixed_point_two_step(acc, bias, multiplier, shift, zero, qmin, qmax, out):
    """Two half-up roundings: ruy on x86."""
    saturated, zero, qmin, qmax = ZERO, np.int32(zero), np.int32(qmin), np.int32(qmax)
    for i in prange(acc.shape[0]):
        count = np.int32(0)
        for j in range(acc.shape[1]):
            total = add(acc[i, j], bias[j])
            code = narrow(two_step_half_up(total, multiplier[j], shift[j]))
            count = np.int32(count + put(out, i, j, code, zero, qmin, qmax))
        saturated += np.int64(count)
    return saturated


@parallel_kernel
def fixed_point_once(acc, bias, multiplier, right_shift, zero, qmin, qmax, out):
    """``((acc + bias) * multiplier + 2^(r-1)) >> r``: single rounding of TensorFlow Lite, and FBGEMM."""
    saturated, zero, qmin, qmax = ZERO, np.int32(zero), np.int32(qmin), np.int32(qmax)
    for i in prange(acc.shape[0]):
        count = np.int32(0)
        for j in range(acc.shape[1]):
            total = add(acc[i, j], bias[j])
            rounded = multiply(total, multiplier[j]) + (ONE << (right_shift[j] - ONE))
            code = narrow(rounded >> right_shift[j])
            count = np.int32(count + put(out, i, j, code, zero, qmin, qmax))
        saturated += np.int64(count)
    return saturated


@kernel
def fused_multiply_add(a, b, c):
    """``a b + c`` of float32 numbers rounded once.

    The product is exact in float64. The sum is rounded to odd there (the neighbour with an odd last bit, unless exact),
    after which rounding to float32 equals one rounding of the exact value: float64 has 53 >= 2 * 24 + 2 bits. The
    neighbour is one bit pattern up where sum and error have the same sign, else one down; a sum of 0 is exact.
    """
    product, addend = np.float64(a) * np.float64(b), np.float64(c)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    pattern = np.float64(total).view(np.int64)
    even = np.int64((pattern & ONE) == ZERO)
    step = np.int64(np.abs(error) > 0) * even  # an infinite sum has no error but NaN
    outward = np.int64((error > 0) == (total > 0))
    return np.float32(np.int64(pattern + step * (outward + outward - ONE)).view(np.float64))


@parallel_kernel
def linear_combination(acc, alpha, addend, qmin, qmax, out):
    """``rint(fma(alpha, f32(acc), addend))``: CUTLASS."""
    saturated, qmin, qmax = ZERO, np.int32(qmin), np.int32(qmax)
    for i in prange(acc.shape[0]):
        count = np.int32(0)
        for j in range(acc.shape[1]):
            code = convert_saturating(fused_multiply_add(alpha[j], np.float32(acc[i, j]), addend[j]))
            count = np.int32(count + put(out, i, j, code, NO_SHIFT, qmin, qmax))
        saturated += np.int64(count)
    return saturated
