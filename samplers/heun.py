"""Heun's method on the probability-flow ODE (Karras et al. 2022, algorithm 1): two calls of the network a step.

With y = x / sqrt(abar) and d = (y - x0) / sigma:

1. y~ = y + (sigma' - sigma) d, an Euler step to the next node.
2. d' = (y~ - x0') / sigma' there, and y' = y + (sigma' - sigma) (d + d') / 2.

The second is an update from y~, whose node it does not leave: y' = y~ + (sigma' - sigma) (d' - d) / 2. Since y~ - x0 =
sigma' d, that is y' = y~ + (sigma / sigma' - 1) / 2 (x0' - x0): the two predicted x0 alone. In epsilons it reads
x' = x~ + sqrt(abar') (sigma' - sigma) / 2 (epsilon' - epsilon); with a clipped x0 only the first form is Heun's method.
A step to sigma' = 0 stays Euler's, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from samplers.coefficients import Earlier, Node, Update
from samplers.euler import euler_update, sigma_of
from samplers.sigma_method import SigmaMethod


def heun_updates(nodes: Sequence[Node]) -> tuple[Update, ...]:
    """Heun's method over ``nodes``: two updates a step, but one for a step to abar = 1."""
    updates = []
    for here, there in pairwise(nodes):
        updates.append(euler_update(here, there, sigma_of(there), np.float64(0)))
        if sigma_of(there) > 0:
            updates.append(_correction(here, there))
    return tuple(updates)


def _correction(here: Node, there: Node) -> Update:
    abar = np.float64(there.alpha_cumprod)
    weight = np.sqrt(abar) * (sigma_of(here) / sigma_of(there) - 1) / 2
    zero = np.float64(0)
    return Update(
        timestep=there.timestep,
        previous_timestep=there.timestep,
        alpha_cumprod=abar,
        alpha_cumprod_previous=abar,
        x0_coefficient=weight,
        x_coefficient=np.float64(1),
        epsilon_coefficient=zero,
        noise_coefficient=zero,
        history=(Earlier(-weight, zero),),
    )


@dataclass(frozen=True)
class Heun(SigmaMethod):
    """diffusers' HeunDiscreteScheduler: num_inference_steps steps in 2 num_inference_steps - 1 calls."""

    @property
    def name(self) -> str:
        """The method: "heun"."""
        return "heun"

    def _updates(self, nodes: tuple[Node, ...]) -> tuple[Update, ...]:
        return heun_updates(nodes)
