"""Claim: network gains are the squared derivatives of the sampling loop by epsilon at each step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from planted_noise import LATENT
from torch import nn

from noise_models.precision.gains import linear_gains
from noise_models.precision.network_gains import network_gains
from samplers import DDIM, DDPM, NoiseStream, advance
from samplers.coefficients import Earlier
from samplers.errors import BadInput
from samplers.state import FLOAT64
from simulator.models.registry import Model


class TwoStep(DDIM):
    """DDIM that also weighs what was predicted one and two calls before."""

    @property
    def updates(self):
        old = (Earlier(np.float64(-0.2), np.float64(0.3)), Earlier(np.float64(0.1), np.float64(0.05)))
        return tuple(dataclasses.replace(u, history=old[:i]) for i, u in enumerate(DDIM.updates.func(self)))


class Linear(nn.Module):
    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return 0.001 * timestep.float().reshape(-1, 1, 1, 1) * x


SAMPLERS = [DDIM(LATENT, 5), DDIM(LATENT, 5, eta=1.0), DDPM(LATENT, 4), TwoStep(LATENT, 5, eta=0.5)]
KINDS = [f"{type(s).__name__}-{i}" for i, s in enumerate(SAMPLERS)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=KINDS)
def test_network_gains__of_a_linear_network_are_the_linear_ones(sampler) -> None:
    """Signs have norm(u)^2 = d, so that a Jacobian of one number leaves nothing to chance."""
    model = Model("linear", 1, Linear(), LATENT, (2, 3, 3), "epsilon", "0" * 64)
    jacobian = np.array([0.001 * update.timestep for update in sampler.updates])
    found = network_gains(model, sampler, samples=3, batch_size=2)
    np.testing.assert_allclose(found, linear_gains(sampler, jacobian), rtol=1e-5)
    assert found.attrs["gains"] == "network"


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_network_gains__are_the_derivatives_through_the_whole_loop(tiny_model, prediction_type) -> None:
    model = dataclasses.replace(tiny_model, prediction_type=prediction_type)
    for sampler in (
        DDIM(model.schedule, 3, eta=0.5, prediction_type=prediction_type),
        TwoStep(model.schedule, 4, prediction_type=prediction_type),
    ):
        members = np.arange(2)
        noise = NoiseStream(0, "calibrate")
        x = noise.initial(members, model.sample_shape)
        struck = [torch.zeros_like(x, requires_grad=True) for _ in sampler.updates]
        earlier: tuple = ()
        for step, update in enumerate(sampler.updates):
            output = model.module(x.float(), update.timesteps(2)).double()
            given = sampler.predict(FLOAT64, update, x, output)
            epsilon = given.epsilon + struck[step]
            abar = float(update.alpha_cumprod)
            given = given._replace(epsilon=epsilon, x0=(x - (1 - abar) ** 0.5 * epsilon) / abar**0.5)
            z = noise.step(step, members, model.sample_shape) if update.noise_coefficient > 0 else None
            x = advance(FLOAT64, update, x, given, z, earlier)
            earlier = (given, *earlier)
        probes = NoiseStream(0, "calibrate:probes").initial(members, model.sample_shape)
        u = torch.where(probes < 0, -1.0, 1.0).double()
        expected = [g.flatten(1).square().mean(1).mean() for g in torch.autograd.grad((u * x).sum(), struck)]
        np.testing.assert_allclose(network_gains(model, sampler, samples=2), expected, rtol=2e-3)


def test_network_gains__refuse_clipped_samplers_and_no_samples(tiny_model) -> None:
    with pytest.raises(BadInput, match="linear updates"):
        network_gains(tiny_model, DDIM(tiny_model.schedule, 3, clip_sample=True))
    with pytest.raises(BadInput, match="samples"):
        network_gains(tiny_model, DDIM(tiny_model.schedule, 3), samples=1)
