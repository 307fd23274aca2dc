"""Sums of products in a limited register, product by product. Formula in ``simulator.arithmetic.accumulator``."""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel

EXACT, WRAP, SATURATE = range(3)  # values of the enum Overflow


@kernel
def narrow(value, overflow, low, high):
    """What the register holds of ``value``."""
    if overflow == SATURATE:
        return min(max(value, low), high)
    if overflow == WRAP:
        return ((value - low) & (high - low)) + low  # high - low is all ones; 64 bits wrap by themselves
    return value


@kernel
def accumulate_one(x, w, x_zero, w_zero, tree, overflow, low, high, first, last):
    """One output in int64, which the caller has proved to hold every exact partial sum.

    Returns (sum, narrowing adds that lost something).
    """
    depth = x.size
    register = narrow(first, overflow, low, high)
    lost = np.int64(register != first)
    for start in range(0, depth, tree):
        total = register
        for k in range(start, min(start + tree, depth)):
            total += (np.int64(x[k]) - x_zero) * (np.int64(w[k]) - w_zero)
        register = narrow(total, overflow, low, high)
        lost += register != total
    total = register + last
    register = narrow(total, overflow, low, high)
    lost += register != total
    return register, lost


@parallel_kernel
def accumulate(x, w, x_zero, w_zero, tree, overflow, low, high, first, last, steps, out):
    """``out[m, n]`` from rows of ``x`` and ``w``; ``w_zero``, ``first``, ``last`` per output.

    Returns the narrowing adds that lost something if ``steps``, else the outputs that had such an add.
    """
    count = 0
    for m in prange(x.shape[0]):
        for n in range(w.shape[0]):
            total, lost = accumulate_one(x[m], w[n], x_zero, w_zero[n], tree, overflow, low, high, first[n], last[n])
            out[m, n] = total
            count += lost if steps else np.int64(lost > 0)
    return count


@parallel_kernel
def absolute_sums(w, zero, out):
    """``out[n] = sum_k |w[n, k] - zero[n]|``."""
    for n in prange(w.shape[0]):
        total = np.int64(0)
        for k in range(w.shape[1]):
            total += abs(np.int64(w[n, k]) - zero[n])
        out[n] = total


@parallel_kernel
def wrap(sums, bias, bits, out):
    """``out`` = the low ``bits`` bits of ``sums + bias``, as two's complement. Returns how many differ from it."""
    count, shift = 0, 64 - bits
    for m in prange(sums.shape[0]):
        lost = np.int64(0)
        for n in range(sums.shape[1]):
            exact = np.int64(sums[m, n]) + bias[n]
            wrapped = (exact << shift) >> shift
            lost += np.int64(wrapped != exact)
            out[m, n] = wrapped
        count += lost
    return count
