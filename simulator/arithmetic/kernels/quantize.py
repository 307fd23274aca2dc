"""Float32 to integer codes. Formula in ``simulator.arithmetic.quantizer``; validation is the caller's."""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel
from simulator.arithmetic.kernels.rounding import HALF_EVEN, round_float32

# beyond this a float32 quotient is clipped anyway, and the conversion to int32 would overflow
LIMIT = np.float32(2.0**24)


@kernel
def code(x, scale, zero_point, rounding, seed, index):
    """One element: the code before clipping, limited so that it fits an int32. NaN gives a code below ``qmin``."""
    rounded = round_float32(x / scale, rounding, seed, index)
    # written so that NaN fails the first comparison
    limited = rounded if rounded >= -LIMIT else -LIMIT
    limited = limited if limited <= LIMIT else LIMIT
    return np.int32(limited) + np.int32(zero_point)


@kernel
def quantize_elementwise(x, scale, zero_point, qmin, qmax, rounding, seed, out):
    """Every element has its own scale and zero point (flat arrays of one length). Returns the clipped count."""
    clipped = 0
    for i in range(x.size):
        q = code(x[i], scale[i], zero_point[i], rounding, seed, np.uint64(i))
        clipped += q < qmin or q > qmax
        out[i] = min(max(q, qmin), qmax)
    return clipped


@kernel
def quantize_row(x, scale, zero_point, qmin, qmax, offset, rounding, seed, first, out):
    """One contiguous run with one scale, as bytes ``code + offset`` modulo 256. Returns the clipped count.

    ``offset`` moves codes to the bytes that the matmul kernels take; ``first`` is the run's index in the whole tensor.
    """
    clipped = np.int32(0)
    low, high, shift = np.int32(qmin), np.int32(qmax), np.int32(offset)
    zero = np.int32(zero_point)
    if rounding == HALF_EVEN:  # apart, so that the compiler makes vector instructions of it
        for i in range(x.size):
            quotient = np.rint(x[i] / scale)
            limited = quotient if quotient >= -LIMIT else -LIMIT
            limited = limited if limited <= LIMIT else LIMIT
            q = np.int32(np.int32(limited) + zero)
            inside = min(max(q, low), high)
            clipped = np.int32(clipped + np.int32(inside != q))
            out[i] = np.uint8(np.int32(inside + shift))
    else:
        for i in range(x.size):
            q = np.int32(code(x[i], scale, zero, rounding, seed, np.uint64(first + i)))
            inside = min(max(q, low), high)
            clipped = np.int32(clipped + np.int32(inside != q))
            out[i] = np.uint8(np.int32(inside + shift))
    return clipped


@parallel_kernel
def quantize_rows(x, scale, zero_point, qmin, qmax, offset, rounding, seed, out):
    """Quantize a 2-D array with one scale for all into bytes. Returns the clipped count."""
    clipped = 0
    for i in prange(x.shape[0]):
        first = i * x.shape[1]
        clipped += quantize_row(x[i], scale, zero_point, qmin, qmax, offset, rounding, seed, first, out[i])
    return clipped


@kernel
def quantize_slab(x, z, first, scale, zero_point, qmin, qmax, offset, rounding, seed, pads, out):
    """One padded (height, width, channel) image of bytes from row ``z`` of ``x`` (depth, height, width, channel).

    ``first`` is the index of ``x[0, 0, 0, 0]`` in the whole tensor. Returns the clipped count.
    """
    depth, height, width, channels = x.shape
    fill = np.uint8(zero_point + offset)
    left, clipped = pads[2, 0], 0
    for row in range(out.shape[0]):
        y = row - pads[1, 0]
        if z < 0 or z >= depth or y < 0 or y >= height:
            out[row] = fill
        else:
            out[row, :left] = fill
            out[row, left + width :] = fill
            clipped += quantize_row(
                x[z, y].reshape(-1), scale, zero_point, qmin, qmax, offset, rounding, seed,
                first + (z * height + y) * width * channels, out[row, left : left + width].reshape(-1),
            )  # fmt: skip
    return clipped


@parallel_kernel
def quantize_image(x, scale, zero_point, qmin, qmax, offset, rounding, seed, pads, out):
    """Quantize (batch, depth, height, width, channel) into a padded byte image; padding holds the zero point's byte.

    ``pads`` (3, 2): elements before and after along each spatial axis. Returns the clipped count.
    """
    slabs, size = out.shape[1], x.shape[1] * x.shape[2] * x.shape[3] * x.shape[4]
    clipped = 0
    for task in prange(len(x) * slabs):
        b = task // slabs
        z = task - b * slabs
        clipped += quantize_slab(
            x[b], z - pads[0, 0], b * size, scale, zero_point, qmin, qmax, offset, rounding, seed, pads, out[b, z]
        )
    return clipped
