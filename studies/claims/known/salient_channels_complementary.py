"""PTQ4DiT: channels that are salient in the activations are seldom salient in the weights.

Balancing moves what is large in one to the other, so it pays where the two are large in different channels. A tenth of
all channels counts as salient, so a tenth of them would coincide by chance; twice that would no longer be seldom. A
rank correlation of 0.1 is the customary smallest one that is called an effect at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.folding import salience_of_weight
from simulator.calibration.balancing.salience import collect_salience
from simulator.calibration.balancing.weighting import spearman
from studies.claims.channels import coincident
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import subject
from studies.claims.verdict import Direction
from studies.recipes.known.ptq4dit import RECIPE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Over all inputs that PTQ4DiT balances, and all steps."""
    model, sampler = subject(setting)
    salience = collect_salience(
        model, sampler, samples=setting.calibration_samples, seed=seed, batch_size=setting.batch_size
    )
    shares, ranks = [], []
    for found in graph_of(model).inputs:
        activations, weight = salience.of(found.readers), salience_of_weight(model.module, found)
        shares.append(coincident(activations, weight).mean())
        ranks.append(spearman(activations, weight).mean())
    return {"coincident": float(np.mean(shares)), "rank-correlation": float(np.mean(ranks))}


CLAIM = Claim(
    "salient-channels-complementary",
    "Channels with extreme magnitudes in the activations rarely have them in the weights.",
    RECIPE.source,
    (
        Endpoint(
            "coincident", "share of the 10 % largest channels of X that are among the 10 % largest of W", "1",
            Direction.BELOW, 0.2,
        ),
        Endpoint(
            "rank-correlation", "Spearman's rho over channels of max |X| at a step and max |W|", "1",
            Direction.BELOW, -0.1,
        ),
    ),
    (Setting("digits-dit"),),
    measure,
)  # fmt: skip
