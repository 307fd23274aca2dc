"""What corrections and predictions assume of the residual noise, tested on one run: normal, white, independent, alike.

Each verdict follows from an interval and a margin named beforehand: ``holds`` where the whole interval lies within the
margin, ``violated`` where it lies outside, else ``inconclusive``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from noise_models.assumptions.homogeneity import check_homogeneity
from noise_models.assumptions.normality import LEAST, check_normality, residual_shape
from noise_models.assumptions.pattern import measure_pattern
from noise_models.assumptions.step_dependence import check_step_independence
from noise_models.assumptions.whiteness import check_whiteness
from noise_models.inference.verdicts import word


@dataclass(frozen=True)
class Assumption:
    """One assumption about the residual: the effect that measures its violation, and in which variable it stands."""

    claim: str
    effect: str

    @property
    def verdict(self) -> str:
        """The variable of its verdict."""
        return f"{self.effect}_verdict"


ASSUMPTIONS = (
    Assumption("symmetric", "skewness"),
    Assumption("normal tails", "excess_kurtosis"),
    Assumption("same bias at all pixels", "pattern_share"),
    Assumption("white in space", "neighbour_correlation"),
    Assumption("independent of other steps", "step_correlation"),
    Assumption("equal power in all samples", "excess_variation"),
    Assumption("equal power in all classes", "class_share"),
)
"""What corrections assume of the residual, in the order of tables."""


def check_assumptions(
    dataset: xr.Dataset, kind: str = "injected", *, groups: ArrayLike | None = None, confidence: float = 0.95
) -> xr.Dataset:
    """Every assumption that the run's record can test, in one dataset.

    Args:
        dataset: one run's; with 3 samples or more kept whole (``run(..., subsample=64)``) a pattern, whiteness and
            dependence of steps are tested, with 20 or more normality too.
        kind: ``injected`` or ``accumulated``.
        groups: class of every sample, see :func:`noise_models.assumptions.homogeneity.check_homogeneity`.
        confidence: nominal coverage.

    Returns:
        What ``check_normality`` (or ``residual_shape``), ``measure_pattern``, ``check_whiteness``,
        ``check_step_independence`` and ``check_homogeneity`` return.

    Raises:
        BadInput: as those.
    """
    kept = dataset.sizes.get("kept", 0) if f"noise_kept_{kind}" in dataset else 0
    parts = [check_homogeneity(dataset, kind, groups=groups, confidence=confidence)]
    if kept >= LEAST:
        parts.append(check_normality(dataset, kind, confidence=confidence))
    else:
        parts.append(residual_shape(dataset, f"epsilon_{kind}", confidence=confidence))
    if kept >= 3:
        tests = (measure_pattern, check_whiteness, check_step_independence)
        parts += [test(dataset, kind, confidence=confidence) for test in tests]
    merged = xr.merge(parts, combine_attrs="override", compat="no_conflicts")
    return merged.assign_attrs(source=f"epsilon_{kind}")


def verdict_counts(tested: xr.Dataset) -> dict[str, dict[str, int]]:
    """How often each verdict was reached, by claim: over steps, for dependence over pairs of distinct steps.

    Args:
        tested: what :func:`check_assumptions` returned.
    """
    counts: dict[str, dict[str, int]] = {}
    for one in ASSUMPTIONS:
        if one.verdict not in tested:
            continue
        words = word(tested[one.verdict])
        if words.ndim == 2:
            words = words[np.triu_indices(len(words), 1)]
        names = tested[one.verdict].attrs["flag_meanings"].split()
        counts[one.claim] = {name: int((words == name).sum()) for name in names}
    return counts
