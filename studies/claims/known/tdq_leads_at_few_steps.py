"""TDQ: with fewer sampling steps a static scale falls far behind, and TDQ keeps up with full precision.

The paper goes from 100 steps to 10 with networks trained at W8A4 and W4A4 on every timestep; here intervals are
fitted after training, on the steps of the longer run. SQNR is against full precision with the same number of steps,
so a method that only loses what full precision loses keeps its SQNR. 1 dB is a fifth of the noise.
"""

from __future__ import annotations

from collections.abc import Mapping

from samplers.ddim import DDIM
from simulator.calibration.intervals.generator import TDQ
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db
from studies.claims.timesteps import fit_of, observe, paired, static
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE

BITS = "w8a4"


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """One fit each, run with all steps and with a tenth of them."""
    observed, fit = observe(setting, seed, report), fit_of(setting)
    many = observed.sampler
    few = DDIM(many.schedule, max(setting.steps // 10, 2), prediction_type=observed.model.prediction_type)
    found = [observed.fitted(method, BITS, report, fit) for method in (TDQ(), static())]
    db = [
        list(map(final_db, paired([observed.network(f, BITS, s) for f in found], s, setting, seed, report)))
        for s in (few, many)
    ]
    tdq, one = db[0][0] - db[1][0], db[0][1] - db[1][1]
    return {"growth": tdq - one, "static": one, "tdq": tdq}


CLAIM = Claim(
    "tdq-leads-at-few-steps",
    "As sampling steps fall from 100 to 10, a static scale loses much more than scales that follow the timestep.",
    SOURCE,
    (
        Endpoint(
            "growth", "TDQ's lead over one scale, SQNR of the final sample, W8A4, 10 steps minus 100", "dB",
            Direction.ABOVE, 0.5,
        ),
        Endpoint("static", "SQNR of one scale, 10 steps minus 100", "dB", Direction.BELOW, -1.0),
        Endpoint("tdq", "SQNR of TDQ, 10 steps minus 100", "dB", Direction.ABOVE, -1.0),
    ),
    (Setting("digits-unet", samples=256, steps=100), Setting("digits-dit", samples=256, steps=100)),
    measure,
)  # fmt: skip
