"""A matmul through a saturating register in vector lanes: pack, run the tiles, unpack. See ``saturate_tile``.

A lane holds ``(register << shift) | tag``. With two or more bits below the register the tag counts for nothing and
shows a saturation for ever after: it starts as ``1 << (shift - 1)``, products are multiples of ``1 << shift``, the
upper limit ends in ones and the lower in zeros.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel
from simulator.arithmetic.kernels.saturate_tile import ROWS, tile

CHUNK_WORDS = 65536  # of the left operand, packed at once: with the column block it stays in the second-level cache
SPLIT = 16  # column blocks per task


@parallel_kernel
def pack(w, out):
    """(N, K) lanes into (column blocks, K, columns) order, zero padded."""
    outputs = w.shape[0]
    blocks, _, columns = out.shape
    for index in prange(blocks):
        block = np.int64(index)  # prange counts in uint64
        _pack_block(w[block * columns : min((block + 1) * columns, outputs)], out[block])


@kernel
def _pack_block(w, out):
    width, depth = w.shape
    if width < out.shape[1]:
        out[:] = 0
    for k in range(0, depth, 32):  # squares of 32: both sides of the transposition stay in the first-level cache
        for n in range(width):
            for j in range(k, min(k + 32, depth)):
                out[j, n] = w[n, j]


@kernel
def _pack_rows(x, begin, end, twice, out):
    """Rows ``begin`` to ``end`` as (row tiles, depth, ROWS) int32; an int16 stands in both halves if ``twice``."""
    for row in range(begin, end):
        t, r = divmod(row - begin, ROWS)
        source, target = x[row], out[t]
        for k in range(source.size):
            value = np.int32(source[k])
            target[k, r] = (value & np.int32(0xFFFF)) | (value << np.int32(16)) if twice else value


@kernel
def _unpack(acc, seen, shift, limits, last, first_lost, out):
    """Registers of one tile to values, with the bias that comes last. Returns how many outputs saturated."""
    tag = np.int64(1) << (shift - 1) if shift > 1 else np.int64(0)
    mask = (np.int64(1) << shift) - 1 if shift > 1 else np.int64(0)
    low, high = np.int64(limits[0]), np.int64(limits[1])
    count = 0
    for r in range(out.shape[0]):
        held, marked, target = acc[r], seen[r], out[r]
        lost = np.int64(0)
        for n in range(target.size):
            total = (np.int64(held[n]) >> shift) + last[n]
            narrowed = min(max(total, low), high)
            target[n] = narrowed
            differs = (np.int64(held[n]) ^ tag) & mask | np.int64(marked[n]) | (narrowed ^ total)
            lost += np.int64(differs != 0) | first_lost[n]
        count += lost
    return count


@kernel
def _rows(
    begin, end, first_block, last_block, x, w, tree, watched, clipped, run, lane_limits, shift, start, limits, last,
    first_lost, out,
):  # fmt: skip
    """Rows ``begin`` to ``end`` times some column blocks."""
    depth, columns = w.shape[1], w.shape[2]
    packed = np.empty(((end - begin + ROWS - 1) // ROWS, depth, ROWS), np.int32)
    if (end - begin) % ROWS:
        packed[-1] = 0  # rows past the end are multiplied but never stored
    _pack_rows(x, begin, end, w.itemsize == 2, packed)
    acc = np.empty((ROWS, columns), w.dtype)
    seen = np.zeros((ROWS, columns), w.dtype)
    low, high = lane_limits
    count = 0
    for block in range(first_block, last_block):
        left, right = block * columns, min((block + 1) * columns, out.shape[1])
        for t in range(packed.shape[0]):
            top = begin + t * ROWS
            tile(tree, watched, clipped, packed, t, w, block, run, low, high, start, acc, seen)
            count += _unpack(
                acc, seen, shift, limits, last[left:right], first_lost[left:right],
                out[top : min(top + ROWS, end), left:right],
            )  # fmt: skip
    return count


@parallel_kernel
def saturate(
    x, w, tree, watched, clipped, run, lane_limits, shift, start, limits, last, first_lost, out
):  # fmt: skip
    """``out[m, n]`` through a saturating register. Returns how many outputs saturated.

    Args:
        x: lanes (rows, depth), depth at least 1.
        w: packed lanes (column blocks, depth, columns).
        tree, watched, clipped, run: of ``saturate_tile``.
        lane_limits: (low, high) of a lane.
        shift: bits below the register.
        start: lanes (column blocks, columns), the tagged first register.
        limits: (low, high) of the register.
        last: int64 (outputs,), added after the last product.
        first_lost: int64 (outputs,), whether the first register saturated.
        out: int64 (rows, outputs).
    """
    rows, blocks, depth = x.shape[0], w.shape[0], w.shape[1]
    chunk = min(max(CHUNK_WORDS // depth // ROWS, 1) * ROWS, 64)
    splits = (blocks + SPLIT - 1) // SPLIT
    count = 0
    for task in prange((rows + chunk - 1) // chunk * splits):
        i, j = divmod(np.int64(task), splits)
        count += _rows(
            i * chunk, min((i + 1) * chunk, rows), j * SPLIT, min((j + 1) * SPLIT, blocks), x, w, tree, watched,
            clipped, run, lane_limits, shift, start, limits, last, first_lost, out,
        )  # fmt: skip
    return count
