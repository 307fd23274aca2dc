"""Weighted points: data at hand, or the bins of a histogram, one row per group that shares bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.arithmetic.granularity import Granularity


@dataclass(frozen=True)
class Points:
    """Rows of values with how often each occurs; rows are padded with count 0.

    Attributes:
        values: float32 (groups, n), ascending in each row where the count is positive.
        counts: int64 (groups, n).
        low: float64 (groups,), the exact smallest value of the data.
        high: float64 (groups,), the exact largest.
        width: float64 (groups,), every value stands for data at most half of this away; 0 for data at hand.
    """

    values: np.ndarray
    counts: np.ndarray
    low: np.ndarray
    high: np.ndarray
    width: np.ndarray


def points_of(tensor: np.ndarray, granularity: Granularity) -> Points:
    """The elements of a float32 tensor, by groups of a granularity, in C order of its parameter shape."""
    shape = granularity.parameter_shape(tensor.shape)
    groups = int(np.prod(shape))
    group = granularity.expand(np.arange(groups).reshape(shape), tensor.shape).reshape(-1)
    order = np.lexsort((tensor.reshape(-1), group))
    sizes = np.bincount(group, minlength=groups)
    place = np.arange(tensor.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    values = np.zeros((groups, sizes.max()), np.float32)
    counts = np.zeros(values.shape, np.int64)
    values[group[order], place] = tensor.reshape(-1)[order]
    counts[group[order], place] = 1
    low, high = values[:, 0].astype(np.float64), values[np.arange(groups), sizes - 1].astype(np.float64)
    return Points(values, counts, low, high, np.zeros(groups))
