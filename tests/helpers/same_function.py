"""Small networks with every weight random, and how far two networks' float outputs lie apart."""

from __future__ import annotations

import torch
from torch import nn

from samplers.schedule import NoiseSchedule
from simulator.models.derived import derive
from simulator.models.dit import DiT, DiTConfig
from simulator.models.registry import Condition, Model
from simulator.models.unet import UNet, UNetConfig

TOLERANCE = 1e-5
"""Of the largest difference, relative to the largest output."""


def perturbed(model: Model, size: float = 0.2) -> Model:
    """The model with every parameter moved by ``size`` times its own spread, zeros (adaLN at the start) by ``size``."""

    def move(module: nn.Module) -> None:
        generator = torch.Generator().manual_seed(3)
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += size * (float(parameter.abs().mean()) or 1.0) * noise

    return derive(model, move, "perturbed")


def small_dit() -> Model:
    """A DiT of width 24 with random weights throughout, its modulations too."""
    config = DiTConfig(width=24, depth=2, heads=2, mlp_width=36, condition_width=12, classes=3)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module = DiT(config).eval().requires_grad_(False)
    conditions = (Condition("label", null=-1),)
    model = Model("small-dit", 1, module, NoiseSchedule(), (1, 8, 8), "epsilon", "", 3, conditions=conditions)
    return perturbed(model)


def small_unet(channels: tuple[int, int] = (16, 16)) -> Model:
    """A UNet of 16 channels with random weights throughout."""
    config = UNetConfig(channels=channels, time_channels=16, head_channels=8, groups=4)
    with torch.random.fork_rng():
        torch.manual_seed(8)
        module = UNet(config).eval().requires_grad_(False)
    return perturbed(Model("small-unet", 1, module, NoiseSchedule(), (1, 8, 8), "epsilon", ""))


def output(model: Model, samples: int = 6) -> torch.Tensor:
    """The network's float output for seeded samples at random timesteps, with labels where it takes them."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, *model.sample_shape, generator=generator)
    timestep = torch.randint(0, 1000, (samples,), generator=generator)
    given = {}
    if model.classes is not None:
        given["label"] = torch.randint(0, model.classes, (samples,), generator=generator)
    with torch.no_grad():
        if model.call is not None:
            return model.call(model.module, x, timestep, **given)
        return model.module(x, timestep, **given)


def error(model: Model, other: Model) -> float:
    """The largest difference of two networks' outputs, relative to the largest output."""
    expected = output(model)
    return float((output(other) - expected).abs().max() / expected.abs().max())
