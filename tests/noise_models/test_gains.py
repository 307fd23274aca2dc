"""Claim: the backward sweep gives each step's exact gain of an affine network, and that of injected noise of others."""

import math
from dataclasses import replace
from functools import cached_property

import numpy as np
import pytest
import torch

from noise_models.propagation.gains import noise_gains
from noise_models.propagation.transfer import noise_transfer
from samplers import DDIM, DDPM, BadInput, NoiseSchedule, NoiseStream, Update, sample
from samplers.coefficients import Earlier
from simulator.models.registry import Model

SCHEDULE = NoiseSchedule("scaled_linear", 1000, 0.0015, 0.0195)
SLOPES = torch.linspace(0.1, 0.9, 16).reshape(1, 4, 4)


class Affine(torch.nn.Module):
    """Another slope for every pixel, the same at all timesteps."""

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return SLOPES * x + 0.2


def model(module: torch.nn.Module, prediction_type: str = "epsilon") -> Model:
    return Model("made-up", 1, module, SCHEDULE, (1, 4, 4), prediction_type, "0" * 64)


class TwoStep(DDIM):
    """DDIM that also weighs what was predicted one and two calls before."""

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        old = (Earlier(np.float64(-0.2), np.float64(0.3)), Earlier(np.float64(0.1), np.float64(0.05)))
        return tuple(replace(u, history=old[:i]) for i, u in enumerate(super().updates))


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("kind", [DDIM, DDPM, TwoStep])
def test_gains__of_an_affine_network_are_the_exact_ones(kind, prediction_type: str) -> None:
    sampler = kind(SCHEDULE, 6, prediction_type=prediction_type)
    found = noise_gains(model(Affine(), prediction_type), sampler, samples=3, batch_size=2)
    expected = (noise_transfer(sampler, SLOPES.numpy().reshape(1, -1)) ** 2).mean(1)
    np.testing.assert_allclose(found.gain.values, expected, rtol=1e-5)  # the network runs in float32
    assert (found.gain_sample.std("sample") < 1e-6 * found.gain).all()


def test_gains__are_those_of_small_noise_added_to_a_network() -> None:
    class Curved(torch.nn.Module):
        def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x + 0.5 * x.roll(1, -1))

    sampler, count, size = DDIM(SCHEDULE, 5, 1.0), 200, 1e-3
    found = noise_gains(model(Curved()), sampler, samples=count, batch_size=50)
    at, noise = 2, NoiseStream(0, "predict")
    added = size * torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def final(extra: torch.Tensor) -> torch.Tensor:
        def denoise(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return Curved()(x, timestep) + (extra if int(timestep[0]) == sampler.updates[at].timestep else 0)

        return sample(denoise, sampler, noise, range(count), (1, 4, 4), denoiser_dtype=torch.float64)

    gain = ((final(added) - final(torch.zeros_like(added))) / size).square().flatten(1).mean(1)
    own = found.gain_sample.values[at]
    error = math.hypot(float(gain.std()), own.std()) / count**0.5
    assert abs(float(gain.mean()) - own.mean()) < 5 * error


def test_gains__refuse_bad_input() -> None:
    with pytest.raises(BadInput, match="clips x0"):
        noise_gains(model(Affine()), DDIM(SCHEDULE, 4, clip_sample=True))
    with pytest.raises(BadInput, match="samples must be an integer of at least 2"):
        noise_gains(model(Affine()), DDIM(SCHEDULE, 4), samples=1)
