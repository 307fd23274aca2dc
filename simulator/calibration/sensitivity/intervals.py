"""Shares and rank correlations with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import beta, norm, rankdata

from samplers.errors import BadInput
from samplers.validation import require_int, require_real

K = TypeVar("K")


@dataclass(frozen=True)
class Share:
    """A count of a total, with the Clopper-Pearson interval of its probability.

    Attributes:
        count: how many.
        total: of how many.
        low: lower end.
        high: upper end.
    """

    count: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """count / total."""
        return self.count / self.total


@dataclass(frozen=True)
class RankAgreement:
    """Spearman's rho of two scores, with its interval.

    Attributes:
        rho: mean ranks for ties; NaN where a score is constant.
        low: lower end.
        high: upper end; NaN with fewer than 4 items.
        count: items.
    """

    rho: float
    low: float
    high: float
    count: int


def share(count: int, total: int, *, confidence: float = 0.95) -> Share:
    """Exact binomial interval (Clopper and Pearson 1934): it covers at least the stated probability.

    Raises:
        BadInput: a total below 1, a count outside 0..total, or a confidence outside (0, 1).
    """
    total, count = require_int("total", total, 1), require_int("count", count, 0)
    level = _level(confidence)
    if count > total:
        raise BadInput(f"count must be at most {total}", got=count, fix="check the count")
    low = 0.0 if count == 0 else float(beta.ppf((1 - level) / 2, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf((1 + level) / 2, count + 1, total - count))
    return Share(count, total, low, high)


def rank_agreement(first: Mapping[K, float], second: Mapping[K, float], *, confidence: float = 0.95) -> RankAgreement:
    """Spearman's rho over the items that both have.

    Interval: ``tanh(arctanh(rho) +- z sqrt((1 + rho^2 / 2) / (n - 3)))`` (Bonett and Wright 2000); at rho = +-1 it is
    that point. Items are taken as independent draws.

    Raises:
        BadInput: no item in common, a score that is NaN, or a confidence outside (0, 1).
    """
    keys = [key for key in first if key in second]
    a, b = (np.array([scores[key] for key in keys], np.float64) for scores in (first, second))
    if not keys or np.isnan(a).any() or np.isnan(b).any():
        raise BadInput("scores must be numbers, of an item in common", got=f"{len(keys)} items", fix="check the keys")
    z = float(norm.ppf((1 + _level(confidence)) / 2))
    rho = rank_correlation(a, b)
    if len(keys) < 4 or np.isnan(rho):
        return RankAgreement(rho, np.nan, np.nan, len(keys))
    if abs(rho) >= 1:
        return RankAgreement(rho, rho, rho, len(keys))
    half = z * np.sqrt((1 + rho**2 / 2) / (len(keys) - 3))
    low, high = (float(np.tanh(np.arctanh(rho) + sign * half)) for sign in (-1, 1))
    return RankAgreement(rho, low, high, len(keys))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rho, mean ranks for ties (infinities rank as such); NaN where all are tied."""
    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (a, b))
    spread = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float(np.clip((x * y).sum() / spread, -1.0, 1.0)) if spread else float("nan")


def _level(confidence: float) -> float:
    level = require_real("confidence", confidence)
    if not 0 < level < 1:
        raise BadInput("confidence must lie between 0 and 1", got=level, fix="use 0.95")
    return level
