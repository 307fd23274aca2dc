"""Where residual noise can be absorbed: the bound sigma_t^2 / lambda_t^2 of every step, for any sampler or family.

A step absorbs residual noise of variance sigma_q^2 in full if and only if lambda^2 sigma_q^2 <= sigma^2, with
lambda = b / (1 + k): if sigma_q^2 / (1 + k)^2 lies below the map c^2 / b^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from noise_models.absorption.rule import absorbable_bound, require_weights
from samplers.coefficients import timestep_array
from samplers.ddim import DDIM
from samplers.errors import BadInput
from samplers.sampler import Sampler
from samplers.schedule import NoiseSchedule

_BOUND = (
    "c^2 / b^2: the largest variance of residual noise on epsilon that the step's fresh noise can stand in for, at "
    "k = 0; times (1 + k)^2 after a correction by k"
)
_FACTS = {
    "absorbable_variance": ("absorbable residual variance", _BOUND),
    "b": ("weight of epsilon", "x_{t-1} = a x_t + b epsilon + c z, and earlier predictions in a multistep update"),
    "c": ("weight of fresh noise", "see b"),
}


def require_absorbing(config: dict[str, Any], *, by_element: bool = False) -> None:
    """Refuse a sampler whose update has no one weight of epsilon, or no one weight of fresh noise.

    Args:
        config: a sampler's own, as plain values.
        by_element: whether variance may be taken out of each element's own fresh noise, so that a predicted variance
            will do; a number per step cannot say how much that is.

    Raises:
        BadInput: x0 is clipped or thresholded (then a clipped element carries no noise, and the weight differs from
            element to element), or the network predicts the variance (then c does).
    """
    if clipping := config.get("clipping"):
        raise BadInput(
            "absorption needs a linear update, without clip_sample and thresholding",
            got=clipping["name"],
            fix="sample without them, or correct without absorption (absorb=False)",
        )
    if not by_element and str(config.get("variance_type", "")).startswith("learned"):
        raise BadInput(
            "absorption needs one fresh noise for all elements",
            got=f"variance_type {config['variance_type']!r}",
            fix="use fixed_small or fixed_large, or correct without absorption (absorb=False)",
        )


def can_absorb(config: dict[str, Any]) -> bool:
    """Whether :func:`require_absorbing` lets a sampler of this configuration pass."""
    try:
        require_absorbing(config)
    except BadInput:
        return False
    return True


def feasibility(sampler: Sampler) -> xr.Dataset:
    """Map of what each step of a sampler can absorb.

    Returns:
        ``absorbable_variance``, ``b`` and ``c`` over (step,), with the timesteps and the sampler's name as coordinates.

    Raises:
        BadInput: see :func:`require_absorbing`; or a step from abar = 0.
    """
    require_absorbing(dict(sampler.config()))
    updates = sampler.updates
    require_weights(updates)
    values = {
        "absorbable_variance": [absorbable_bound(update) for update in updates],
        "b": [update.b for update in updates],
        "c": [update.c for update in updates],
    }
    data = {name: xr.Variable(("step",), np.array(found), _attrs(name)) for name, found in values.items()}
    return xr.Dataset(data, coords={"timestep": ("step", timestep_array(updates)), "sampler": sampler.name})


def feasibility_map(
    schedule: NoiseSchedule, etas: Sequence[float], step_counts: Sequence[int], **options: Any
) -> xr.Dataset:
    """The bound for the DDIM family on one schedule: every eta with every number of steps.

    eta = 1 is DDPM with fixed_small. For one sampler of any other kind use :func:`feasibility`.

    Args:
        schedule: the training schedule.
        etas: each at least 0.
        step_counts: numbers of sampling steps.
        options: of :class:`samplers.DDIM`, such as steps_offset and set_alpha_to_one, which rules the last bound.

    Returns:
        ``absorbable_variance``, ``b`` and ``c`` over (eta, steps, timestep): the timesteps are all that any of the
        samplers visits, descending, NaN where one does not visit it.

    Raises:
        BadInput: no eta or step count, one twice, or one that DDIM refuses.
    """
    for name, given in (("etas", etas), ("step_counts", step_counts)):
        if not len(given) or len(set(given)) < len(given):
            raise BadInput(f"{name} must be one or more different numbers", got=list(given), fix="name each once")
    found = [[feasibility(DDIM(schedule, count, eta=eta, **options)) for count in step_counts] for eta in etas]
    timesteps = np.unique(np.concatenate([one.timestep.to_numpy() for row in found for one in row]))[::-1]
    data = {}
    for name in _FACTS:
        values = np.full((len(etas), len(step_counts), len(timesteps)), np.nan)
        for i, row in enumerate(found):
            for j, one in enumerate(row):
                values[i, j, np.searchsorted(-timesteps, -one.timestep.to_numpy())] = one[name]
        data[name] = xr.Variable(("eta", "steps", "timestep"), values, _attrs(name))
    coords = {
        "eta": xr.Variable("eta", np.array(etas, np.float64), {"units": "1", "long_name": "eta"}),
        "steps": xr.Variable("steps", np.array(step_counts), {"units": "1", "long_name": "sampling steps"}),
        "timestep": xr.Variable("timestep", timesteps, {"units": "1", "long_name": "training timestep"}),
    }
    return xr.Dataset(data, coords=coords)


def _attrs(name: str) -> dict[str, str]:
    long_name, definition = _FACTS[name]
    return {"units": "1", "long_name": long_name, "definition": definition}
