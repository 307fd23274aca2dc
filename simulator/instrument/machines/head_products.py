"""Integer products of two run-time operands whose zero points vary over heads, or over the rows of the second."""

from __future__ import annotations

import numpy as np

from simulator.arithmetic.accumulator import Accumulator, Count
from simulator.arithmetic.matmul import Accumulated, integer_matmul
from simulator.arithmetic.pair_accumulator import PairAccumulator


def product_by_head(
    x: np.ndarray, y: np.ndarray, x_zero: np.ndarray, y_zero: np.ndarray, accumulator: Accumulator | PairAccumulator,
    count: Count,
) -> Accumulated:  # fmt: skip
    """``sum_k (x_mk - x_zero)(y_nk - y_zero)`` in the accumulator.

    Args:
        x: codes (..., rows, depth).
        y: codes (..., columns, depth).
        x_zero: zero points of the rank of ``x``, which vary over heads (axis -3) at most.
        y_zero: of the rank of ``y``; over heads and columns at most.
        accumulator: the register.
        count: what is counted of its losses.
    """
    heads = max([z.shape[-3] for z in (x_zero, y_zero) if z.ndim > 2 and (z != z.flat[0]).any()], default=1)
    found = []
    for head in range(heads):
        left, right, left_zero, right_zero = (
            each[..., head : head + 1, :, :] if heads > 1 and each.ndim > 2 and each.shape[-3] > 1 else each
            for each in (x, y, x_zero, y_zero)
        )
        alike = not (right_zero != right_zero.flat[:1]).any()
        zeros = one_zero(right_zero) if alike else right_zero.reshape(-1).astype(np.int64)
        found.append(integer_matmul(left, right, accumulator, x_zero=one_zero(left_zero), w_zero=zeros, count=count))
    if heads == 1:
        return found[0]
    return Accumulated(np.concatenate([each.values for each in found], axis=-3), sum(f.overflowed or 0 for f in found))


def one_zero(zero_point: np.ndarray) -> int:
    """A zero point that all share: rows that have their own are symmetric."""
    return int(zero_point.flat[0]) if zero_point.size else 0
