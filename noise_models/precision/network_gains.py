"""Gains of the network itself: the adjoint of full precision's trajectory, one backward pass over all steps.

With A_t = d x_final / d epsilon_t along a trajectory, white noise of power P in epsilon_t leaves noise of power
P norm(A_t)^2 / d in the final sample of d elements (Frobenius norm). For a vector u of independent signs,
E norm(A_t^T u)^2 = norm(A_t)^2 (Hutchinson 1990), and one pass backward from u gives A_t^T u for every t: with lambda_s
the derivative of u . x_final by x_s, and alpha = sqrt(abar), sigma = sqrt(1 - abar),

    X_s = x0_coefficient lambda_{s-1} + its weights in later updates
    E_s = epsilon_coefficient lambda_{s-1} + its weights in later updates - sigma / alpha X_s    (this is A_s^T u)
    lambda_s = x_coefficient lambda_{s-1} + X_s / alpha + (d epsilon / d x_s)^T E_s
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from noise_models.error_recursion import require_linear
from noise_models.precision.gains import labelled_gains
from samplers.coefficients import Prediction, Update, advance, history_length
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.state import FLOAT64
from samplers.validation import require_int
from simulator.calibration.trajectory import PURPOSE
from simulator.instrument.forward import plain_call
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Model

PROBES = "probes"


def network_gains(
    model: Model,
    sampler: Sampler,
    *,
    samples: int = 64,
    seed: int = 0,
    batch_size: int = 64,
    conditioning: Conditioning | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.DataArray:
    """norm(A_t)^2 / d of full precision, averaged over samples: what white noise in epsilon at each step leaves.

    First order in the noise. Quantization noise is not white: where it lies along directions that the network damps or
    amplifies more than others, its gain differs.

    Args:
        model: the network, which torch must be able to differentiate.
        sampler: any with linear updates, multistep ones included.
        samples: trajectories, of the noise stream "calibrate"; each has one probe u.
        seed: of that stream, and of the probes.
        batch_size: samples at once.
        conditioning: what samples are conditioned on, and guidance.
        progress: called after each step with (steps done, steps in all).

    Returns:
        Gains (step,), with the standard error over samples as a coordinate (NaN for one sample).

    Raises:
        BadInput: a size below 1, or updates that are not linear.
    """
    require_linear(sampler)
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    steps = len(sampler.updates)
    noise, probes = NoiseStream(seed, PURPOSE), NoiseStream(seed, f"{PURPOSE}:{PROBES}")
    found = np.zeros((steps, samples))
    batches = range(0, samples, batch_size)
    for done, first in enumerate(batches):
        members = np.arange(first, min(first + batch_size, samples))
        call = call_for(model, conditioning, members) or plain_call

        def epsilon(x: Tensor, update: Update, call: Any = call) -> Prediction:
            output = call(model.module, x.float(), update.timesteps(len(x))).double()
            return sampler.predict(FLOAT64, update, x, output)

        trajectory = _forward(sampler, epsilon, noise, members, model.sample_shape)
        u = torch.where(probes.initial(members, model.sample_shape) < 0, -1.0, 1.0).double()
        for step, squares in enumerate(_backward(sampler, epsilon, trajectory, u)):
            found[step, members] = squares
        if progress is not None:
            progress((done + 1) * steps, len(batches) * steps)
    gains = labelled_gains(
        found.mean(1), sampler, "network", "norm(d x_final / d epsilon_t)^2 / elements, to first order"
    )
    error = found.std(1, ddof=1) / np.sqrt(samples) if samples > 1 else np.full(steps, np.nan)
    return gains.assign_coords(standard_error=("step", error))


Predict = Callable[[Tensor, Update], Prediction]


@torch.no_grad()
def _forward(
    sampler: Sampler, predict: Predict, noise: NoiseStream, members: np.ndarray, shape: tuple[int, ...]
) -> list[Tensor]:
    """x before every step."""
    x, kept = noise.initial(members, shape), history_length(sampler.updates)
    found: list[Tensor] = []
    earlier: tuple[Prediction, ...] = ()
    for step, update in enumerate(sampler.updates):
        found.append(x)
        prediction = predict(x, update)
        z = noise.step(step, members, shape) if update.noise_coefficient > 0 else None
        x = advance(FLOAT64, update, x, prediction, z, earlier)
        earlier = (prediction, *earlier)[:kept]
    return found


def _backward(sampler: Sampler, predict: Predict, trajectory: list[Tensor], u: Tensor) -> list[np.ndarray]:
    """norm(A_t^T u)^2 / d of every sample, in the order of the steps."""
    updates = sampler.updates
    after = [u]  # derivative by what each step gave, the latest step's first
    squares: list[np.ndarray] = []
    for step in range(len(updates) - 1, -1, -1):
        update, later = updates[step], after[-1]
        by_x0 = float(update.x0_coefficient) * later
        by_epsilon = float(update.epsilon_coefficient) * later
        for ahead, user in enumerate(updates[step + 1 :]):
            if ahead < len(user.history):
                weights, given = user.history[ahead], after[-2 - ahead]
                by_x0 = by_x0 + float(weights.x0_coefficient) * given
                by_epsilon = by_epsilon + float(weights.epsilon_coefficient) * given
        abar = float(update.alpha_cumprod)
        by_epsilon = by_epsilon - (1 - abar) ** 0.5 / abar**0.5 * by_x0
        squares.append(by_epsilon.flatten(1).square().mean(1).numpy())
        after.append(
            float(update.x_coefficient) * later
            + by_x0 / abar**0.5
            + _pulled(predict, trajectory[step], update, by_epsilon)
        )
    return squares[::-1]


def _pulled(predict: Predict, x: Tensor, update: Update, weight: Tensor) -> Tensor:
    """(d epsilon / d x)^T weight."""
    with torch.enable_grad():
        seen = x.clone().requires_grad_(True)
        (found,) = torch.autograd.grad(predict(seen, update).epsilon, seen, weight)
    return found.detach()
