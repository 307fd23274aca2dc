"""Claim: where the network predicts the variance, absorption takes its share out of each element's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted_noise import CONFIG, planted, recorded_run

from noise_models import FreshNoise, absorb, fit_ptqd
from noise_models.absorption.absorbable import require_absorbing
from samplers import DDPM, BadInput, NoiseSchedule

SAMPLER = DDPM(NoiseSchedule(), 10, "learned_range")
UPDATE = SAMPLER.updates[3]


def test_absorb__of_a_learned_sigma_restores_each_elements_variance_as_far_as_it_reaches() -> None:
    update, k, q = UPDATE, 0.1, 0.56
    values = torch.linspace(-1, 1, 9, dtype=torch.float64)
    added = (update.b / (1 + k)) ** 2 * q  # variance of the residual noise in x_{t-1}
    before, after = (made.learned.sigma(values) ** 2 for made in (update, absorb(update, k, q)))
    assert (before < added).any()
    assert (before > added).any()
    torch.testing.assert_close(after + added, before.clamp(min=added), rtol=1e-12, atol=0)
    assert absorb(update, k, 0.0) is update


def test_ptqd__absorbs_by_element_where_a_number_per_step_is_refused() -> None:
    config = dict(SAMPLER.config())
    require_absorbing(config, by_element=True)
    with pytest.raises(BadInput, match="one fresh noise for all elements"):
        require_absorbing(config)
    fit = fit_ptqd(recorded_run(*planted(1, [0.1], [[0.0]], [0.2], samples=16), sampler=config))
    use = {**CONFIG, "sampler": config, "purpose": "evaluate"}
    fit.check(use)
    with pytest.raises(BadInput, match="one fresh noise for all elements"):
        FreshNoise(fit, np.zeros(1)).check(use)
    assert fit.update(0, UPDATE).learned.absorbed > 0
