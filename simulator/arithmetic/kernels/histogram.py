"""Counting float32 values in bins of one width; ``simulator.calibration.histogram`` has the grid.

Bin ``floor(x / width) - first``. Widths are powers of two, so the float64 product with the reciprocal is exact and no
value can fall into a neighbouring bin. Indices are formed in blocks, which the compiler makes vectors of; counts are
integers, so any split over threads gives the same.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel

BLOCK = 256


@kernel
def _count(x, inverse, first, counts):
    index = np.empty(BLOCK, np.int32)
    start = np.int32(first)
    whole = x.size - x.size % BLOCK
    for i in range(0, whole, BLOCK):
        for j in range(BLOCK):
            index[j] = np.int32(np.int32(np.floor(np.float64(x[i + j]) * inverse)) - start)
        for j in range(BLOCK):
            counts[np.uint32(index[j])] += 1
    for i in range(whole, x.size):
        counts[np.int64(np.floor(np.float64(x[i]) * inverse)) - first] += 1


@parallel_kernel
def count_all(x, inverse, first, counts):
    """Add the values of ``x`` (n,) to ``counts`` (tasks, bins) int64, each task its part."""
    tasks = len(counts)
    for task in prange(tasks):
        begin, end = x.size * task // tasks, x.size * (task + 1) // tasks
        _count(x[begin:end], inverse, first, counts[task])


@kernel
def _count_group(x, begin, end, inverse, first, counts):
    for o in range(x.shape[0]):
        for c in range(begin, end):
            for i in range(x.shape[2]):
                counts[np.int64(np.floor(np.float64(x[o, c, i]) * inverse)) - first] += 1


@parallel_kernel
def count_groups(x, size, inverse, first, counts):
    """Add ``x`` (outer, channel, inner) to ``counts`` (groups, bins) int64; ``size`` channels make a group.

    ``inverse`` float64 (groups,) and ``first`` int64 (groups,) are each group's grid.
    """
    for group in prange(len(counts)):
        begin, end = group * size, min((group + 1) * size, x.shape[1])
        _count_group(x, begin, end, inverse[group], first[group], counts[group])
