"""Lists of updates of samplers that are written here from their papers, apart from ``samplers``."""

import dataclasses
import math

import numpy as np

from samplers import DDIM, Update
from samplers.coefficients import Earlier


def _update(at: DDIM, index: int, *, x0=0.0, x=0.0, epsilon=0.0, noise=0.0, history=()) -> Update:
    real = np.float64
    return dataclasses.replace(
        at.updates[index], x0_coefficient=real(x0), x_coefficient=real(x), epsilon_coefficient=real(epsilon),
        noise_coefficient=real(noise), history=tuple(history),
    )  # fmt: skip


def multistep_sde(at: DDIM) -> list[Update]:
    """DPM-Solver++ 2M in its SDE form, midpoint (Lu et al. 2022, section 5), on the timesteps of ``at``.

    x' = (sigma'/sigma) e^-h x + alpha' (1 - e^-2h) (D + (D - D_before) / (2 r)) + sigma' sqrt(1 - e^-2h) z, with
    alpha = sqrt(abar), sigma = sqrt(1 - abar), h the difference of log(alpha / sigma), r the last h over this one.
    """
    found, before = [], 0.0
    for index, update in enumerate(at.updates):
        (alpha, sigma), (alpha_, sigma_) = (
            (math.sqrt(abar), math.sqrt(1 - abar)) for abar in (update.alpha_cumprod, update.alpha_cumprod_previous)
        )
        h = math.log(alpha_ / sigma_) - math.log(alpha / sigma)
        weight = alpha_ * (1 - math.exp(-2 * h))
        half = 0.5 * h / before if index else 0.0
        history = [Earlier(np.float64(-half * weight), np.float64(0))] if index else []
        found.append(
            _update(
                at, index, x0=weight * (1 + half), x=sigma_ / sigma * math.exp(-h),
                noise=sigma_ * math.sqrt(1 - math.exp(-2 * h)), history=history,
            )
        )  # fmt: skip
        before = h
    return found


def euler_ancestral(at: DDIM) -> list[Update]:
    """Euler ancestral (Karras et al.'s sigma = sqrt(1/abar - 1), k-diffusion's sigma_up), in variance-preserving x."""
    found = []
    for index, update in enumerate(at.updates):
        sigma, lower = (math.sqrt(1 / abar - 1) for abar in (update.alpha_cumprod, update.alpha_cumprod_previous))
        up = lower * math.sqrt(1 - (lower / sigma) ** 2)
        scale = math.sqrt(update.alpha_cumprod_previous)
        found.append(_update(at, index, x0=scale, epsilon=scale * math.sqrt(lower**2 - up**2), noise=scale * up))
    return found


def adams_bashforth(at: DDIM) -> list[Update]:
    """A linear multistep method on epsilon, of order 3 after its start (as PLMS, of order 4), deterministic."""
    orders = ((1.0,), (1.5, -0.5), (23 / 12, -16 / 12, 5 / 12))
    found = []
    for index, update in enumerate(at.updates):
        first, *rest = orders[min(index, 2)]
        b = math.sqrt(1 - update.alpha_cumprod_previous) - math.sqrt(
            update.alpha_cumprod_previous * (1 / update.alpha_cumprod - 1)
        )
        ratio = math.sqrt(update.alpha_cumprod_previous / update.alpha_cumprod)
        history = [Earlier(np.float64(0), np.float64(weight * b)) for weight in rest]
        found.append(_update(at, index, x=ratio, epsilon=first * b, history=history))
    return found
