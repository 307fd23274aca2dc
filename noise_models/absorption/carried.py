"""Excess variance carried along a run, for a network that is linear in x_t: exact for Gaussian data.

One-step absorption answers for one step, given its past. Over a run, noise also lives on in x_t and, under a multistep
sampler, in earlier predictions, which enter a second time and are correlated with x_t. With epsilon = g x and residual
noise n of variance q on it, independent between calls, the excess covariance of (x, earlier predictions) over the
noise-free run follows the update:

    x'       = a x + b (g x + n) + sum_j (history[j].x0_coefficient x0^(j) + history[j].epsilon_coefficient epsilon^(j))
    x0       = (x - sqrt(1 - abar) (g x + n)) / sqrt(abar),     epsilon = g x + n

and fresh noise lowered from c to c' takes c^2 - c'^2 off the excess variance of x'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from noise_models.absorption.rule import require_weights
from noise_models.inference.pooling import Array
from samplers.coefficients import Update, history_length, timestep_array
from samplers.errors import BadInput
from samplers.validation import require_choice

RULES = ("none", "step", "run")


def carried_excess(
    updates: Sequence[Update], residual_variance: ArrayLike, gains: ArrayLike, rule: str = "step"
) -> xr.Dataset:
    """Excess of the variance of x_{t-1} over the noise-free run's, and the fresh noise that each rule leaves.

    - ``none``: nothing is absorbed.
    - ``step``: each step absorbs the noise of its own prediction, b^2 q, as PTQD does.
    - ``run``: each step absorbs whatever excess x_{t-1} would have, what earlier infeasible steps left and what earlier
      predictions bring (which under multistep updates mostly cancels) included. For one-step updates whose every step
      is feasible it is the same as ``step``.

    Args:
        updates: of any sampler here that does not clip x0, from abar > 0 and of a fixed variance.
        residual_variance: q per call, of the noise on the corrected epsilon (sigma_q^2 / (1 + k)^2), (step,).
        gains: g per call, (step,). For a network, the mean of the diagonal of its Jacobian.
        rule: how the fresh noise is lowered.

    Returns:
        ``excess_variance`` of x_{t-1} and ``sigma_used`` over (step,). The excess may be negative.

    Raises:
        BadInput: an unknown rule, arrays that are not (step,), finite, and for q at least 0, a step from abar = 0, or
            one whose noise the network predicts.
    """
    require_choice("rule", rule, RULES)
    require_weights(updates)
    q, g = (np.asarray(values, np.float64) for values in (residual_variance, gains))
    if q.shape != (len(updates),) or g.shape != q.shape or not np.isfinite([q, g]).all() or (q < 0).any():
        raise BadInput(
            "residual_variance and gains must be finite numbers, one per call, and variances at least 0",
            got=f"shapes {q.shape} and {g.shape} for {len(updates)} calls",
            fix="pass one of each for every update",
        )
    size = 1 + 2 * history_length(updates)  # x, then x0 and epsilon of each earlier call, the latest first
    covariance = np.zeros((size, size))
    excess, used = np.zeros((2, len(updates)))
    for step, update in enumerate(updates):
        forward, noise = _linear(update, float(g[step]), size)
        covariance = forward @ covariance @ forward.T + q[step] * np.outer(noise, noise)
        wanted = {"none": 0.0, "step": update.b**2 * q[step], "run": covariance[0, 0]}[rule]
        taken = min(max(wanted, 0.0), update.c**2)
        covariance[0, 0] -= taken
        excess[step], used[step] = covariance[0, 0], math.sqrt(update.c**2 - taken)
    facts = {
        "excess_variance": (excess, "excess variance of x_{t-1}", "over that of the noise-free run"),
        "sigma_used": (used, "fresh noise after absorption", f"sigma' under the rule {rule!r}"),
    }
    data = {
        name: xr.Variable(("step",), values, {"units": "1", "long_name": long_name, "definition": definition})
        for name, (values, long_name, definition) in facts.items()
    }
    return xr.Dataset(data, coords={"timestep": ("step", timestep_array(updates))}, attrs={"rule": rule})


def _linear(update: Update, gain: float, size: int) -> tuple[Array, Array]:
    """The step as x' = F x + noise n, on (x, predictions)."""
    abar = float(update.alpha_cumprod)
    spread = (1 / abar - 1) ** 0.5
    forward, noise = np.zeros((size, size)), np.zeros(size)
    forward[0, 0], noise[0] = update.a + update.b * gain, update.b
    for j, earlier in enumerate(update.history):
        forward[0, 1 + 2 * j] = float(earlier.x0_coefficient)
        forward[0, 2 + 2 * j] = float(earlier.epsilon_coefficient)
    if size > 1:
        forward[1, 0], noise[1] = abar**-0.5 - spread * gain, -spread
        forward[2, 0], noise[2] = gain, 1.0
        forward[3:, 1:-2] = np.eye(size - 3)
    return forward, noise
