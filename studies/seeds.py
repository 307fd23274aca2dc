"""Means over seeds with Student's interval: it holds the variance between seeds."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

CONFIDENCE = 0.95

Array = NDArray[np.float64]


def over_seeds(values: ArrayLike) -> tuple[Array, Array, Array]:
    """Mean along the first axis, and the ends of its interval, NaN where there are fewer than two values.

    A value that is NaN makes its mean NaN; one that is infinite leaves no interval.
    """
    found = np.asarray(values, np.float64)
    nothing = np.full(found.shape[1:], np.nan)
    if not len(found):
        return nothing, nothing, nothing
    with np.errstate(invalid="ignore"):
        mean = found.mean(0)
        if len(found) < 2:
            return mean, nothing, nothing
        arm = _student(len(found) - 1) * found.std(0, ddof=1) / math.sqrt(len(found))
        return mean, mean - arm, mean + arm


@lru_cache
def _student(degrees: int) -> float:
    return float(student.ppf(0.5 + CONFIDENCE / 2, degrees))
