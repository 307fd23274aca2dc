"""Compiled float epilogues and float sums. Operands are float32."""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel
from simulator.arithmetic.kernels.requantize import fused_multiply_add


@parallel_kernel
def multiply_add(a, b, c, out):
    """``out = a b + c`` element by element, rounded once."""
    for i in prange(a.size):
        out[i] = fused_multiply_add(a[i], b[i], c[i])


@kernel
def _add_row(x, w, out):
    """``out_n = ((0 + x_0 w_0n) + x_1 w_1n) + ...``, for ``w`` (depth, outputs)."""
    out[:] = np.float32(0)
    for k in range(w.shape[0]):
        a = x[k]
        for n in range(w.shape[1]):
            out[n] = np.float32(out[n] + np.float32(a * w[k, n]))


@parallel_kernel
def sequential_sums(x, w, out):
    """Rows of ``x`` (rows, depth) times ``w`` (depth, outputs): ascending k, each product and sum rounded."""
    for i in prange(x.shape[0]):
        _add_row(x[i], w, out[i])
