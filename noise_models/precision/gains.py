"""Gains g_t: power of the final sample's noise per power of noise injected into epsilon at step t.

The predicted final noise power is the sum over t of g_t P(t), for injected noise that is independent between steps.
With x_{t-1} = a_t x_t + b_t epsilon + c_t z, noise of power P enters x_{t-1} with b_t^2 P. How later steps carry it on
depends on how the network answers to it, hence on its Jacobian. A rule takes any array of gains; those made here need
nothing but the sampler's coefficients, and each says what it takes the network for.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from noise_models.pooling import Array
from samplers.errors import BadInput
from samplers.validation import require_choice, require_real


def uniform_gains(table: xr.Dataset) -> xr.DataArray:
    """1 at every step: the sum of injected powers, regardless of the sampler.

    Args:
        table: a run's dataset or a candidate table.
    """
    return _labelled(np.ones(table.sizes["step"]), "uniform", "1: the sum of injected noise powers of epsilon")


def one_step_gains(table: xr.Dataset) -> xr.DataArray:
    """b_t^2: the noise of each step's own x_{t-1}, later steps left out."""
    return _labelled(_coefficient(table, "b") ** 2, "one-step", "b_t^2: noise of x_{t-1}; later steps left out")


def sampler_gains(table: xr.Dataset) -> xr.DataArray:
    """b_t^2 prod_{s after t} a_s^2: noise carried by the sampler's coefficients alone.

    The network is taken not to answer to noise in x_t (Jacobian 0). A network that denoises does, and takes much of it
    out: these gains overrate early steps, by abar_0 / abar_t in all under DDIM.
    """
    a, b = _coefficient(table, "a"), _coefficient(table, "b")
    return _labelled(b**2 * _later(a), "sampler", "b_t^2 prod over later steps of a^2: sampler only, Jacobian 0")


def gaussian_gains(table: xr.Dataset, variance: float = 1.0) -> xr.DataArray:
    """b_t^2 prod_{s after t} (a_s + b_s j_s)^2, with the Jacobian of the exact epsilon of Gaussian data.

    For x_0 ~ N(m, v) per element, epsilon(x_t) has the constant derivative j_t = sqrt(1 - abar) / (abar v + 1 - abar).
    Exact for such data; for others a model of the network by one number.

    Args:
        table: a run's dataset or a candidate table.
        variance: v, of one element of the data, in the scale of x_0.

    Raises:
        BadInput: a variance below 0, or a dataset without the sampler's coefficients.
    """
    v = require_real("variance", variance)
    if v < 0:
        raise BadInput("variance must be at least 0", got=v, fix="pass the variance of one element of x_0")
    a, b, abar = (_coefficient(table, name) for name in ("a", "b", "alpha_cumprod"))
    carried = a + b * np.sqrt(1 - abar) / (abar * v + 1 - abar)
    meaning = f"b_t^2 prod over later steps of (a + b j)^2, j the Jacobian for Gaussian data of variance {v:g}"
    return _labelled(b**2 * _later(carried), f"gaussian-{v:g}", meaning)


GAINS = {
    "uniform": uniform_gains,
    "one-step": one_step_gains,
    "sampler": sampler_gains,
    "gaussian": gaussian_gains,
}
"""By name."""


def gains_named(name: str, table: xr.Dataset) -> xr.DataArray:
    """The gains of a name of ``GAINS``.

    Raises:
        BadInput: an unknown name, or a dataset without the sampler's coefficients.
    """
    require_choice("gains", name, tuple(GAINS))
    return GAINS[name](table)


def require_gains(gains: object, table: xr.Dataset) -> Array:
    """Gains of any source as a checked array (step,).

    Raises:
        BadInput: another shape, or a value that is negative or not finite.
    """
    values = np.asarray(gains, np.float64)
    steps = table.sizes["step"]
    if values.shape != (steps,):
        raise BadInput(f"gains must be (step,) with {steps} steps", got=values.shape, fix="one for each step")
    if not np.isfinite(values).all() or (values < 0).any():
        raise BadInput("gains must be finite and at least 0", got=values, fix="pass ratios of powers")
    return values


def _later(factor: Array) -> Array:
    """Product of the squared factors of all later steps."""
    return np.concatenate([np.cumprod(factor[::-1] ** 2)[::-1][1:], [1.0]])


def _coefficient(table: xr.Dataset, name: str) -> Array:
    if name not in table:
        raise BadInput(
            "gains need the sampler's coefficients a, b and alpha_cumprod", got=f"no {name}", fix="pass a run's dataset"
        )
    return table[name].to_numpy().astype(np.float64)


def _labelled(values: Array, name: str, definition: str) -> xr.DataArray:
    attrs = {"units": "1", "long_name": f"gain of injected noise, {name}", "definition": definition, "gains": name}
    return xr.DataArray(values, dims=("step",), name="gain", attrs=attrs)
