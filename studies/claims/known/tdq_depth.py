"""TDQ: its generator needs four layers, and no more.

The paper's table 4 has FID 5.18, 4.48 and 4.88 for 2, 4 and 8 layers, trained at W4A4; here the generators are fitted
after training, W8A4. Depth is free at run time, where a table stands in for the generator, so that a quarter of a dB
(6 % of the noise) would already decide for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.calibration.intervals.generator import TDQ
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import injected_db
from studies.claims.timesteps import fit_of, observe, paired
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE

BITS = "w8a4"


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """2, 4 and 8 layers, fitted to the same operands."""
    observed, fit = observe(setting, seed, report), fit_of(setting)
    networks = [observed.network(observed.fitted(TDQ(layers=n), BITS, report, fit), BITS) for n in (2, 4, 8)]
    found = paired(networks, observed.sampler, setting, seed, report, kinds=("injected",))
    two, four, eight = (float(injected_db(run).mean()) for run in found)
    return {"two-to-four": four - two, "four-to-eight": eight - four}


CLAIM = Claim(
    "tdq-depth",
    "A generator of four layers is better than one of two; more layers than four change little.",
    SOURCE,
    (
        Endpoint(
            "two-to-four", "SQNR of epsilon, mean over steps, W8A4, 4 layers minus 2", "dB", Direction.ABOVE, 0.25
        ),
        Endpoint("four-to-eight", "the same, 8 layers minus 4", "dB", Direction.BELOW, 0.25),
    ),
    (Setting("digits-unet", samples=256), Setting("digits-dit", samples=256)),
    measure,
)
