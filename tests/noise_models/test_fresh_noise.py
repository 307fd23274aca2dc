"""Claim: a sigma per step replaces the sampler's fresh noise and nothing else."""

import numpy as np
import pytest
import torch
from planted_noise import CONFIG, SAMPLER, planted, recorded_run

from noise_models import FreshNoise, fit_ptqd
from samplers import DDIM, BadInput
from simulator.correction import NoCorrection

C = np.array([update.c for update in SAMPLER.updates])


def test_fresh_noise__changes_sigma_alone() -> None:
    ptqd = fit_ptqd(recorded_run(*planted(1, [0.1], [[0.2]], [0.3], samples=16)), absorb=False)
    wrapped = FreshNoise(ptqd, C / 2)
    update = wrapped.update(3, SAMPLER.updates[3])
    assert update == SAMPLER.updates[3].with_noise(C[3] / 2)
    x = torch.randn(2, 1, 5)
    assert torch.equal(wrapped.epsilon(0, x, np.arange(2)), ptqd.epsilon(0, x, np.arange(2)))
    assert wrapped.input(0, x) is x
    assert FreshNoise(NoCorrection(), C).update(3, SAMPLER.updates[3]) is SAMPLER.updates[3]
    assert wrapped.config() != FreshNoise(ptqd, C / 3).config()


def test_fresh_noise__replaces_what_the_correction_absorbed_too() -> None:
    absorbing = fit_ptqd(recorded_run(*planted(1, [0.1] * 4, [[0.2]] * 4, [0.3] * 4, samples=16)))
    assert absorbing.update(3, SAMPLER.updates[3]).c < C[3]
    assert FreshNoise(absorbing, C).update(3, SAMPLER.updates[3]).c == C[3]


def test_fresh_noise__refuses_more_noise_than_the_sampler_has_and_clipped_updates() -> None:
    with pytest.raises(BadInput, match="at most"):
        FreshNoise(NoCorrection(), 1.1 * C).update(2, SAMPLER.updates[2])
    with pytest.raises(BadInput, match="one entry per step"):
        FreshNoise(NoCorrection(), C[:2]).update(2, SAMPLER.updates[2])
    with pytest.raises(BadInput):
        FreshNoise(NoCorrection(), -C)
    clipped = DDIM(SAMPLER.schedule, 50, eta=1.0, clip_sample=True).config()
    with pytest.raises(BadInput, match="linear update"):
        FreshNoise(NoCorrection(), C).check({**CONFIG, "sampler": clipped})
    with pytest.raises(BadInput, match="51 for 50 steps"):
        FreshNoise(NoCorrection(), np.append(C, 0.0)).update(49, SAMPLER.updates[49])


def test_ptqd__refuses_to_absorb_under_clipping_and_corrects_without() -> None:
    clipped = DDIM(SAMPLER.schedule, 50, eta=1.0, clip_sample=True).config()
    run = recorded_run(*planted(1, [0.1], [[0.2]], [0.3], samples=16), sampler=clipped)
    use = {**CONFIG, "sampler": clipped, "purpose": "evaluate"}
    with pytest.raises(BadInput, match="linear update"):
        fit_ptqd(run).check(use)
    fit_ptqd(run, absorb=False).check(use)
