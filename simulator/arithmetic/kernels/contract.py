"""Integer contractions: gather rows, multiply tiles exactly, rescale. Formulas in ``simulator.arithmetic.contract``.

The left operand is an image of unsigned bytes ``(batch, height, width, channel)``; a matrix is an image of 1 x 1
pixels. The contraction runs over groups of input channels, and inside a group over (kernel row, kernel column,
channel). Sums are exact modulo 2**32, which is exact where the caller's certificate bounds them by 31 bits.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel
from simulator.arithmetic.kernels.copy import copy
from simulator.arithmetic.kernels.tile import COLUMNS, DEPTH, ROWS, pack, tile

CHUNK = 64  # output rows gathered at once: with K in the hundreds the block stays in the first-level cache


@kernel
def gather_row(image, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, starts, first_step, row, into, position):
    """Copy the receptive field of output pixel ``row`` into ``into`` from byte ``position``, group by group.

    A group's bytes start at its first tile step; bytes up to the next multiple of 4 stay as they are (zero weights
    meet them).
    """
    b, pixel = divmod(row, out_h * out_w)
    y, x = divmod(pixel, out_w)
    height, width, channels = image.shape[1], image.shape[2], image.shape[3]
    corner = ((b * height + y * stride_h) * width + x * stride_w) * channels
    if starts.size == 2:  # one group: a kernel row's pixels are adjacent
        run = kernel_w * channels
        for i in range(kernel_h):
            copy(into, position + i * run, image, corner + i * width * channels, run)
        return
    for g in range(starts.size - 1):
        run = starts[g + 1] - starts[g]
        into_group = position + DEPTH * first_step[g]
        for i in range(kernel_h):
            for j in range(kernel_w):
                source = corner + (i * width + j) * channels + starts[g]
                copy(into, into_group, image, source, run)
                into_group += run


@kernel
def row_sum(array, first, count):
    """Sum of ``count`` bytes from byte ``first`` of a C-contiguous array."""
    flat = array.reshape(-1)[first : first + count]
    total = np.int32(0)
    for k in range(count):
        total = np.int32(total + np.int32(flat[k]))
    return total


@kernel
def rescale(acc, rows, columns, left_zero, column_sum, row_sums, column_zero, depth, scale, add, out):
    """One tile: subtract the zero points' share in integers, then ``f32(acc) * scale``, stored or added to ``out``.

    ``sum (a-za)(b-zb) = sum ab - za sum b - zb sum a + K za zb``; int32 arithmetic modulo 2**32 throughout.
    """
    for r in range(rows):
        sums, target, from_row = acc[r], out[r], np.int32(row_sums[r] - np.int32(depth * left_zero))
        if add:
            for n in range(columns):
                exact = np.int32(sums[n] - np.int32(left_zero * column_sum[n]) - np.int32(from_row * column_zero[n]))
                target[n] += np.float32(exact) * scale[n]
        else:
            for n in range(columns):
                exact = np.int32(sums[n] - np.int32(left_zero * column_sum[n]) - np.int32(from_row * column_zero[n]))
                target[n] = np.float32(exact) * scale[n]


@kernel
def contract_rows(
    begin, end, image, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, starts, steps, first_step, depths,
    packed, left_zero, column_sum, column_zero, any_zero, scale, bias, out,
):  # fmt: skip
    """Output rows ``begin`` to ``end`` (at most CHUNK) of :func:`contract_float32`."""
    columns = out.shape[1]
    groups = starts.size - 1
    row_bytes = DEPTH * (first_step[groups - 1] + steps[groups - 1])
    channels = image.shape[3]
    in_place = kernel_h * kernel_w == 1 and stride_h * stride_w == 1 and groups == 1 and channels % DEPTH == 0
    gathered = not in_place or end - begin < CHUNK
    block = image
    if gathered:
        block = np.empty((1, 1, CHUNK, row_bytes), np.uint8)  # rows past the end are multiplied but never stored
        for row in range(begin, end):
            gather_row(
                image, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, starts, first_step, row, block,
                (row - begin) * row_bytes,
            )  # fmt: skip
    acc = np.empty((ROWS, COLUMNS), np.int32)
    row_sums = np.zeros(ROWS, np.int32)
    for top in range(begin, end, ROWS):
        rows = min(ROWS, end - top)
        first_byte = ((top - begin) if gathered else top) * row_bytes
        for g in range(groups):
            start = first_byte + DEPTH * first_step[g]
            for r in range(rows):
                # without weight zero points a sum that makes the row correction vanish
                row_sums[r] = row_sum(block, start + r * row_bytes, depths[g]) if any_zero else depths[g] * left_zero
            for n in range(0, columns, COLUMNS):
                width = min(COLUMNS, columns - n)
                tile(block, start, row_bytes, packed, n // COLUMNS, first_step[g], steps[g], acc)
                part = slice(n, n + width)
                rescale(
                    acc, rows, width, left_zero, column_sum[g, part], row_sums, column_zero[g, part], depths[g],
                    scale[g, part], g > 0, out[top : top + rows, part],
                )  # fmt: skip
        for r in range(top, top + rows):
            target = out[r]
            for n in range(columns):
                target[n] += bias[n]


@parallel_kernel
def contract_float32(
    image, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, starts, steps, first_step, depths,
    packed, left_zero, column_sum, column_zero, any_zero, scale, bias, out,
):  # fmt: skip
    """Image (or matrix) times prepared weight, float32 out, one row per output pixel.

    Per group g in order: ``y = f32(acc_g) * scale[g]``, later groups added in float32; then ``+ bias``.
    """
    total = out.shape[0]
    for chunk in prange((total + CHUNK - 1) // CHUNK):
        contract_rows(
            chunk * CHUNK, min((chunk + 1) * CHUNK, total), image, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w,
            starts, steps, first_step, depths, packed, left_zero, column_sum, column_zero, any_zero, scale, bias, out,
        )  # fmt: skip


@kernel
def multiply_one(left, right, left_zero, right_zero, packed, steps, scales, zeros, out):
    """One batch of :func:`batched_float32`; ``packed`` is scratch of the packed shape."""
    rows_total, depth = left.shape
    columns = right.shape[0]
    pack(right, packed)
    sums = np.empty(columns, np.int32)
    for n in range(columns):
        sums[n] = row_sum(right, n * depth, depth)
    block = np.zeros((ROWS, DEPTH * steps), np.uint8)
    acc = np.empty((ROWS, COLUMNS), np.int32)
    row_sums = np.zeros(ROWS, np.int32)
    for top in range(0, rows_total, ROWS):
        rows = min(ROWS, rows_total - top)
        for r in range(rows):
            copy(block, r * DEPTH * steps, left, (top + r) * depth, depth)
            row_sums[r] = row_sum(left, (top + r) * depth, depth)
        for n in range(0, columns, COLUMNS):
            width = min(COLUMNS, columns - n)
            tile(block, 0, DEPTH * steps, packed, n // COLUMNS, 0, steps, acc)
            rescale(
                acc, rows, width, left_zero, sums[n : n + width], row_sums, zeros, depth, scales, False,
                out[top : top + rows, n : n + width],
            )  # fmt: skip


@parallel_kernel
def batched_float32(left, right, left_zero, right_zero, like_packed, steps, scale, out):
    """``out[b] = f32(sum_k (left[b,m,k]-za)(right[b,n,k]-zb)) * scale`` for every batch b; both operands bytes."""
    scales = np.full(COLUMNS, scale, np.float32)
    zeros = np.full(COLUMNS, right_zero, np.int32)
    for b in prange(left.shape[0]):
        packed = np.empty_like(like_packed)
        multiply_one(left[b], right[b], left_zero, right_zero, packed, steps, scales, zeros, out[b])
