"""PTQ-AttnDM: the key projection tolerates fewer bits than query, value and output."""

from __future__ import annotations

from collections.abc import Mapping

from simulator.instrument.scheme import Rule, Settings
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.known.attention_8_bits import SOURCE
from studies.claims.measuring import injected_db, runs
from studies.claims.verdict import Direction
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.scheme import UseScheme

PROJECTIONS = ("query", "key", "value", "output")


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """W8A8 with the weights of one projection at 3 bits, each in turn."""

    def narrow(projection: str) -> Recipe:
        rule = Rule((f"@{projection}",), Settings(weight_bits=3))
        stages = (UseScheme("w8a8", (rule,)), TrajectoryRanges(setting.calibration_samples))
        return Recipe(projection, projection, Source("", "", ""), stages)

    found = runs([narrow(name) for name in PROJECTIONS], setting, seed, report, kinds=("injected",))
    query, key, value, output = (float(injected_db(run).mean()) for run in found)
    return {"query": key - query, "value": key - value, "output": key - output}


CLAIM = Claim(
    "key-tolerates-fewer-bits",
    "The key projection can be compressed further than the query, value and output projections.",
    SOURCE,
    tuple(
        Endpoint(
            name, f"SQNR of epsilon, mean over steps: 3-bit weights of key minus of {name}", "dB", Direction.ABOVE, 0.5
        )
        for name in ("query", "value", "output")
    ),
    (Setting("digits-dit"), Setting("digits-unet")),
    measure,
)
