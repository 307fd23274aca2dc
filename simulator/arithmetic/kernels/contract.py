"""Integer contractions: gather rows, multiply tiles exactly, rescale. Formulas in ``simulator.arithmetic.contract``.

The left operand is an image of unsigned bytes ``(batch, depth, height, width, channel)``; a matrix is an image of one
pixel per row. The right operand's columns are packed in blocks. The contraction runs over groups of input channels
that share a scale, and inside a group over (kernel depth, row, column, channel). Sums are exact modulo 2**32, which is
exact where the caller's certificate bounds them by 31 bits.

The work is cut into cells, each a range of rows times a range of columns: one for a matmul, one per group of a grouped
convolution, one per batch of a batched matmul.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel
from simulator.arithmetic.kernels.copy import copy
from simulator.arithmetic.kernels.tile import COLUMNS, DEPTH, ROWS, pack, tile

CHUNK = 64  # output rows gathered at once: with K in the hundreds the block stays in the first-level cache

OUT, KERNEL, STRIDE, DILATION = range(4)  # rows of ``window``
START, CHANNELS, FIRST_STEP, STEPS = range(4)  # columns of ``groups``
FIRST_ROW, END_ROW, FIRST_CHANNEL, FIRST_BLOCK, FIRST_COLUMN, FIRST_OUTPUT, WIDTH = range(7)  # columns of ``cells``


@kernel
def locate(image, window, row):
    """First byte of output pixel ``row``'s receptive field, and the bytes between taps along each spatial axis."""
    depth, height, width, channels = image.shape[1], image.shape[2], image.shape[3], image.shape[4]
    rest, x = divmod(row, window[OUT, 2])
    rest, y = divmod(rest, window[OUT, 1])
    b, z = divmod(rest, window[OUT, 0])
    corner = (b * depth + z * window[STRIDE, 0]) * height + y * window[STRIDE, 1]
    corner = (corner * width + x * window[STRIDE, 2]) * channels
    row_bytes = width * channels
    return (
        corner,
        height * row_bytes * window[DILATION, 0],
        row_bytes * window[DILATION, 1],
        channels * window[DILATION, 2],
    )


@kernel
def gather_row(image, window, groups, row, channel, into, position):
    """Copy the receptive field of output pixel ``row``, channels from ``channel`` on, to byte ``position`` of ``into``.

    A group's bytes start at its first tile step; bytes up to the next multiple of 4 stay as they are (zero weights
    meet them).
    """
    channels = image.shape[4]
    corner, step_z, step_y, step_x = locate(image, window, row)
    corner += channel
    if groups[0, CHANNELS] == channels and window[DILATION, 2] == 1:  # a kernel row's pixels are adjacent
        run = window[KERNEL, 2] * channels
        for i in range(window[KERNEL, 0]):
            for j in range(window[KERNEL, 1]):
                copy(into, position, image, corner + i * step_z + j * step_y, run)
                position += run
        return
    for g in range(len(groups)):
        run = groups[g, CHANNELS]
        into_group = position + DEPTH * groups[g, FIRST_STEP]
        for i in range(window[KERNEL, 0]):
            for j in range(window[KERNEL, 1]):
                for k in range(window[KERNEL, 2]):
                    source = corner + i * step_z + j * step_y + k * step_x + groups[g, START]
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
def subtract_column_zeros(wide, rows, from_row, column_zero):
    """The last term of ``sum (a-za)(b-zb) = sum ab - za sum b - zb (sum a - K za)``; ``from_row`` is its bracket."""
    for r in range(rows):
        raw, share = wide[r], from_row[r]
        for n in range(column_zero.size):
            raw[n] = np.int32(raw[n] - np.int32(share * column_zero[n]))


@kernel
def store(wide, rows, left_zero, column_sum, out, position, stride):
    """Exact sums modulo 2**32, raw rows less ``left_zero column_sum``, into flat ``out`` from ``position`` on."""
    for r in range(rows):
        raw, zero = wide[r], left_zero[r]
        target = out[position + r * stride : position + r * stride + column_sum.size]
        for n in range(column_sum.size):
            target[n] = np.int32(raw[n] - np.int32(zero * column_sum[n]))


@kernel
def rescale(wide, rows, left_zero, column_sum, left_scale, scale, bias, add, last, out, position, stride):
    """Rows as float32 in flat ``out``: ``f32(exact sum) * f32(left_scale * scale)``, added to what is there if ``add``,
    then ``bias`` added if ``last``; each operation rounded."""
    for r in range(rows):
        raw, zero, of_row = wide[r], left_zero[r], left_scale[r]
        target = out[position + r * stride : position + r * stride + column_sum.size]
        if add and last:
            for n in range(column_sum.size):
                exact = np.int32(raw[n] - np.int32(zero * column_sum[n]))
                target[n] = (target[n] + np.float32(exact) * np.float32(of_row * scale[n])) + bias[n]
        elif add:
            for n in range(column_sum.size):
                exact = np.int32(raw[n] - np.int32(zero * column_sum[n]))
                target[n] += np.float32(exact) * np.float32(of_row * scale[n])
        elif last:
            for n in range(column_sum.size):
                exact = np.int32(raw[n] - np.int32(zero * column_sum[n]))
                target[n] = np.float32(exact) * np.float32(of_row * scale[n]) + bias[n]
        else:
            for n in range(column_sum.size):
                exact = np.int32(raw[n] - np.int32(zero * column_sum[n]))
                target[n] = np.float32(exact) * np.float32(of_row * scale[n])


@kernel
def contract_chunk(
    begin, end, cell, image, window, groups, packed, left_zero, left_scale, rows_per_parameter,
    column_sum, column_zero, any_zero, scale, bias, sums, out,
):  # fmt: skip
    """Rows ``begin`` to ``end`` (at most CHUNK) of one cell of :func:`contract`."""
    final = len(groups) - 1
    taps = window[KERNEL, 0] * window[KERNEL, 1] * window[KERNEL, 2]
    row_bytes = DEPTH * (groups[final, FIRST_STEP] + groups[final, STEPS])
    moves = window[STRIDE, 0] * window[STRIDE, 1] * window[STRIDE, 2]
    in_place = taps * moves == 1 and final == 0 and row_bytes == image.shape[4] and groups[0, CHANNELS] == row_bytes
    gathered = not in_place or end - begin < CHUNK
    block = image
    if gathered:
        block = np.empty((1, 1, 1, CHUNK, row_bytes), np.uint8)  # rows past the end are multiplied but never stored
        for row in range(begin, end):
            gather_row(image, window, groups, row, cell[FIRST_CHANNEL], block, (row - begin) * row_bytes)
    blocks = (cell[WIDTH] + COLUMNS - 1) // COLUMNS
    columns = slice(cell[FIRST_COLUMN], cell[FIRST_COLUMN] + cell[WIDTH])
    flat_sums, flat_out, stride = sums.reshape(-1), out.reshape(-1), max(sums.shape[2], out.shape[1])
    acc, wide = np.empty((ROWS, COLUMNS), np.int32), np.empty((ROWS, blocks * COLUMNS), np.int32)
    zeros, from_row, scales = np.zeros(ROWS, np.int32), np.zeros(ROWS, np.int32), np.zeros(ROWS, np.float32)
    for top in range(begin, end, ROWS):
        rows, first_byte = min(ROWS, end - top), ((top - begin) if gathered else top) * row_bytes
        for g in range(final + 1):
            start = first_byte + DEPTH * groups[g, FIRST_STEP]
            for b in range(blocks):
                tile(
                    block, start, row_bytes, packed, cell[FIRST_BLOCK] + b, groups[g, FIRST_STEP], groups[g, STEPS], acc
                )
                for r in range(ROWS):
                    copy(wide, 4 * (r * blocks + b) * COLUMNS, acc, 4 * r * COLUMNS, 4 * COLUMNS)
            depth, left_group = groups[g, CHANNELS] * taps, min(g, len(left_zero) - 1)
            for r in range(rows):
                parameter = (top + r) // rows_per_parameter
                zeros[r], scales[r] = left_zero[left_group, parameter], left_scale[left_group, parameter]
                if any_zero:
                    from_row[r] = np.int32(row_sum(block, start + r * row_bytes, depth) - np.int32(depth * zeros[r]))
            if any_zero:
                subtract_column_zeros(wide, rows, from_row, column_zero[g, columns])
            sum_g = column_sum[g, columns]
            position = top * stride + cell[FIRST_OUTPUT]
            if sums.size:
                position += g * sums.shape[1] * stride
                store(wide, rows, zeros, sum_g, flat_sums, position, stride)
            else:
                rescale(
                    wide, rows, zeros, sum_g, scales, scale[g, columns], bias[columns], g > 0, g == final,
                    flat_out, position, stride,
                )  # fmt: skip


@kernel
def contract_serial(
    first, last, cells, chunks, image, window, groups, packed, left_zero, left_scale, rows_per_parameter,
    column_sum, column_zero, any_zero, scale, bias, sums, out,
):  # fmt: skip
    """Chunks ``first`` to ``last`` of :func:`contract`, counted through all cells."""
    for task in range(first, last):
        index, chunk = divmod(task, chunks)
        cell = cells[index]
        begin = cell[FIRST_ROW] + chunk * CHUNK
        contract_chunk(
            begin, min(begin + CHUNK, cell[END_ROW]), cell, image, window, groups, packed, left_zero, left_scale,
            rows_per_parameter, column_sum, column_zero, any_zero, scale, bias, sums, out,
        )  # fmt: skip


@parallel_kernel
def contract(
    first, last, cells, chunks, image, window, groups, packed, left_zero, left_scale, rows_per_parameter,
    column_sum, column_zero, any_zero, scale, bias, sums, out,
):  # fmt: skip
    """Every row of every cell: int32 ``sums`` (groups, rows, outputs), or float32 ``out`` where ``sums`` is empty.

    Per group g in order: ``y = f32(sum_g) * f32(left scale * scale[g])``, later groups added in float32; ``+ bias``.
    """
    for task in prange(first, last):
        contract_serial(
            task, task + 1, cells, chunks, image, window, groups, packed, left_zero, left_scale, rows_per_parameter,
            column_sum, column_zero, any_zero, scale, bias, sums, out,
        )  # fmt: skip


@kernel
def pack_one(codes, groups, taps, packed, sums):
    """Pack one matrix (columns, depth) for the tile, and sum each column's codes group by group."""
    pack(codes, packed)
    for g in range(len(groups)):
        start, count = DEPTH * groups[g, FIRST_STEP], groups[g, CHANNELS] * taps
        for n in range(len(codes)):
            sums[g, n] = row_sum(codes, n * codes.shape[1] + start, count)


@parallel_kernel
def pack_batches(codes, groups, taps, packed, sums):
    """:func:`pack_one` for every batch: codes (batch, columns, depth), packed (batch, ...), sums (groups, batch,
    columns)."""
    for b in prange(len(codes)):
        pack_one(codes[b], groups, taps, packed[b], sums[:, b])
