"""Histograms on a power-of-two grid: their memory is fixed, and they do not depend on how the data were cut.

Bin i of a group counts the values in ``[(first + i) w, (first + i + 1) w)`` with ``w = 2**e``: edges are multiples of
the width, so that two bins merge into one of twice the width without moving a value. ``e`` is the smallest exponent for
which (1) all data fit into the bins, (2) ``max|x| < 2**23 w``, so that bin centres are float32 numbers, and (3)
``e >= -126``; ``first`` is the bin of the smallest value. Both depend on the extremes of all data only, and counts are
exact, so the histogram is the one that all data at once would give, for any batches in any order.

Resolution: unless (2) or (3) binds, ``w < 2 (high - low) / (bins - 1)``, and where (2) does ``w <= 2**-22 max|x|``.
Memory: ``8 bins`` bytes per group.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from simulator.arithmetic.kernels import histogram as kernels
from simulator.calibration.channels import Observed
from simulator.calibration.points import Points

SMALLEST = -126
"""Smallest exponent of a bin's width."""

INDEX_BITS = 23
"""Bin indices are below 2**23 in magnitude, so that (index + 1/2) w has 24 bits."""

_TASK = 1 << 17
"""Values that one thread counts alone: it costs about as long as clearing and adding a few thousand bins."""


class Histogram:
    """One histogram per group, filled pass by pass.

    Args:
        groups: how many.
        bins: of each; at least 2.
    """

    def __init__(self, groups: int, bins: int) -> None:
        self._counts = np.zeros((groups, bins), np.int64)
        self._exponent, self._first = np.full(groups, SMALLEST), np.zeros(groups, np.int64)
        self._low, self._high = np.full(groups, np.inf), np.full(groups, -np.inf)

    def update(self, observed: Observed) -> None:
        """Count the values of one forward pass."""
        low, high = np.minimum(self._low, observed.low), np.maximum(self._high, observed.high)
        for group in np.flatnonzero((low < self._low) | (high > self._high)):
            self._move(int(group), float(low[group]), float(high[group]))
        self._low, self._high = low, high
        inverse, values = np.ldexp(1.0, -self._exponent), observed.values
        if len(self._counts) > 1:
            kernels.count_groups(values, observed.size, inverse, self._first, self._counts)
            return
        tasks = 1 + values.size // _TASK
        partial = self._counts if tasks == 1 else np.zeros((tasks, self._counts.shape[1]), np.int64)
        kernels.count_all(values.reshape(-1), inverse[0], self._first[0], partial)
        if tasks > 1:
            self._counts += partial.sum(axis=0)

    def points(self) -> Points:
        """Bin centres, pulled inside the extremes, with their counts; bins that are empty everywhere are left out."""
        width = np.ldexp(1.0, self._exponent)
        index = self._first[:, None] + np.arange(self._counts.shape[1])
        centres = np.clip((index + 0.5) * width[:, None], self._low[:, None], self._high[:, None])
        used = self._counts.any(axis=0)
        return Points(centres[:, used].astype(np.float32), self._counts[:, used], self._low, self._high, width)

    def _move(self, group: int, low: float, high: float) -> None:
        """Merge and shift the bins of a group whose extremes grew."""
        counts = self._counts[group]
        exponent = grid_exponent(low, high, len(counts))
        first = math.floor(math.ldexp(low, -exponent))
        if counts.any():
            used = np.flatnonzero(counts)
            place = (self._first[group] + used) >> (exponent - self._exponent[group])
            moved = np.zeros_like(counts)
            np.add.at(moved, place - first, counts[used])
            self._counts[group] = moved
        self._exponent[group], self._first[group] = exponent, first


def grid_exponent(low: float, high: float, bins: int) -> int:
    """Smallest exponent whose grid holds ``[low, high]`` in ``bins`` bins, with indices below 2**23."""
    largest = max(abs(low), abs(high))
    exponent = max(least_exponent(largest), _log2(high - low) - _log2(bins) - 1)
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= bins:
        exponent += 1
    return exponent


def least_exponent(largest: float) -> int:
    """Smallest exponent with ``largest < 2**23 w``, at least -126."""
    return max(SMALLEST, _log2(largest) + 1 - INDEX_BITS)


def _log2(x: float) -> int:
    """Rounded down; below every exponent for 0."""
    return math.frexp(x)[1] - 1 if x else -2000


class Binned:
    """Accumulator of a histogram, whose bounds ``fit`` finds at the end."""

    def __init__(self, groups: int, bins: int, fit: Callable[[Points], tuple[np.ndarray, np.ndarray]]) -> None:
        self._histogram, self._fit = Histogram(groups, bins), fit

    def update(self, observed: Observed) -> None:
        """Count."""
        self._histogram.update(observed)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the bins."""
        return self._fit(self._histogram.points())
