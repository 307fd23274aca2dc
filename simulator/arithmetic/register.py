"""Sums in a limited register, by the fastest kernel that is proved to give its bits.

- A certificate excludes overflow: ``max |x - zx| sum_k |w_nk - zw_n| + |bias_n|`` lies within the register, from the
  extremes of the operands as given. Then, as for EXACT, sums are exact and nothing is lost.
- WRAP is the low bits of the exact sum; only its steps need the register.
- A saturating register that vector lanes may hold (see ``saturating``) runs in them.
- Everything else runs in the general kernel, product by product.
"""

from __future__ import annotations

import numpy as np

from simulator.arithmetic.accumulator import Accumulator, Bias, Count, Overflow
from simulator.arithmetic.exact import exact_matmul
from simulator.arithmetic.kernels import accumulate as kernels
from simulator.arithmetic.saturating import lanes_for, saturating_sums


def register_sums(
    x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray, bias: np.ndarray, accumulator: Accumulator,
    count: Count,
) -> tuple[np.ndarray, int]:  # fmt: skip
    """What the register holds at the end, int32 or int64 (rows, outputs), and what ``count`` asks for.

    Args:
        x: C-contiguous codes (rows, depth); ``x - x_zero`` enters the products.
        w: C-contiguous codes (outputs, depth), likewise with ``w_zero`` (outputs,).
        x_zero: zero point of ``x``.
        w_zero: int64 zero points of ``w``.
        bias: int64 (outputs,).
        accumulator: the machine.
        count: what is counted.
    """
    overflow, depth = accumulator.overflow, x.shape[1]
    if overflow is Overflow.EXACT:
        return _plus(exact_sums(x, w, x_zero, w_zero), bias), 0
    if overflow is Overflow.WRAP and count is not Count.STEPS:
        sums = exact_sums(x, w, x_zero, w_zero)
        wrapped = np.empty(sums.shape, np.int32 if accumulator.bits <= 32 else np.int64)
        return wrapped, int(kernels.wrap(sums, bias, accumulator.bits, wrapped))
    left = _farthest(x, np.asarray(x_zero))
    if _largest_sum(left, w, w_zero, bias, accumulator.largest) <= accumulator.largest:
        return _plus(exact_sums(x, w, x_zero, w_zero), bias), 0
    if overflow is Overflow.SATURATE and count is not Count.STEPS and depth and len(w):
        largest = max(left, 1) * max(_farthest(w, w_zero[:, None]), 1)
        lanes = lanes_for(accumulator, largest, depth, count)
        if lanes:
            return saturating_sums(x, w, x_zero, w_zero, bias, accumulator, lanes)
    return _step_by_step(x, w, x_zero, w_zero, bias, accumulator, count)


def exact_sums(x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray) -> np.ndarray:
    """``sum_k (x_mk - x_zero)(w_nk - w_zero_n)``, int32 or int64 (rows, outputs), for C-contiguous codes.

    Bytes run in the tile; zero points that are no codes of their type, and empty operands, in the general kernel.
    """
    if x.size and w.size and are_codes(x, w, x_zero, w_zero):
        return exact_matmul(x, w, int(x_zero), w_zero)
    return _step_by_step(x, w, x_zero, w_zero, np.zeros(len(w), np.int64), Accumulator(), Count.NONE)[0]


def _step_by_step(
    x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray, bias: np.ndarray, accumulator: Accumulator,
    count: Count,
) -> tuple[np.ndarray, int]:  # fmt: skip
    """The general kernel: any accumulator, any operands."""
    nothing = np.zeros_like(bias)
    first = accumulator.bias is Bias.FIRST
    out = np.empty((len(x), len(w)), np.int64)
    tree = min(accumulator.tree, max(x.shape[1], 1))
    lost = kernels.accumulate(
        x, w, x_zero, w_zero.copy(), tree, accumulator.overflow.value, accumulator.smallest,
        accumulator.largest, bias if first else nothing, nothing if first else bias, count is Count.STEPS, out,
    )  # fmt: skip
    return out, int(lost)


def are_codes(x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray) -> bool:
    """Whether every zero point is a code of its operand's type."""
    return _is_code(x_zero, x) and _is_code(w_zero.min(), w) and _is_code(w_zero.max(), w)


def _is_code(zero: int, codes: np.ndarray) -> bool:
    info = np.iinfo(codes.dtype)
    return bool(info.min <= zero <= info.max)


def _farthest(codes: np.ndarray, zero: np.ndarray) -> int:
    """Largest ``|code - zero|``; ``zero`` a scalar, or (outputs, 1)."""
    if not codes.size:
        return 0
    axis = zero.ndim - 1 if zero.ndim else None
    ends = (codes.max(axis, keepdims=True).astype(np.int64), codes.min(axis, keepdims=True).astype(np.int64))
    return max(int(np.abs(end - zero).max()) for end in ends)


def _largest_sum(left: int, w: np.ndarray, w_zero: np.ndarray, bias: np.ndarray, limit: int) -> int:
    """A bound of every partial sum, bias included: rough where that is within ``limit``, else output by output."""
    rough = left * w.shape[1] * _farthest(w, w_zero[:, None]) + int(np.abs(bias).max(initial=0))
    if rough <= limit:
        return rough
    sums = np.empty(len(w), np.int64)
    kernels.absolute_sums(w, w_zero.copy(), sums)
    return int((left * sums + np.abs(bias)).max(initial=0))


def _plus(sums: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return sums + bias if bias.any() else sums
