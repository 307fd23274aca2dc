"""Does the spread of activations follow the timestep? TDQ's motivation (So et al., NeurIPS 2023, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from samplers.validation import require_choice
from simulator.calibration.intervals.learned import OperandKey
from simulator.calibration.sensitivity.activations import ActivationStatistics
from simulator.calibration.sensitivity.intervals import Share, share

POINTS, MEANS = "points", "step-means"


@dataclass(frozen=True)
class TemporalCorrelation:
    """Correlation of timestep and variation, per operand; NaN where the variation does not change at all.

    Attributes:
        keys: (site, role) of each entry.
        measure: of the variation.
        over: what was correlated.
        pearson: float64 (keys,).
        spearman: float64 (keys,), with mean ranks for ties.
    """

    keys: tuple[OperandKey, ...]
    measure: str
    over: str
    pearson: np.ndarray
    spearman: np.ndarray

    def share_above(self, threshold: float, *, rank: bool = False, confidence: float = 0.95) -> Share:
        """Share of operands with ``|r| > threshold``, NaN counting as not; TDQ reports 62.1 % for 0.5, 38.8 % for 0.7.

        Its interval takes the operands as independent draws, which layers of one network are not.
        """
        values = np.abs(np.nan_to_num(self.spearman if rank else self.pearson))
        return share(int((values > threshold).sum()), len(values), confidence=confidence)


def temporal_correlation(
    statistics: ActivationStatistics, measure: str = "std", over: str = POINTS
) -> TemporalCorrelation:
    """Pearson's r and Spearman's rho of the timestep and a measure of variation.

    The paper says neither which measure "per-tensor activation variation" is nor what it is correlated over. Over
    points, samples differ within a timestep and pull |r| down; means over each timestep's points leave the trend alone.

    Args:
        statistics: of activations, at three timesteps or more to mean anything.
        measure: ``std``, ``range`` or ``max``.
        over: ``points`` or ``step-means``.

    Raises:
        BadInput: another measure or choice.
    """
    require_choice("over", over, (POINTS, MEANS))
    if over == POINTS:
        times, values = statistics.timestep, statistics.variation(measure)
    else:
        times, values = statistics.step_means(measure)
    ranks = rankdata(times)[None], rankdata(values, axis=1)
    flat = np.ptp(values, axis=1) <= 1e-9 * np.abs(values).max(axis=1)  # rounding alone is no variation
    pearson, spearman = (np.where(flat, np.nan, correlation(*pair)) for pair in ((times[None], values), ranks))
    return TemporalCorrelation(statistics.keys, measure, over, pearson, spearman)


def correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r of the rows of two matrices that broadcast; NaN where a row is constant."""
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.clip(r, -1.0, 1.0)
