"""Yang et al.: first and last step differ, and parameters are most robust where the noise is strongest."""

from __future__ import annotations

from collections.abc import Mapping

from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import injected_db, plain, runs
from studies.claims.verdict import Direction
from studies.recipes.known.one_step_groupwise import RECIPE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Injected SQNR of W8A8 along a run."""
    (run,) = runs([plain("w8a8", setting)], setting, seed, report, kinds=("injected",))
    db = injected_db(run)
    return {"difference": float(abs(db[0] - db[-1])), "lead": float(db[0] - db[1:].max())}


CLAIM = Claim(
    "first-step-most-robust",
    "The SQNR of the first and the last step differ; it is highest where the added noise is strongest.",
    RECIPE.source,
    (
        Endpoint("difference", "SQNR of epsilon, first against last step, W8A8", "dB", Direction.ABOVE, 1.0),
        Endpoint("lead", "SQNR of epsilon, first step minus the best of the others, W8A8", "dB", Direction.ABOVE, 0.0),
    ),
    (Setting("digits-dit"), Setting("digits-unet")),
    measure,
)
