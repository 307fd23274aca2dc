"""The 8 x 32 tile of an unsigned-by-signed byte matmul in plain loops, for any CPU.

Same interface and bits as ``tile_vnni``. The right operand keeps each column's codes contiguous along k, and four
columns are summed together: the form that the compiler turns into packed multiply-adds.
"""

from __future__ import annotations

import numpy as np

from simulator.arithmetic.kernels.accelerate import kernel

ROWS, COLUMNS, DEPTH = 8, 32, 4


@kernel
def pack(codes, out):
    """(N, K) int8 codes into (column blocks, 32 columns, K rounded up to 4) order, zero padded."""
    columns, depth = codes.shape
    out[:] = 0
    for n in range(columns):
        for k in range(depth):
            out[n // COLUMNS, n % COLUMNS, k] = codes[n, k]


def packed_shape(columns: int, depth: int) -> tuple[int, int, int]:
    """Shape of the packed right operand."""
    return -(-columns // COLUMNS), COLUMNS, -(-depth // DEPTH) * DEPTH


@kernel
def tile(a, start, stride, packed, block, first, steps, acc):
    """``acc[r, n] = sum_k a[start + r*stride + k] * packed[block, n, 4*first + k]`` modulo 2**32, k < 4*steps."""
    flat = a.reshape(-1)
    depth = DEPTH * steps
    right = packed[block, :, DEPTH * first : DEPTH * first + depth]
    for r in range(ROWS):
        x = flat[start + r * stride : start + r * stride + depth]
        for n in range(0, COLUMNS, 4):
            w0, w1, w2, w3 = right[n], right[n + 1], right[n + 2], right[n + 3]
            s0, s1, s2, s3 = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
            for k in range(depth):
                v = np.int32(x[k])
                s0 = np.int32(s0 + np.int32(v * np.int32(w0[k])))
                s1 = np.int32(s1 + np.int32(v * np.int32(w1[k])))
                s2 = np.int32(s2 + np.int32(v * np.int32(w2[k])))
                s3 = np.int32(s3 + np.int32(v * np.int32(w3[k])))
            acc[r, n], acc[r, n + 1], acc[r, n + 2], acc[r, n + 3] = s0, s1, s2, s3
