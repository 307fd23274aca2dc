"""TDQ: a generator trained on all 1000 timesteps serves runs of 10 to 100 steps.

The paper trains networks; here generators are fitted after training, W8A4, to points of all 1000 timesteps, and held
against generators fitted to the very steps of the run, from equally many points. Half a dB, 11 % of the noise, is
what one might give away for fitting once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from simulator.calibration.intervals.generator import TDQ
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db
from studies.claims.timesteps import Observed, fit_of, observe, paired
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE

BITS = "w8a4"


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """One fit for every number of steps, against one of each."""

    def at(steps: int, points: int) -> Observed:
        """20 points for each of the setting's calibration samples, from as many trajectories as that takes."""
        points = min(points, steps)
        trajectories = max(20 * setting.calibration_samples // points, 1)
        where = dataclasses.replace(setting, steps=steps, calibration_samples=trajectories)
        return observe(where, seed, report, points=points, elements=128)

    fit = fit_of(setting)
    every = at(10 * setting.steps, 80)
    once = every.fitted(TDQ(), BITS, report, fit)
    found = {}
    for name, steps in (("ten", max(setting.steps // 10, 2)), ("hundred", setting.steps)):
        own = at(steps, 20)
        networks = [own.network(intervals, BITS) for intervals in (once, own.fitted(TDQ(), BITS, report, fit))]
        transferred, fresh = map(final_db, paired(networks, own.sampler, setting, seed, report))
        found[name] = transferred - fresh
    return found


CLAIM = Claim(
    "tdq-transfers",
    "Scales learned over 1000 timesteps serve runs of 10 to 100 steps as well as scales learned for these runs.",
    SOURCE,
    (
        Endpoint(
            "ten", "SQNR of the final sample after 10 steps, W8A4, fitted on 1000 timesteps minus on those 10", "dB",
            Direction.ABOVE, -0.5,
        ),
        Endpoint("hundred", "the same after 100 steps, minus fitted on those 100", "dB", Direction.ABOVE, -0.5),
    ),
    (Setting("digits-unet", samples=256, steps=100), Setting("digits-dit", samples=256, steps=100)),
    measure,
)  # fmt: skip
