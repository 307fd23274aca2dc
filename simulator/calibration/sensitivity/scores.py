"""Scores that are read off activations, without quantizing anything."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from samplers.errors import BadInput
from samplers.validation import require_real
from simulator.calibration.sensitivity.activations import ActivationStatistics
from simulator.instrument.sites import SiteKey


def range_times_spread(
    low: ArrayLike, high: ArrayLike, mean: ArrayLike, variance: ArrayLike, *, guard: float = 1e-3
) -> np.ndarray:
    """PTQ-AttnDM's sensitivity, ``range (1 + variance / |mean|)``, with a guard.

    As printed the quotient is ``variance / mean``: without bound near mean 0, and negative below it. Here the
    denominator is ``max(|mean|, guard std)``, so that the quotient is at most ``std / guard``; it is 0 where the
    variance is. The sum ``1 + variance / |mean|`` adds a number to a quantity in the activation's unit, so that scores
    do change order if all activations are scaled; that is the formula's.

    Args:
        low: smallest value.
        high: largest value.
        mean: of the values.
        variance: of the values.
        guard: positive, in standard deviations.

    Raises:
        BadInput: a guard that is not positive, low above high, or a negative variance.
    """
    bound = require_real("guard", guard)
    if bound <= 0:
        raise BadInput("guard must be positive", got=bound, fix="use 1e-3")
    low, high, mean, variance = (np.asarray(a, np.float64) for a in (low, high, mean, variance))
    if (low > high).any() or (variance < 0).any():
        raise BadInput("statistics must have low <= high and a variance of at least 0", got="others", fix="check them")
    denominator = np.maximum(np.abs(mean), bound * np.sqrt(variance))
    quotient = np.divide(variance, denominator, out=np.zeros_like(denominator), where=variance > 0)
    return np.asarray((high - low) * (1 + quotient))


def activation_scores(statistics: ActivationStatistics, *, guard: float = 1e-3) -> dict[SiteKey, float]:
    """``range_times_spread`` of each site, over all observed points; of a site's operands the largest."""
    mean = statistics.mean.mean(axis=1)
    variance = statistics.variance.mean(axis=1) + statistics.mean.var(axis=1)  # points have as many elements each
    scores = range_times_spread(
        statistics.low.min(axis=1), statistics.high.max(axis=1), mean, variance, guard=guard
    )  # fmt: skip
    return by_site(dict(zip(statistics.keys, scores.tolist(), strict=True)))


def by_site(scores: Mapping[tuple[SiteKey, str], float]) -> dict[SiteKey, float]:
    """The largest score of each site's operands."""
    found: dict[SiteKey, float] = {}
    for (site, _), score in scores.items():
        found[site] = max(score, found.get(site, score))
    return found
