"""Facts of sequences over steps or over N, which claims are about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.calibration.sensitivity.temporal import correlation

_ROUNDING = 1e-9
"""Relative to a series' largest magnitude: what varies less does not vary."""


def reversal(values: Sequence[float]) -> float:
    """How far a sequence is from monotone: the smaller of its largest rise and its largest fall.

    A rise is ``values[j] - values[i]`` for any j > i, a fall the opposite. 0 exactly where the sequence only rises, or
    only falls; NaN where a value is.
    """
    every = np.asarray(values, np.float64)
    rise = (every - np.minimum.accumulate(every)).max()
    fall = (np.maximum.accumulate(every) - every).max()
    return float(np.minimum(rise, fall))


def relative_span(series: np.ndarray) -> np.ndarray:
    """``(largest - smallest) / mean`` of each row of a positive (rows, n)."""
    wide = np.asarray(series, np.float64)
    return np.asarray(np.ptp(wide, axis=1) / wide.mean(axis=1))


def following(followers: np.ndarray, leaders: np.ndarray) -> np.ndarray:
    """Pearson's r of pairs of rows, (rows, n): 0 where the follower does not move, NaN where the leader does not."""
    followers, leaders = np.asarray(followers, np.float64), np.asarray(leaders, np.float64)
    r = correlation(followers, leaders)
    return np.where(_flat(leaders), np.nan, np.where(_flat(followers), 0.0, r))


def _flat(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.ptp(rows, axis=1) <= _ROUNDING * np.abs(rows).max(axis=1))
