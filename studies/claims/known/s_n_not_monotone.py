"""TDQ: more scales over time are not always better; one for each of 1000 timesteps is worse than one for each ten.

The paper's table of S_1, S_10, S_50, S_100 and S_1000 is of W4A4 and W3A3 networks trained for long; there S_1000 is
worse than S_100 in all four rows, and S_100 better than S_1. Here the scales are fitted after training to points of
all 1000 timesteps, W8A4, all with the same data and iterations: enough for each of 1000 scales to be drawn 64 times.
``reversal`` asks for any rise and fall among the four, whichever they are; its mean over seeds is that of single
tables, as the paper's is, and cannot be negative.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from samplers.ddim import DDIM
from simulator.calibration.intervals.segments import Segments
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import final_db
from studies.claims.series import reversal
from studies.claims.timesteps import fit_of, observe, paired
from studies.claims.verdict import Direction
from studies.recipes.known.s_n import RECIPE

COUNTS = (1, 10, 100, 1000)
BITS = "w8a4"
TRAINED = 20
"""Times as many steps as are sampled: 1000 for 50."""


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """S_1 to S_1000 on one trajectory of every timestep, run with the setting's steps."""
    longer = dataclasses.replace(setting, steps=TRAINED * setting.steps)
    observed = observe(longer, seed, report, points=80, elements=128)
    sampler = DDIM(observed.sampler.schedule, setting.steps, prediction_type=observed.model.prediction_type)
    fit = fit_of(setting, iterations=1000, timesteps=64)
    networks = [
        observed.network(observed.fitted(Segments.uniform(count), BITS, report, fit), BITS, sampler) for count in COUNTS
    ]
    db = list(map(final_db, paired(networks, sampler, setting, seed, report)))
    return {"rise": db[2] - db[0], "fall": db[2] - db[3], "reversal": reversal(db)}


CLAIM = Claim(
    "s-n-not-monotone",
    "Quality does not grow with the number of scales over time: it rises first, and falls again.",
    RECIPE.source,
    (
        Endpoint("rise", "SQNR of the final sample, S_100 minus S_1, W8A4", "dB", Direction.ABOVE, 0.5),
        Endpoint("fall", "SQNR of the final sample, S_100 minus S_1000, W8A4", "dB", Direction.ABOVE, 0.5),
        Endpoint(
            "reversal", "smaller of the largest rise and the largest fall of that SQNR along S_1, S_10, S_100, S_1000",
            "dB", Direction.ABOVE, 0.5,
        ),
    ),
    (
        Setting("digits-unet", samples=256, calibration_samples=64),
        Setting("digits-dit", samples=256, calibration_samples=64),
    ),
    measure,
)  # fmt: skip
