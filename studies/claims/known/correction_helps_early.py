"""PTQD: correcting the correlated noise and the bias helps most at large t."""

from __future__ import annotations

from collections.abc import Mapping

from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import injected_db, plain, runs
from studies.claims.verdict import Direction
from studies.recipes.known.ptqd import SOURCE
from studies.recipes.stages.correction import FitCorrection


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """What the correction takes off W4A8's injected error on held-out samples."""
    fit = FitCorrection("ptqd-unabsorbed", setting.samples)
    before, after = runs(
        [plain("w4a8", setting), plain("w4a8", setting, fit)], setting, seed, report, kinds=("injected",)
    )
    gain, quarter = injected_db(after) - injected_db(before), max(setting.steps // 4, 1)
    return {"gain": float(gain.mean()), "lead": float(gain[:quarter].mean() - gain[-quarter:].mean())}


CLAIM = Claim(
    "correction-helps-early",
    "Correcting correlated noise and bias reduces the error, most of all at large t.",
    SOURCE,
    (
        Endpoint("gain", "SQNR of epsilon, corrected minus not, mean over steps, W4A8", "dB", Direction.ABOVE, 0.1),
        Endpoint("lead", "that gain in the first quarter of the steps minus the last", "dB", Direction.ABOVE, 0.1),
    ),
    (Setting("digits-unet"), Setting("digits-dit")),
    measure,
)
