"""Yang et al.: group-wise weight scales restore four-bit weights."""

from __future__ import annotations

from collections.abc import Mapping

from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db, plain, runs
from studies.claims.verdict import Direction
from studies.recipes.known.one_step_groupwise import RECIPE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """W4A8 with a scale per channel and per group of 16, and W8A8."""
    schemes = ("w4a8", "w4g16a8", "w8a8")
    channel, group, eight = map(final_db, runs([plain(s, setting) for s in schemes], setting, seed, report))
    return {"gain": group - channel, "restored": (group - channel) / (eight - channel)}


CLAIM = Claim(
    "groupwise-restores-w4",
    "Scales shared by groups of input channels restore the quality that four-bit weights lose.",
    RECIPE.source,
    (
        Endpoint("gain", "SQNR of the final sample, w4g16a8 minus w4a8", "dB", Direction.ABOVE, 1.0),
        Endpoint("restored", "that gain over the gap between w4a8 and w8a8", "1", Direction.ABOVE, 0.5),
    ),
    (Setting("digits-dit"), Setting("digits-unet")),
    measure,
)
