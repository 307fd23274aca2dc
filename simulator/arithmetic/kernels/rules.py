"""Float32 to integer codes by any rule of ``simulator.arithmetic.rules``; validation is the caller's."""

from __future__ import annotations

import numpy as np

from simulator.arithmetic.kernels.accelerate import kernel
from simulator.arithmetic.kernels.quantize import LIMIT
from simulator.arithmetic.kernels.requantize import INT32_MIN, fused_multiply_add, wrap_int32
from simulator.arithmetic.kernels.rounding import ONE, round_float32

# values of the enums ZeroPoint, Conversion and Special
AFTER, BEFORE, FUSED = range(3)
SATURATE, INT64, INT32 = range(3)
QMIN, QMAX, ZERO, BY_ZERO_POINT = range(4)

TWO_TO_31 = np.float32(2.0**31)
TWO_TO_63 = np.float32(2.0**63)


@kernel
def real_number(x, scale, zero_point, divides, placement):
    """The float32 that the rule rounds to an integer."""
    inverse = ONE / scale
    if placement == FUSED:
        return fused_multiply_add(x, inverse, np.float32(zero_point))
    quotient = np.float32(x / scale) if divides else np.float32(x * inverse)
    return np.float32(quotient + np.float32(zero_point)) if placement == BEFORE else quotient


@kernel
def quantize_by_rule(x, scale, zero_point, qmin, qmax, divides, placement, conversion, nan, rounding, seed, out):
    """Every element has its own scale and zero point (flat arrays of one length). Returns the clipped count."""
    clipped = 0
    if nan == QMIN:
        nan_code = qmin
    elif nan == QMAX:
        nan_code = qmax
    else:
        nan_code = 0
    for i in range(x.size):
        real = real_number(x[i], scale[i], zero_point[i], divides, placement)
        number = round_float32(real, rounding, seed, np.uint64(i))
        zero = np.int64(zero_point[i]) if placement == AFTER else np.int64(0)
        if conversion == INT32:
            # written so that NaN fails the comparison
            code = np.int64(number) if -TWO_TO_31 <= number < TWO_TO_31 else INT32_MIN
            code = wrap_int32(code + zero)
        elif np.isnan(number):
            clipped += 1
            out[i] = nan_code
            continue
        elif conversion == INT64 and not -TWO_TO_63 <= number < TWO_TO_63:
            code = np.int64(qmin) - 1
        else:
            code = np.int64(min(max(number, -LIMIT), LIMIT)) + zero
        clipped += code < qmin or code > qmax
        out[i] = min(max(code, np.int64(qmin)), np.int64(qmax))
    return clipped
