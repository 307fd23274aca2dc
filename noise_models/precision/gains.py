"""Gains g_t: power of the final sample's noise per power of noise injected into epsilon at step t.

The predicted final noise power is the sum over t of g_t P(t), for injected noise that is uncorrelated between steps. A
step makes b_t^2 P of it in x_{t-1}. How later steps carry that on depends on how the network answers to noise in x_t,
hence on its Jacobian. A rule takes gains of any source; those made here take the Jacobian for one number j_s per step,
j_s = d epsilon / d x_s the same in all directions, and each says which. ``network_gains.py`` takes the network's own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from noise_models.inference.pooling import Array
from noise_models.propagation.error_recursion import require_linear
from noise_models.propagation.transfer import epsilon_form, noise_transfer
from samplers.errors import BadInput
from samplers.sampler import Sampler
from samplers.validation import require_choice, require_real
from simulator.provenance import canonical


def uniform_gains(sampler: Sampler) -> xr.DataArray:
    """1 at every step: the sum of injected powers, whatever the sampler makes of them."""
    return labelled_gains(np.ones(len(sampler.updates)), sampler, "uniform", "1: the sum of injected noise powers")


def one_step_gains(sampler: Sampler) -> xr.DataArray:
    """b_t^2 (PTQD's lambda_t^2 for k = 0): the noise of each step's own x_{t-1}, later steps left out.

    Raises:
        BadInput: the sampler clips x0.
    """
    require_linear(sampler)
    b = np.array([update.b for update in sampler.updates])
    return labelled_gains(b**2, sampler, "one-step", "b_t^2: noise of x_{t-1}, later steps left out")


def sampler_gains(sampler: Sampler) -> xr.DataArray:
    """b_t^2 prod_{s after t} a_s^2: noise carried by the sampler's coefficients alone.

    The network is taken not to answer to noise in x_t (j = 0). One that denoises does, and takes out what DDIM's a > 1
    would amplify, by 1 / abar_t in all: these gains overrate early steps by orders of magnitude.

    Raises:
        BadInput: the sampler clips x0.
    """
    gains = linear_gains(sampler, np.zeros(len(sampler.updates)))
    return labelled_gains(
        gains, sampler, "sampler", "b_t^2 prod over later steps of a^2: coefficients only, Jacobian 0"
    )


def gaussian_gains(sampler: Sampler, variance: float = 1.0) -> xr.DataArray:
    """b_t^2 prod_{s after t} (a_s + b_s j_s)^2, with the Jacobian of the exact epsilon of Gaussian data.

    For x_0 ~ N(m, v) per element, epsilon(x_t) has the derivative j_t = sqrt(1 - abar) / (abar v + 1 - abar)
    everywhere. Exact for such data; of others a model by one number.

    Args:
        sampler: whose steps.
        variance: v, of one element of the data, in the scale of x_0.

    Raises:
        BadInput: a variance below 0, or the sampler clips x0.
    """
    v = require_real("variance", variance)
    if v < 0:
        raise BadInput("variance must be at least 0", got=v, fix="pass the variance of one element of x_0")
    abar = np.array([float(update.alpha_cumprod) for update in sampler.updates])
    gains = linear_gains(sampler, np.sqrt(1 - abar) / (abar * v + 1 - abar))
    meaning = f"b_t^2 prod over later steps of (a + b j)^2, j the Jacobian of Gaussian data of variance {v:g}"
    return labelled_gains(gains, sampler, f"gaussian-{v:g}", meaning)


def linear_gains(sampler: Sampler, jacobian: ArrayLike) -> Array:
    """Squared response of the final sample to a unit of epsilon at each step, (step,), of a linear network.

    epsilon's own noise at a step is 1 at the step in question, plus ``jacobian`` times the noise of x_t. A multistep
    update carries earlier predictions on with the weights of its history.

    Args:
        sampler: whose updates.
        jacobian: (step,) d epsilon / d x_t.

    Raises:
        BadInput: the sampler clips x0, or another shape.
    """
    calls = len(sampler.updates)
    j = np.asarray(jacobian, np.float64)
    if j.shape != (calls,) or not np.isfinite(j).all():
        raise BadInput("the Jacobian must be finite, one number for each step", got=j.shape, fix="pass (step,)")
    return noise_transfer(epsilon_form(sampler), j[:, None])[:, 0] ** 2


GAINS: dict[str, Callable[[Sampler], xr.DataArray]] = {
    "uniform": uniform_gains,
    "one-step": one_step_gains,
    "sampler": sampler_gains,
    "gaussian": gaussian_gains,
}
"""By name."""


def gains_named(name: str, sampler: Sampler) -> xr.DataArray:
    """The gains of a name of ``GAINS``.

    Raises:
        BadInput: an unknown name, or a sampler that clips x0.
    """
    require_choice("gains", name, tuple(GAINS))
    return GAINS[name](sampler)


def require_gains(gains: object, table: xr.Dataset) -> Array:
    """Gains of any source as a checked array (step,).

    Raises:
        BadInput: another shape, a value that is negative or not finite, or gains labelled with another sampler than the
            table's.
    """
    values = np.asarray(gains, np.float64)
    steps = table.sizes["step"]
    if values.shape != (steps,):
        raise BadInput(f"gains must be (step,) with {steps} steps", got=values.shape, fix="one for each step")
    if not np.isfinite(values).all() or (values < 0).any():
        raise BadInput("gains must be finite and at least 0", got=values, fix="pass ratios of powers")
    made_for = gains.attrs.get("sampler") if isinstance(gains, xr.DataArray) else None
    if made_for is not None and made_for != table.attrs["sampler"]:
        raise BadInput(
            "gains must be those of the sampler that the noise was measured under, "
            f"{table.attrs['sampler']}", got=made_for, fix="make them for this sampler",
        )  # fmt: skip
    return values


def labelled_gains(values: Array, sampler: Sampler, name: str, definition: str) -> xr.DataArray:
    """Gains (step,) that say what they are and for which sampler."""
    attrs = {
        "units": "1", "long_name": f"gain of injected noise, {name}", "definition": definition, "gains": name,
        "sampler": canonical(sampler.config()),
    }  # fmt: skip
    return xr.DataArray(values, dims=("step",), name="gain", attrs=attrs)
