"""Ranges by the Kullback-Leibler divergence between a histogram and its quantized form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.histogram import Binned, grid_exponent
from simulator.calibration.observers import Accumulator, Bounds
from simulator.calibration.points import Points


@dataclass(frozen=True)
class KullbackLeibler:
    """TensorRT's entropy calibration (Migacz, GTC 2017): a threshold T on |x|; the range is ``[low, high]`` cut to ±T.

    |x| is counted in bins of the smallest power-of-two width that holds max|x| in ``bins`` of them. Bin k holds x in
    ``[k w, (k + 1) w)`` and in ``[-(k + 1) w, -k w)``; zeros count in bin 0 like any value. For i = levels, ..., bins
    in use:

    - P: bins 0 to i - 1, the mass of all further bins added to bin i - 1;
    - Q: the same bins without that mass, merged into levels (bin j belongs to level ``j levels // i``), each level's
      mass spread evenly over its bins that are not empty;
    - both scaled to sum 1; D(i) = Σ P log(P / Q), where a bin with P = 0 adds 0, and P > 0 with Q = 0 makes D infinite
      (that is: further mass on an empty last bin). There is no smoothing.

    The smallest D wins, the largest i of equals; ``T = (i + 1/2) width``. ``levels`` are the codes that |x| can take:
    qmax + 1 with a symmetric spec (128 for int8); otherwise all codes for data of one sign, half of them for two.

    Streaming changes nothing: bins of the running histogram are whole parts of these. Memory: ``16 bins`` bytes per
    group, since the running histogram has both signs.

    Args:
        bins: of |x|.

    Raises:
        BadInput: an argument breaks its rule.
    """

    bins: int = 2048
    needs_spec = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "bins", require_int("bins", self.bins, 2))

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {"name": "kullback-leibler", "bins": self.bins}

    def accumulator(self, groups: int, spec: QuantSpec | None) -> Accumulator:
        """A histogram of twice the bins: its bins are then never wider than those of |x|."""
        self._require(spec)
        return Binned(groups, 2 * self.bins, partial(self.fit, spec=spec))

    def fit(self, points: Points, spec: QuantSpec | None) -> Bounds:
        """The best threshold of each group.

        Raises:
            BadInput: no spec, or not more bins than the levels of data of one sign.
        """
        spec = self._require(spec)
        low, high = points.low.copy(), points.high.copy()
        for group, (values, counts) in enumerate(zip(points.values, points.counts, strict=True)):
            levels = _levels(low[group], high[group], spec)
            exponent = grid_exponent(0.0, max(-low[group], high[group]), self.bins)
            index = np.floor(np.ldexp(values[counts > 0].astype(np.float64), -exponent)).astype(np.int64)
            histogram = np.bincount(np.where(index < 0, -1 - index, index), counts[counts > 0])
            if len(histogram) <= levels:
                continue  # fewer bins than codes: nothing to merge
            threshold = math.ldexp(levels + 0.5 + _last_smallest(divergences(histogram, levels)), exponent)
            low[group], high[group] = np.clip((low[group], high[group]), -threshold, threshold)
        return low, high

    def _require(self, spec: QuantSpec | None) -> QuantSpec:
        if spec is None:
            raise BadInput("entropy calibration needs a spec", got="none", fix="pass specs")
        if (most := _levels(0, 0, spec)) >= self.bins:
            raise BadInput(
                "bins must be more than the levels of the format", got=f"{self.bins} for {most}", fix="raise bins"
            )
        return spec


def divergences(histogram: np.ndarray, levels: int) -> np.ndarray:
    """D(i) for i = levels, ..., len(histogram), float64, infinite where P > 0 and Q = 0.

    From prefix sums: with S_l and n_l the mass and the non-empty bins of level l, S = Σ S_l, N all mass and R = N - S,
    ``D = (Σ c log c - c' log c' + (c' + R) log(c' + R) - Σ_l S_l log(S_l / n_l) - R log(S_l' / n_l')) / N
    + log(S / N)``, where c' is the count of bin i - 1 and l' its level.
    """
    count = histogram.astype(np.float64)
    mass = np.concatenate([[0.0], np.cumsum(count)])
    filled = np.concatenate([[0], np.cumsum(count > 0)])
    entropy = np.concatenate([[0.0], np.cumsum(_x_log_x(count))])
    ends = np.arange(levels, len(count) + 1)
    edges = -(-np.arange(levels + 1) * ends[:, None] // levels)  # first bin of each level
    level_mass, level_filled = np.diff(mass[edges], axis=1), np.diff(filled[edges], axis=1)
    mean = level_mass / np.maximum(level_filled, 1)
    last, rest, inside, total = count[ends - 1], mass[-1] - mass[ends], mass[ends], mass[-1]
    log_mean = np.log(np.where(mean > 0, mean, 1.0))
    q_terms = (level_mass * log_mean).sum(axis=1) + rest * log_mean[:, -1]
    p_terms = entropy[ends] - _x_log_x(last) + _x_log_x(last + rest)
    result = (p_terms - q_terms) / total + np.log(np.maximum(inside, 1) / total)
    return np.where((rest > 0) & (last == 0), np.inf, result)


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return x * np.log(np.where(x > 0, x, 1.0))


def _last_smallest(values: np.ndarray) -> int:
    return len(values) - 1 - int(np.argmin(values[::-1]))


def _levels(low: float, high: float, spec: QuantSpec) -> int:
    codes = spec.format.qmax - spec.format.qmin + 1
    if spec.symmetric:
        return spec.format.qmax + 1
    return codes if low >= 0 or high <= 0 else max(codes // 2, 1)
