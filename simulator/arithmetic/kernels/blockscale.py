"""Float32 bit patterns to codes of small formats, alone or in blocks with a shared power of two.

Integers only, so that no float operation can round twice. Rules in ``simulator.arithmetic.float_formats`` and
``simulator.arithmetic.blockscale``; validation is the caller's. A format is the tuple (mantissa bits, smallest normal
exponent, offset of codes, largest code, overflow code, NaN code, bits, how negative values are written).
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel

SIGN_BIT, TWOS_COMPLEMENT, NEGATIVE_IS_NAN = 0, 1, 2
INFINITY = 0x7F800000
MANTISSA = 0x7FFFFF
IMPLIED = 0x800000
# a 24-bit significand moved right by this much is below one half
FAR = 26


@kernel
def normalize(pattern):
    """Significand in [2**23, 2**24) and exponent of a finite positive float32; subnormals are shifted up."""
    significand = pattern & MANTISSA
    exponent = (pattern >> 23) - 127
    if exponent > -127:
        return significand | IMPLIED, exponent
    exponent = -126
    while significand < IMPLIED:
        significand <<= 1
        exponent -= 1
    return significand, exponent


@kernel
def encode_one(pattern, shift, format, half_even):
    """Code of the float32 ``pattern`` divided by ``2**shift``, and whether its magnitude went beyond the largest."""
    mantissa_bits, emin, offset, largest, overflow, nan, bits, negative_as = format
    magnitude = np.int64(pattern) & 0x7FFFFFFF
    negative = pattern < 0
    if magnitude > INFINITY or (negative and negative_as == NEGATIVE_IS_NAN and magnitude > 0):
        return nan, False
    code = np.int64(0)
    beyond = magnitude == INFINITY
    if beyond:
        code = np.int64(overflow)
    elif magnitude > 0:
        significand, exponent = normalize(magnitude)
        exponent -= shift
        binade = max(exponent, emin)
        drop = min(binade - exponent + 23 - mantissa_bits, FAR)
        count = significand >> drop
        rest = significand - (count << drop)
        half = np.int64(1) << (drop - 1)
        if rest > half or (rest == half and (not half_even or count & 1 == 1)):
            count += 1
        code = max(((binade - emin) << mantissa_bits) + count - offset, np.int64(0))
        beyond = code > largest
        if beyond:
            code = np.int64(overflow)
    if negative and negative_as == SIGN_BIT:
        code |= np.int64(1) << (bits - 1)
    elif negative and negative_as == TWOS_COMPLEMENT:
        code = -code & ((np.int64(1) << bits) - 1)
    return code, beyond


@kernel
def encode_elementwise(patterns, format, half_even, out):
    """Encode a flat int32 view of float32 values. Returns how many went beyond the largest value."""
    beyond = 0
    for i in range(patterns.size):
        code, over = encode_one(patterns[i], np.int64(0), format, half_even)
        out[i] = code
        beyond += over
    return beyond


@kernel
def shared_exponent(amax, emax, carry):
    """Clamped exponent of a block whose largest magnitude has the finite positive pattern ``amax``."""
    significand, exponent = normalize(amax)
    exponent += (significand & MANTISSA) >= carry
    return min(max(exponent - emax, -127), 127)


@parallel_kernel
def encode_blocks(patterns, size, format, emax, carry, half_even, codes, scales):
    """Blocks of ``size`` along the rows of a 2-D int32 view; the last of a row may be shorter.

    Writes element codes and E8M0 scale codes. Returns how many elements went beyond the largest value.
    """
    beyond = 0
    rows, length = patterns.shape
    for row in prange(rows):
        for block in range(scales.shape[1]):
            start = block * size
            stop = min(start + size, length)
            amax = np.int64(0)
            for i in range(start, stop):
                amax = max(amax, np.int64(patterns[row, i]) & 0x7FFFFFFF)
            if amax >= INFINITY:
                scales[row, block] = 255
                codes[row, start:stop] = 0
                continue
            exponent = np.int64(-127)
            if amax > 0:
                exponent = shared_exponent(amax, emax, carry)
            scales[row, block] = exponent + 127
            for i in range(start, stop):
                code, over = encode_one(patterns[row, i], exponent, format, half_even)
                codes[row, i] = code
                beyond += over
    return beyond
