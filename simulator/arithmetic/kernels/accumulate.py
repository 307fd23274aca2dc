"""Sums of products in a limited register, product by product. Formula in ``simulator.arithmetic.accumulator``."""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel

EXACT, WRAP, SATURATE = range(3)  # values of the enum Overflow


@kernel
def accumulate_one(x, w, x_zero, w_zero, tree, overflow, low, high, first, last):
    """One output in int64, which the caller has proved to hold every exact partial sum. Returns (sum, overflowed).

    WRAP is left to the caller: it is the low bits of the exact sum.
    """
    depth = x.size
    overflowed = False
    register = first
    if overflow == SATURATE:
        register = min(max(register, low), high)
        overflowed = register != first
    for start in range(0, depth, tree):
        step = np.int64(0)
        for k in range(start, min(start + tree, depth)):
            step += (np.int64(x[k]) - x_zero) * (np.int64(w[k]) - w_zero)
        register += step
        if overflow == SATURATE:
            inside = min(max(register, low), high)
            overflowed |= inside != register
            register = inside
    register += last
    if overflow == SATURATE:
        inside = min(max(register, low), high)
        overflowed |= inside != register
        register = inside
    return register, overflowed


@parallel_kernel
def accumulate(x, w, x_zero, w_zero, tree, overflow, low, high, first, last, out):
    """``out[m, n]`` from rows of ``x`` and ``w``; ``w_zero``, ``first``, ``last`` per output. Returns a count."""
    count = 0
    for m in prange(x.shape[0]):
        for n in range(w.shape[0]):
            total, overflowed = accumulate_one(
                x[m], w[n], x_zero, w_zero[n], tree, overflow, low, high, first[n], last[n]
            )
            out[m, n] = total
            count += overflowed
    return count
