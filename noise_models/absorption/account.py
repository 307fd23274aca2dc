"""What a sampler's steps were asked to absorb, what they absorbed, and what remains: data for every step."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import xarray as xr

from noise_models.absorption.absorbable import require_absorbing
from noise_models.absorption.rule import absorb, absorbable_bound, lambda_weight, require_weights
from noise_models.inference.pooling import Array
from samplers.coefficients import Update, timestep_array
from samplers.errors import BadInput
from samplers.sampler import Sampler


class Residual(Protocol):
    """Slope and residual variance per step, as :class:`noise_models.PTQD` has them."""

    @property
    def k(self) -> Array:
        """(step,), above -1."""
        ...

    @property
    def residual_variance(self) -> Array:
        """(step,), at least 0."""
        ...

    @property
    def variant(self) -> str:
        """``paper`` or ``released``."""
        ...


def earlier_weights(updates: tuple[Update, ...], index: int) -> Array:
    """Weights in x_{t-1} of the noise on earlier predictions of epsilon, the latest first.

    w_j = history[j].epsilon_coefficient - history[j].x0_coefficient sqrt(1 - abar) / sqrt(abar), with the abar of the
    call that made the prediction: x0 = (x - sqrt(1 - abar) epsilon) / sqrt(abar) carries its noise too.
    """
    weights = []
    for back, earlier in enumerate(updates[index].history, start=1):
        abar = float(updates[index - back].alpha_cumprod)
        weights.append(float(earlier.epsilon_coefficient) - float(earlier.x0_coefficient) * (1 / abar - 1) ** 0.5)
    return np.array(weights, np.float64)


def account_absorption(sampler: Sampler, fit: Residual) -> xr.Dataset:
    """Account of variance absorption, per step of a sampler.

    In a multistep update the noise of earlier predictions enters again; given them it is no variance of this step, and
    stands apart (``earlier_variance``). Under ``released`` the mean moves too, and most of what counts as absorbed here
    stays in the marginal.

    Args:
        sampler: with linear updates, of as many calls as the fit has steps.
        fit: slope and residual variance per step, such as a :class:`noise_models.PTQD`.

    Returns:
        Over (step,): ``requested_variance``, ``absorbed_variance``, ``remaining_variance`` (their difference),
        ``earlier_variance``, ``sigma`` and ``sigma_used``, ``paired_increase`` = (sigma - sigma')^2, and
        ``absorbable_variance``, the bound on sigma_q^2 with this k.

    Raises:
        BadInput: a sampler that cannot absorb (``noise_models.absorption.absorbable.require_absorbing``), a step from
            abar = 0, or another number of steps.
    """
    require_absorbing(dict(sampler.config()))
    updates = sampler.updates
    require_weights(updates)
    if len(updates) != len(fit.k):
        raise BadInput(
            "the fit must have one entry for each call of the network",
            got=f"{len(fit.k)} for {len(updates)} calls",
            fix="fit on a run of this sampler",
        )
    reduced = fit.residual_variance / (1 + fit.k) ** 2
    rows = []
    for step, update in enumerate(updates):
        k, variance = float(fit.k[step]), float(fit.residual_variance[step])
        used = absorb(update, k, variance, fit.variant).c
        requested = lambda_weight(update, k) ** 2 * variance
        absorbed = min(requested, update.c**2)
        weights = earlier_weights(updates, step)
        entering = float((weights**2 * reduced[step - len(weights) : step][::-1]).sum())
        bound = absorbable_bound(update) * (1 + k) ** 2
        paired = (update.c - used) ** 2
        rows.append((requested, absorbed, requested - absorbed, entering, update.c, used, paired, bound))
    data = {
        name: xr.Variable(("step",), values, {"units": "1", "long_name": long_name, "definition": definition})
        for (name, (long_name, definition)), values in zip(_FACTS.items(), np.array(rows).T, strict=True)
    }
    return xr.Dataset(data, coords={"timestep": ("step", timestep_array(updates)), "sampler": sampler.name})


_FACTS = {
    "requested_variance": ("variance to absorb", "lambda^2 sigma_q^2, lambda = b / (1 + k): residual noise in x_{t-1}"),
    "absorbed_variance": ("variance absorbed", "sigma^2 - sigma'^2 = min(lambda^2 sigma_q^2, sigma^2)"),
    "remaining_variance": ("variance that remains", "max(lambda^2 sigma_q^2 - sigma^2, 0), added to x_{t-1}"),
    "earlier_variance": (
        "variance of earlier predictions' noise",
        "sum over earlier predictions of w_j^2 sigma_q^2 / (1 + k)^2 of their calls: known given them, not absorbed",
    ),
    "sigma": ("fresh noise of the sampler", "weight c of z"),
    "sigma_used": ("fresh noise after absorption", "sigma'"),
    "paired_increase": (
        "paired error that absorption adds",
        "(sigma - sigma')^2: on shared noise the one-step error grows by it",
    ),
    "absorbable_variance": (
        "absorbable residual variance",
        "(1 + k)^2 c^2 / b^2: the largest sigma_q^2 absorbed whole",
    ),
}
