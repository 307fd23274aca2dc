"""Yang et al.: calibrating on the noisiest step alone beats calibrating on all."""

from __future__ import annotations

from collections.abc import Mapping

from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db, injected_db, plain, runs
from studies.claims.verdict import Direction
from studies.recipes.known.one_step_groupwise import RECIPE
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import Steps, TrajectoryRanges


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """W8A8 with ranges of the first step, and of all."""
    first = Recipe(
        "first-step",
        "W8A8.",
        Source("", "", ""),
        (TrajectoryRanges(setting.calibration_samples, steps=Steps.NOISIEST),),
    )
    one, every = runs([first, plain("w8a8", setting)], setting, seed, report)
    return {
        "final": final_db(one) - final_db(every),
        "injected": float(injected_db(one).mean() - injected_db(every).mean()),
    }


CLAIM = Claim(
    "one-step-calibration",
    "Activation ranges of the single noisiest step serve better than ranges of all steps.",
    RECIPE.source,
    (
        Endpoint(
            "final", "SQNR of the final sample, one step's ranges minus all steps', W8A8", "dB", Direction.ABOVE, 0.5
        ),
        Endpoint("injected", "the same of epsilon at the same x_t, mean over steps", "dB", Direction.ABOVE, 0.5),
    ),
    (Setting("digits-dit"), Setting("digits-unet")),
    measure,
)
