"""The sampler's own error on Gaussian data: what its steps and its start do to the distribution, without quantization.

Two errors add up in what a sampler delivers, and none of them is quantization noise. Its steps only approximate the
reverse process: so much remains when it starts from the exact marginal. And it starts from N(0, I) instead, which
differs by sqrt(abar) m in the mean and abar (1 - s^2) in the variance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from noise_models.exact.divergences import gaussian_kl, gaussian_wasserstein
from noise_models.exact.path import GaussianPath, gaussian_path
from samplers.sampler import Sampler
from simulator.models.gaussian import Gaussian

Distance = Callable[[Gaussian, Gaussian], float]

STARTS = ("standard_normal", "exact_marginal")

_AFTER = "x after the step, against the forward process at the noise level that the step leads to"
_FACTS = {
    "sampler_variance": (
        ("start", "step", "direction"), "variance of x", "of x after the step, along each eigen-direction"
    ),
    "marginal_variance": (
        ("step", "direction"), "variance of the forward process", "abar s^2 + 1 - abar at the level the step leads to"
    ),
    "sampler_mean_error": (("start", "step"), "error of the mean", f"length of the difference of means: {_AFTER}"),
    "sampler_kl": (("start", "step"), "KL divergence", f"KL(sampler || forward process) in nats: {_AFTER}"),
    "sampler_wasserstein": (("start", "step"), "2-Wasserstein distance", _AFTER),
    "data_kl": (("start",), "KL divergence of samples", "KL(finished samples || data) in nats"),
    "data_wasserstein": (("start",), "2-Wasserstein distance of samples", "finished samples against data"),
}  # fmt: skip


def sampler_error(sampler: Sampler, data: Gaussian) -> xr.Dataset:
    """Exact error of a sampler's distribution on Gaussian data, at every step and at the end.

    Args:
        sampler: linear.
        data: the distribution that the network is exact for.

    Returns:
        ``sampler_variance``, ``sampler_mean_error``, ``sampler_kl`` and ``sampler_wasserstein`` after each step,
        ``marginal_variance`` to compare with, ``data_kl`` and ``data_wasserstein`` of the finished samples, along
        ``start``: "standard_normal", as samplers do, and "exact_marginal", where the steps' error is alone. A step is
        one call of the network. A divergence is infinite where one side has no variance along some direction.

    Raises:
        BadInput: a sampler that clips.
    """
    first = data.marginal(float(sampler.updates[0].alpha_cumprod))
    paths = [gaussian_path(sampler, data, start=start) for start in (None, first)]
    levels = paths[0].alpha_cumprod[1:]
    marginals = [data.marginal(level) for level in levels]
    arrays = {
        "sampler_variance": np.stack([path.variance[1:] for path in paths]),
        "marginal_variance": np.stack([marginal.variances for marginal in marginals]),
        "sampler_mean_error": _each(paths, marginals, lambda p, q: float(np.linalg.norm(p.mean - q.mean))),
        "sampler_kl": _each(paths, marginals, gaussian_kl),
        "sampler_wasserstein": _each(paths, marginals, gaussian_wasserstein),
        "data_kl": np.array([gaussian_kl(path.at(-1), data) for path in paths]),
        "data_wasserstein": np.array([gaussian_wasserstein(path.at(-1), data) for path in paths]),
    }
    variables = {
        name: xr.Variable(dims, arrays[name], {"units": "1", "long_name": long_name, "definition": definition})
        for name, (dims, long_name, definition) in _FACTS.items()
    }
    coords = {
        "start": list(STARTS),
        "timestep": ("step", paths[0].timestep),
        "alpha_cumprod_after": ("step", levels),
        "data_variance": ("direction", data.variances),
        "sampler": sampler.name,
    }
    return xr.Dataset(variables, coords, {"quantity": "error of the sampler itself, in full precision"})


def _each(paths: list[GaussianPath], marginals: list[Gaussian], distance: Distance) -> np.ndarray:
    return np.array([[distance(path.at(i + 1), marginal) for i, marginal in enumerate(marginals)] for path in paths])
