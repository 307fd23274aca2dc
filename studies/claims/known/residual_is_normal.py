"""PTQD: what is left of the noise follows a normal distribution."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from noise_models.assumptions.normality import residual_shape
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import plain, runs
from studies.claims.verdict import Direction
from studies.recipes.known.ptqd import SOURCE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Effect sizes of the residual of W4A8: a test alone would only say how many samples there were."""
    (run,) = runs([plain("w4a8", setting)], setting, seed, report, kinds=("injected",))
    found = residual_shape(run, "epsilon_injected")
    return {
        "skewness": float(np.abs(found.skewness.values).max()),
        "excess-kurtosis": float(np.abs(found.excess_kurtosis.values).max()),
    }


CLAIM = Claim(
    "residual-is-normal",
    "The noise that is not correlated with the output is Gaussian.",
    SOURCE,
    (
        Endpoint("skewness", "largest |skewness| of the residual at any step, W4A8", "1", Direction.BELOW, 0.5),
        Endpoint("excess-kurtosis", "largest |excess kurtosis| at any step, W4A8", "1", Direction.BELOW, 1.0),
    ),
    (Setting("digits-unet"), Setting("digits-dit")),
    measure,
)
