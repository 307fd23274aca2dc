"""PTQ4DiT: which activation channels are salient, and how large channels are, changes over the timesteps.

Factors that serve all steps are wrong for a quarter of the salient channels if a quarter of them are others at the end.
What other samples alone would change is taken off. A factor of 2 between a channel's smallest and largest maximum is a
bit of range that a static scale loses.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.salience import collect_salience
from studies.claims.channels import halves, moved
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import subject
from studies.claims.verdict import Direction
from studies.recipes.known.ptq4dit import RECIPE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Over all inputs that PTQ4DiT balances."""
    model, sampler = subject(setting)
    samples = setting.calibration_samples
    salience = collect_salience(model, sampler, variant="released", samples=samples, seed=seed, batch_size=samples)
    inputs = [halves(salience, found.readers, setting.steps) for found in graph_of(model).inputs]
    spans = [each.max(1) for each in inputs]
    return {
        "moved": float(np.mean([moved(each[0], each[-1]) for each in inputs])),
        "span": float(np.mean([np.median(np.log2(each.max(0) / each.min(0))) for each in spans])),
    }


CLAIM = Claim(
    "salient-channels-move",
    "The magnitudes of activation channels, and which of them are salient, vary over the timesteps.",
    RECIPE.source,
    (
        Endpoint(
            "moved", "share of the 10 % largest channels that are others at the last step than at the first, beyond "
            "that between halves of the samples", "1", Direction.ABOVE, 0.25,
        ),
        Endpoint(
            "span", "largest over smallest max |X_j| of the steps, median over channels, mean over layers", "bit",
            Direction.ABOVE, 1.0,
        ),
    ),
    (Setting("digits-dit", calibration_samples=128),),
    measure,
)  # fmt: skip
