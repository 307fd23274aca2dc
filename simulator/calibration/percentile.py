"""Percentiles of the data as bounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_int, require_real
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.histogram import Binned
from simulator.calibration.observers import Accumulator, Bounds
from simulator.calibration.points import Points


@dataclass(frozen=True)
class Percentile:
    """Low and high at the percentiles ``100 - percent`` and ``percent``, interpolated as ``numpy.percentile`` does.

    Streaming, each order statistic is taken as the centre of its bin, so a bound is within half a bin width of numpy's
    on all data (``histogram`` states the width). Memory: ``8 bins`` bytes per group.

    Args:
        percent: above 50, at most 100.
        bins: of the histogram.

    Raises:
        BadInput: an argument breaks its rule.
    """

    percent: float = 99.99
    bins: int = 4096
    needs_spec = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "percent", require_percent(self.percent))
        object.__setattr__(self, "bins", require_int("bins", self.bins, 2))

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {"name": "percentile", "percent": self.percent, "bins": self.bins}

    def accumulator(self, groups: int, spec: QuantSpec | None) -> Accumulator:
        """A histogram."""
        return Binned(groups, self.bins, partial(self.fit, spec=spec))

    def fit(self, points: Points, spec: QuantSpec | None) -> Bounds:
        """The two percentiles, exact for data at hand."""
        return percentile(points, (100 - self.percent) / 100), percentile(points, self.percent / 100)


def require_percent(percent: float) -> float:
    """``percent`` as a float.

    Raises:
        BadInput: not above 50 and at most 100.
    """
    number = require_real("percent", percent)
    if not 50 < number <= 100:
        raise BadInput("percent must be above 50 and at most 100", got=number, fix="use 99.99, say")
    return number


def percentile(points: Points, fraction: float) -> np.ndarray:
    """Weighted percentile of each row, float64 (groups,): between order statistics, linear in the rank (n - 1) f."""
    ends = np.cumsum(points.counts, axis=1)
    size = ends[:, -1]
    rank = (size - 1) * fraction
    below = np.floor(rank).astype(np.int64)
    above = np.minimum(below + 1, size - 1)
    rows = np.arange(len(size))
    a, b = (points.values[rows, (ends <= j[:, None]).sum(axis=1)].astype(np.float64) for j in (below, above))
    part = rank - below
    # numpy's two forms, which meet both ends exactly
    return np.where(part < 0.5, a + (b - a) * part, b - (b - a) * (1 - part))
