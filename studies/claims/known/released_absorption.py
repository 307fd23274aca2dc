"""Of PTQD's released code: its absorption does not give the marginal back, as the published formula does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from noise_models.absorption.rule import absorb
from noise_models.exact.path import gaussian_path
from samplers.ddim import DDIM
from samplers.schedule import NoiseSchedule
from simulator.models.gaussian import Gaussian
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.verdict import Direction
from studies.recipes.known.ptqd import SOURCE

VARIANCE = 0.3**2
STEP = 9
"""Of 50: t = 801, where the sampler's own noise holds the added noise with room to spare."""


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Excess variance of x after the step, over that without absorption.

    An exact calculation for data N(0, 1) and independent noise on the exact epsilon: every seed gives the same.
    """
    sampler = DDIM(NoiseSchedule("scaled_linear", 1000, 0.0015, 0.0195), 50, 1.0)
    update = sampler.updates[STEP]
    data = Gaussian(np.zeros(1), np.ones(1))

    def variance(variant: str | None, added: float) -> float:
        used = update if variant is None else absorb(update, 0.0, VARIANCE, variant)
        path = gaussian_path(sampler, data, updates=[used], start=data, epsilon_variance=added)
        return float(path.variance[-1, 0])

    clean, noisy = variance(None, 0.0), variance(None, VARIANCE)
    return {name: (variance(name, VARIANCE) - clean) / (noisy - clean) for name in ("released", "paper")}


CLAIM = Claim(
    "released-absorption",
    "Lowering the sampler's noise absorbs the quantization noise; as released, the code leaves most of the excess.",
    SOURCE,
    (
        Endpoint("released", "excess variance that the released code leaves, of all of it", "1", Direction.ABOVE, 0.5),
        Endpoint("paper", "the same of the published formula", "1", Direction.BELOW, 1e-6),
    ),
    (Setting("gaussian", steps=50),),
    measure,
)
