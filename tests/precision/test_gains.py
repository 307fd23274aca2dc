"""Claim: a gain is the squared response of the final sample to a unit of epsilon at one step, as the loop gives it."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import pytest
import torch
from planted_noise import LATENT

from noise_models.precision.gains import (
    GAINS,
    gains_named,
    gaussian_gains,
    linear_gains,
    one_step_gains,
    sampler_gains,
    uniform_gains,
)
from samplers import DDIM, DDPM, NoiseStream, sample
from samplers.coefficients import Earlier, Update
from samplers.errors import BadInput


class TwoStep(DDIM):
    """DDIM that also weighs what was predicted one and two calls before."""

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        old = (Earlier(np.float64(-0.2), np.float64(0.3)), Earlier(np.float64(0.1), np.float64(0.05)))
        return tuple(dataclasses.replace(u, history=old[:i]) for i, u in enumerate(super().updates))


SAMPLERS = [DDIM(LATENT, 6), DDIM(LATENT, 6, eta=1.0), DDPM(LATENT, 5), TwoStep(LATENT, 5, eta=0.5)]


def responses(sampler, jacobian) -> np.ndarray:
    """Final sample with and without a unit of epsilon at each step, in the sampler's own loop."""

    def final(struck: int | None) -> float:
        step = 0

        def denoise(x, timestep):
            nonlocal step
            output = float(jacobian[step]) * x + (1.0 if step == struck else 0.0)
            step += 1
            return output

        return sample(denoise, sampler, NoiseStream(0, "evaluate"), range(1), (1,)).item()

    return np.array([final(step) for step in range(len(sampler.updates))]) - final(None)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{type(s).__name__}-{len(s.updates)}")
def test_gains__are_the_responses_of_the_loop(sampler) -> None:
    n = len(sampler.updates)
    for jacobian in (np.zeros(n), np.linspace(0.9, -0.3, n)):
        found = linear_gains(sampler, jacobian)
        # the loop hands the network float32
        np.testing.assert_allclose(found, responses(sampler, jacobian) ** 2, rtol=2e-4, atol=1e-9)
    abar = np.array([float(u.alpha_cumprod) for u in sampler.updates])
    for v in (1.0, 0.25):
        slope = np.sqrt(1 - abar) / (abar * v + 1 - abar)
        np.testing.assert_array_equal(gaussian_gains(sampler, v), linear_gains(sampler, slope))


def test_gains__of_ddim_are_the_closed_products() -> None:
    sampler = SAMPLERS[1]
    a, b = (np.array([getattr(u, name) for u in sampler.updates]) for name in "ab")
    later = np.array([np.prod(a[step + 1 :] ** 2) for step in range(len(a))])
    np.testing.assert_allclose(sampler_gains(sampler), b**2 * later, rtol=1e-12)
    np.testing.assert_allclose(one_step_gains(sampler), b**2)
    np.testing.assert_array_equal(uniform_gains(sampler), 1)


def test_gaussian_gains__of_ddim_towards_its_own_data_carry_the_ratio_of_deviations() -> None:
    """With v = 1 the exact flow keeps x_t ~ N(0, 1): what is carried changes by the sampler's error only."""
    sampler = DDIM(LATENT, 400)
    gains, one_step = gaussian_gains(sampler), one_step_gains(sampler)
    np.testing.assert_allclose(gains[200:] / one_step[200:], 1, atol=0.05)
    assert float(sampler_gains(sampler)[0] / one_step[0]) > 30  # what the Jacobian takes out


def test_gains__say_what_they_are_and_for_which_sampler() -> None:
    for name in GAINS:
        found = gains_named(name, SAMPLERS[0])
        assert found.attrs["gains"].startswith(name)
        assert found.attrs["sampler"] != gains_named(name, SAMPLERS[1]).attrs["sampler"]
    with pytest.raises(BadInput, match="gains must be"):
        gains_named("jacobian", SAMPLERS[0])


def test_gains__refuse_clipped_samplers_and_jacobians_of_other_shapes() -> None:
    clipped = DDIM(LATENT, 4, clip_sample=True)
    for make in (one_step_gains, sampler_gains, gaussian_gains):
        with pytest.raises(BadInput, match="linear updates"):
            make(clipped)
    for jacobian in ([0.0], [0.0, 0.0, 0.0, np.nan, 0.0, 0.0]):
        with pytest.raises(BadInput, match="Jacobian"):
            linear_gains(SAMPLERS[0], jacobian)
    with pytest.raises(BadInput, match="variance"):
        gaussian_gains(SAMPLERS[0], -1.0)


def test_torch__is_what_the_loop_runs_on() -> None:
    assert torch.is_tensor(sample(lambda x, t: x, SAMPLERS[0], NoiseStream(0, "evaluate"), range(1), (1,)))
