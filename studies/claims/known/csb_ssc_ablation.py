"""PTQ4DiT's ablation: salience balancing helps, and weighting it over the timesteps helps further.

Half a decibel of the final sample's SQNR is 11 % of the noise: less is no reason to change a network.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.calibration.balancing.rules import OverPoints, SalienceBalancing
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db, plain, runs
from studies.claims.transformed import transformed
from studies.claims.verdict import Direction
from studies.recipes.known.ptq4dit import RECIPE
from studies.recipes.stages.transforms import BalanceChannels


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """W4A8: as it is, balanced by the largest salience of all steps, and by the weighted one."""
    csb, ssc = (
        transformed(over.value, "w4a8", setting, BalanceChannels(SalienceBalancing(over)))
        for over in (OverPoints.MAXIMUM, OverPoints.SPEARMAN)
    )
    found = runs([plain("w4a8", setting), csb, ssc], setting, seed, report, kinds=("accumulated",))
    before, balanced, weighted = map(final_db, found)
    return {"csb": balanced - before, "ssc": weighted - balanced}


CLAIM = Claim(
    "csb-ssc-ablation",
    "Balancing salient channels improves W4A8, and guiding it over the timesteps by Spearman's rho improves it more.",
    RECIPE.source,
    (
        Endpoint("csb", "SQNR of the final sample, CSB alone minus min-max, W4A8", "dB", Direction.ABOVE, 0.5),
        Endpoint("ssc", "the same, CSB with SSC minus CSB alone", "dB", Direction.ABOVE, 0.5),
    ),
    (Setting("digits-dit"),),
    measure,
)
