"""PTQD: the residual noise can almost always be absorbed into the sampler's own."""

from __future__ import annotations

from collections.abc import Mapping

from noise_models.absorption.account import Residual, account_absorption
from noise_models.correction.ptqd import PTQD
from samplers.sampler import Sampler
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import plain, prepared, subject
from studies.claims.verdict import Direction
from studies.recipes.known.ptqd import SOURCE
from studies.recipes.stages.correction import FitCorrection


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Share of noisy steps whose own noise holds the residual's, W4A4, eta 1."""
    fit = FitCorrection("ptqd", setting.samples)
    (made,) = prepared([plain("w4a4", setting, fit)], setting, seed, report, eta=1.0)
    assert isinstance(made.correction, PTQD)
    return {"share": share(subject(setting, eta=1.0)[1], made.correction)}


def share(sampler: Sampler, fit: Residual) -> float:
    """Of the steps that add noise; the last, which ends at abar = 1, adds none and so can absorb nothing."""
    account = account_absorption(sampler, fit)
    return float((account.remaining_variance[account.sigma > 0] <= 0).mean())


CLAIM = Claim(
    "almost-always-absorbable",
    "The variance of the sampler's own noise almost always exceeds that of the quantization noise.",
    SOURCE,
    (
        Endpoint(
            "share", "share of the 19 noisy of 20 steps at eta 1 whose variance holds the residual's, W4A4", "1",
            Direction.ABOVE, 0.9,
        ),
    ),
    (Setting("digits-unet", steps=20), Setting("digits-dit", steps=20)),
    measure,
)  # fmt: skip
