"""Exact propagation for linear networks: what noise injected at each call weighs in the final sample."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import ArrayLike

from noise_models.inference.pooling import Array
from noise_models.propagation.error_recursion import ErrorRecursion
from samplers.errors import BadInput
from samplers.sampler import Sampler
from samplers.validation import require_choice

NAIVE = ("last-step", "sum")


def noise_transfer(sampler: Sampler, jacobian: ArrayLike = 0.0) -> Array:
    """Weight in the final x of noise added to the network's output at each call, (call, direction).

    With output(x + e) = output(x) + J e, the final error is sum_j transfer[j] delta_j in every eigen-direction of J.
    Exact for an affine network such as the Gaussian subject's, for which J is diagonal in the data's eigenvectors; with
    J = 0 it is what the sampler's coefficients alone say.

    Args:
        sampler: any with linear updates, multistep ones included.
        jacobian: J's eigenvalues, broadcastable to (call, direction).

    Raises:
        BadInput: ``jacobian`` has another number of calls, or updates are not linear.
    """
    calls = len(sampler.updates)
    values = np.asarray(jacobian, np.float64)
    if values.ndim > 2 or (values.ndim == 2 and values.shape[0] not in (1, calls)):
        raise BadInput(
            "jacobian must be (call, direction) eigenvalues",
            got=f"shape {values.shape} for {calls} calls",
            fix="give one row per call of the network",
        )
    values = np.broadcast_to(values, (calls, values.shape[-1] if values.ndim else 1))
    error = ErrorRecursion(sampler, (calls, values.shape[1]))
    for call, update in enumerate(sampler.updates):
        injected = torch.zeros_like(error.x)
        injected[call] = 1
        error.step(update, torch.from_numpy(values[call].copy()) * error.x + injected)
    return error.x.numpy()


def final_variance(sampler: Sampler, injected: ArrayLike, jacobian: ArrayLike = 0.0) -> Array:
    """Variance of the final sample's error per direction, for noise independent from call to call and of x_t.

    Args:
        sampler: as in :func:`noise_transfer`.
        injected: variance of the noise added to the output, a number, (call,) or (call, direction).
        jacobian: as in :func:`noise_transfer`, where a single axis is that of directions.

    Raises:
        BadInput: as :func:`noise_transfer`, or another shape of ``injected``.
    """
    weights = noise_transfer(sampler, jacobian)
    variances = np.asarray(injected, np.float64)
    if variances.shape not in ((), weights.shape[:1], weights.shape):
        raise BadInput(
            "injected must be a number, (call,) or (call, direction)",
            got=f"shape {variances.shape} for {weights.shape}",
            fix="give one variance per call of the network",
        )
    return np.sum(weights**2 * (variances[:, None] if variances.ndim == 1 else variances), axis=0)


def naive_final_power(sampler: Sampler, injected: Array, kind: str) -> float:
    """Final noise power by what the coefficients alone say, to hold a prediction against.

    - ``last-step``: only the noise of the last call counts.
    - ``sum``: all calls' noises count, as if the network did not respond to errors of its input and noises of
      different calls were independent.

    Args:
        sampler: any with linear updates; ``injected`` counts as noise of the network's output read as epsilon.
        injected: power of the noise injected into epsilon at each call, (call,).
        kind: one of the two.

    Raises:
        BadInput: another kind.
    """
    require_choice("kind", kind, NAIVE)
    weights = noise_transfer(epsilon_form(sampler))[:, 0] ** 2 * injected
    return float(weights[-1] if kind == "last-step" else weights.sum())


def epsilon_form(sampler: Sampler) -> Sampler:
    """The sampler for a network that predicts epsilon, with the same updates."""
    return dataclasses.replace(sampler, prediction_type="epsilon")  # type: ignore[type-var]  # every sampler is a dataclass
