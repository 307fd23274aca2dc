"""Joint central sums of (y, e) per row, up to total order 4, in float64 and in a fixed order.

Rows are summed in interleaved lanes, which are then added in index order: the same bits for any thread count, and a
form the compiler turns into vector instructions without being allowed to reorder anything.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel

LANES = 32  # long enough that the compiler makes vectors of it instead of unrolling it away


@kernel
def _add(sums, lane, a, b):
    aa, ab, bb = a * a, a * b, b * b
    sums[0, lane] += aa
    sums[1, lane] += ab
    sums[2, lane] += bb
    sums[3, lane] += aa * a
    sums[4, lane] += aa * b
    sums[5, lane] += a * bb
    sums[6, lane] += bb * b
    sums[7, lane] += aa * aa
    sums[8, lane] += aa * ab
    sums[9, lane] += aa * bb
    sums[10, lane] += ab * bb
    sums[11, lane] += bb * bb


@kernel
def _row(y, other, out):
    size = y.size
    whole = size - size % LANES
    first = np.zeros((2, LANES))
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            v = np.float64(y[start + lane])
            first[0, lane] += v
            first[1, lane] += np.float64(other[start + lane]) - v
    for i in range(whole, size):
        v = np.float64(y[i])
        first[0, i - whole] += v
        first[1, i - whole] += np.float64(other[i]) - v
    sum_y, sum_e = 0.0, 0.0
    for lane in range(LANES):
        sum_y += first[0, lane]
        sum_e += first[1, lane]
    mean_y, mean_e = sum_y / size, sum_e / size
    sums = np.zeros((12, LANES))
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            v = np.float64(y[start + lane])
            _add(sums, lane, v - mean_y, (np.float64(other[start + lane]) - v) - mean_e)
    for i in range(whole, size):
        v = np.float64(y[i])
        _add(sums, i - whole, v - mean_y, (np.float64(other[i]) - v) - mean_e)
    out[0], out[1], out[2] = size, mean_y, mean_e
    for k in range(12):
        total = 0.0
        for lane in range(LANES):
            total += sums[k, lane]
        out[3 + k] = total


@parallel_kernel
def row_sums(y, other, out):
    """For each row of ``y`` and ``other`` (rows, size): count, mean y, mean e, then 12 central sums; e = other - y."""
    for row in prange(y.shape[0]):
        _row(y[row], other[row], out[row])
