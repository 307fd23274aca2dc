"""Small modules as models, and a look at what a site computes."""

from __future__ import annotations

import torch
from torch import nn

from samplers.schedule import NoiseSchedule
from simulator.instrument.contractions import Contraction
from simulator.instrument.forward import forward
from simulator.instrument.sites import SiteKey
from simulator.models.registry import Model


class Ignoring(nn.Module):
    """``body(x)``; the timestep is not read."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Calls(nn.Module):
    """``function(x)``."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def as_model(module: nn.Module, shape: tuple[int, ...]) -> Model:
    """A registry Model of any module called with (x, timestep)."""
    module = module.eval().requires_grad_(False)
    return Model("test", 1, module, NoiseSchedule(), shape, "epsilon", "0" * 64)


def keep_float(site: SiteKey, contraction: Contraction) -> torch.Tensor:
    """Handler: the float operation."""
    return contraction.float()


def visited(module: nn.Module, x: torch.Tensor) -> list[str]:
    """Names of the sites in execution order."""
    seen: list[str] = []

    def note(site: SiteKey, contraction: Contraction) -> torch.Tensor:
        seen.append(str(site))
        return contraction.float()

    forward(module, note, x, torch.zeros(len(x), dtype=torch.long))
    return seen
