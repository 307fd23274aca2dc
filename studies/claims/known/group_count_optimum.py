"""PTQ-AttnDM: attention channels in groups are better than in one, and about eight groups are best.

Each doubling of the groups inside a head doubles the partial sums. 0.2 dB is the least for which one would double them
(5 % of the noise); the step from one range to eight is another kernel, which needs 0.5 dB. Eight are the optimum if
they are worth it over four, and sixteen are not worth it over eight.
"""

from __future__ import annotations

from collections.abc import Mapping

from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.head_groups import HeadGroupRanges, head_group_rule
from studies.claims.known.attention_8_bits import SOURCE
from studies.claims.measuring import final_db, runs
from studies.claims.verdict import Direction
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.scheme import UseScheme

GROUPS = (1, 4, 8, 16)


def grouped(groups: int, setting: Setting) -> Recipe:
    """W8A8 with so many groups of query, key, value and of the output projection's input."""
    stages = (
        UseScheme("w8a8", (head_group_rule(max(GROUPS)),)),
        HeadGroupRanges(groups, setting.calibration_samples),
    )
    return Recipe(f"groups-{groups}", "W8A8, attention in groups.", Source("", "", ""), stages)


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """All four numbers of groups on the same samples."""
    found = runs([grouped(n, setting) for n in GROUPS], setting, seed, report, kinds=("accumulated",))
    one, four, eight, sixteen = map(final_db, found)
    return {"eight-over-one": eight - one, "eight-over-four": eight - four, "sixteen-over-eight": sixteen - eight}


CLAIM = Claim(
    "group-count-optimum",
    "Quantizing attention channels in head-aligned groups helps, most with about eight groups.",
    SOURCE,
    (
        Endpoint("eight-over-one", "SQNR of the final sample, 8 groups minus 1, W8A8", "dB", Direction.ABOVE, 0.5),
        Endpoint("eight-over-four", "the same, 8 groups minus 4", "dB", Direction.ABOVE, 0.2),
        Endpoint("sixteen-over-eight", "the same, 16 groups minus 8", "dB", Direction.BELOW, 0.2),
    ),
    (Setting("digits-dit", samples=192, steps=20), Setting("digits-unet", steps=20)),
    measure,
)
