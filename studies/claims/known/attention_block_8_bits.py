"""PTQ-AttnDM: a whole self-attention block, projections included, is much safer at eight bits than at four.

``attention-8-bits`` narrows the two products alone; the paper's blocks quantize their projections too. Twice the noise
power (3 dB) is what "much" has to mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.instrument.scheme import Rule, Settings
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.known.attention_8_bits import SOURCE
from studies.claims.measuring import final_db, plain, runs
from studies.claims.verdict import Direction
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.scheme import UseScheme

BLOCK = ("@attention", "@query", "@key", "@value", "@output")


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """W8A8, and the same with weights and activations of attention at four bits."""
    stages = (
        UseScheme("w8a8", (Rule(BLOCK, Settings(weight_bits=4, activation_bits=4)),)),
        TrajectoryRanges(setting.calibration_samples),
    )
    narrow = Recipe("attention-4", "W8A8, attention W4A4.", Source("", "", ""), stages)
    eight, four = map(final_db, runs([plain("w8a8", setting), narrow], setting, seed, report, kinds=("accumulated",)))
    return {"loss": eight - four}


CLAIM = Claim(
    "attention-block-8-bits",
    "Self-attention with its projections at eight bits is much safer than at four.",
    SOURCE,
    (
        Endpoint(
            "loss", "SQNR of the final sample, w8a8 minus the same with projections and products of attention at W4A4",
            "dB", Direction.ABOVE, 3.0,
        ),
    ),
    (Setting("digits-dit"), Setting("digits-unet")),
    measure,
)  # fmt: skip
