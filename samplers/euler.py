"""Euler's method on the probability-flow ODE, and its ancestral form (Karras et al. 2022; k-diffusion).

With y = x / sqrt(abar), sigma = sqrt(1 - abar) / sqrt(abar) and the derivative dy/dsigma = (y - x0) / sigma = epsilon:

- Euler: y' = y + (sigma' - sigma) (y - x0) / sigma.
- ancestral: sigma_up^2 = sigma'^2 (sigma^2 - sigma'^2) / sigma^2, sigma_down^2 = sigma'^2 - sigma_up^2,
  y' = y + (sigma_down - sigma) (y - x0) / sigma + sigma_up z.

Both are written in x0 and x, so that a clipped x0 bends the derivative as it does in diffusers' Heun. Euler is DDIM
with eta = 0 on the same nodes, ancestral is DDIM with eta = 1 (and DDPM with fixed_small).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from samplers import sigma_nodes
from samplers.coefficients import Node, Update
from samplers.sigma_method import SigmaMethod
from samplers.sigma_nodes import Floats
from samplers.validation import require_choice

INTERPOLATION_TYPES = ("linear", "log_linear")


def sigma_of(node: Node) -> np.float64:
    """sigma = sqrt(1 - abar) / sqrt(abar), float64."""
    abar = np.float64(node.alpha_cumprod)
    return np.sqrt(1 - abar) / np.sqrt(abar)


def euler_update(here: Node, there: Node, sigma_down: np.float64, sigma_up: np.float64) -> Update:
    """From ``here`` along the derivative to level ``sigma_down``, then noise up to ``there``.

    y' = (sigma_down / sigma) y + (1 - sigma_down / sigma) x0 + sigma_up z, times sqrt(abar').
    """
    abar, abar_next = np.float64(here.alpha_cumprod), np.float64(there.alpha_cumprod)
    kept = sigma_down / sigma_of(here)
    return Update(
        timestep=here.timestep,
        previous_timestep=there.timestep,
        alpha_cumprod=abar,
        alpha_cumprod_previous=abar_next,
        x0_coefficient=np.sqrt(abar_next) * (1 - kept),
        x_coefficient=np.sqrt(abar_next / abar) * kept,
        epsilon_coefficient=np.float64(0),
        noise_coefficient=np.sqrt(abar_next) * sigma_up,
    )


def euler_updates(nodes: Sequence[Node]) -> tuple[Update, ...]:
    """Euler's method over ``nodes``, abar rising from one to the next and above 0."""
    return tuple(euler_update(here, there, sigma_of(there), np.float64(0)) for here, there in pairwise(nodes))


def euler_ancestral_updates(nodes: Sequence[Node]) -> tuple[Update, ...]:
    """The ancestral form over ``nodes``; a step to abar = 1 adds no noise."""
    updates = []
    for here, there in pairwise(nodes):
        sigma, sigma_next = sigma_of(here), sigma_of(there)
        sigma_down = sigma_next**2 / sigma  # sqrt(sigma'^2 - sigma_up^2), without its cancellation
        sigma_up = sigma_next * np.sqrt((sigma - sigma_next) * (sigma + sigma_next)) / sigma
        updates.append(euler_update(here, there, sigma_down, sigma_up))
    return tuple(updates)


@dataclass(frozen=True)
class Euler(SigmaMethod):
    """diffusers' EulerDiscreteScheduler, without churn (s_churn = 0) and continuous timesteps.

    Args, beside those of :class:`samplers.sigma_method.SigmaMethod`:
        interpolation_type: ``linear``, or ``log_linear``: n + 1 levels with even log sigma over the whole training
            table, the last of which ends the run whatever final_sigmas_type says; as in diffusers, the network is still
            called at the spaced timesteps, which are not where these levels lie.

    Raises:
        BadInput: an argument breaks its rule.
    """

    interpolation_type: str = "linear"

    def __post_init__(self) -> None:
        require_choice("interpolation_type", self.interpolation_type, INTERPOLATION_TYPES)
        super().__post_init__()

    @property
    def name(self) -> str:
        """The method: "euler"."""
        return "euler"

    def _levels_at(self, table: NDArray[np.floating], timesteps: Floats) -> tuple[Floats, float]:
        if self.interpolation_type == "linear":
            return super()._levels_at(table, timesteps)
        levels = sigma_nodes.exponential(float(table[0]), float(table[-1]), self.num_inference_steps + 1)
        return levels[:-1], float(levels[-1])

    def _updates(self, nodes: tuple[Node, ...]) -> tuple[Update, ...]:
        return euler_updates(nodes)


@dataclass(frozen=True)
class EulerAncestral(SigmaMethod):
    """diffusers' EulerAncestralDiscreteScheduler; it has no choice of levels there."""

    @property
    def name(self) -> str:
        """The method: "euler-ancestral"."""
        return "euler-ancestral"

    def _updates(self, nodes: tuple[Node, ...]) -> tuple[Update, ...]:
        return euler_ancestral_updates(nodes)
