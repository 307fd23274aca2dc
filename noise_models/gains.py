"""What a unit of noise injected at one step becomes in the final sample, by one backward sweep of Jacobian products.

With e_{t-1} = p_t e_t + q_t (J_t e_t + delta_t), where p_t and q_t are the update's weights of x_t and of the network's
output, the final error is sum_t M_t q_t delta_t. For a probe v of independent signs, the sweep

    lambda = v,   gain_t = mean((q_t lambda)^2),   lambda = p_t lambda + q_t J_t^T lambda

gives gain_t = |M_t q_t|_F^2 / d in expectation: the mean square of the final error per unit of white noise at step t
(Hutchinson 1990). First order in the error, so at low SQNR larger than what a trajectory shows.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from noise_models.error_recursion import require_linear
from noise_models.intervals import LOG, from_replicates
from noise_models.labelled import interval_variables
from noise_models.pooling import Array, sum_without_each
from noise_models.propagation import PURPOSE
from samplers.coefficients import Update, advance, timestep_array
from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.state import FLOAT64
from samplers.validation import require_int
from simulator.instrument.forward import plain_call
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Model


@torch.no_grad()
def noise_gains(
    model: Model,
    sampler: Sampler,
    *,
    samples: int = 32,
    seed: int = 0,
    purpose: str = PURPOSE,
    batch_size: int = 32,
    conditioning: Conditioning | None = None,
) -> xr.Dataset:
    """Gain of every step, averaged over trajectories of full precision, one probe for each.

    Args:
        model: the network; torch must be able to differentiate it.
        sampler: one whose updates use no earlier predictions.
        samples: trajectories, at least 2.
        seed: of trajectories and probes.
        purpose: of their noise stream.
        batch_size: samples per pass; the trajectory of a batch is kept.
        conditioning: what the samples are conditioned on.

    Returns:
        ``gain`` (step) with standard error and ends, for noise of the network's own output (epsilon or what it
        predicts), and ``gain_sample`` (step, sample).

    Raises:
        BadInput: a sampler that clips x0 or combines earlier predictions, or sizes below their least.
    """
    require_int("samples", samples, 2)
    require_int("batch_size", batch_size, 1)
    require_linear(sampler)
    if any(update.history for update in sampler.updates):
        raise BadInput(
            "the backward sweep follows updates of one prediction each",
            got=f"the multistep sampler {sampler.name}",
            fix="use DDIM, DDPM or Euler, or predict_noise, which follows any linear sampler forward",
        )
    noise, signs = NoiseStream(seed, purpose), NoiseStream(seed, f"{purpose}:probes")
    gains = np.empty((len(sampler.updates), samples))
    for start in range(0, samples, batch_size):
        members = np.arange(start, min(start + batch_size, samples))
        call = call_for(model, conditioning, members)

        def network(x: Tensor, timestep: Tensor, call=call) -> Tensor:  # type: ignore[no-untyped-def]
            return (call or plain_call)(model.module, x, timestep)

        visited, x = [], noise.initial(members, model.sample_shape)
        for step, update in enumerate(sampler.updates):
            visited.append(x.float())
            output = network(visited[-1], update.timesteps(len(x))).double()
            z = noise.step(step, members, model.sample_shape) if update.noise_coefficient > 0 else None
            x = advance(FLOAT64, update, x, sampler.predict(FLOAT64, update, x, output), z)
        weight = torch.sign(signs.initial(members, model.sample_shape))
        for step in reversed(range(len(sampler.updates))):
            update = sampler.updates[step]
            of_x, of_output = _weights(sampler, update)
            gains[step, members] = (of_output * weight).square().flatten(1).mean(1).numpy()
            weight = of_x * weight + of_output * _transposed(network, visited[step], update, weight)
    return _labelled(gains, sampler)


def _weights(sampler: Sampler, update: Update) -> tuple[float, float]:
    """Weights of x_t and of the network's output in x_{t-1}, whatever the network predicts."""

    def response(x: float, output: float) -> float:
        pair = [torch.tensor(value, dtype=torch.float64) for value in (x, output)]
        prediction = sampler.predict(FLOAT64, update, *pair)
        return float(advance(FLOAT64, update.with_noise(0), pair[0], prediction, None))

    return response(1.0, 0.0), response(0.0, 1.0)


def _transposed(network, x: Tensor, update: Update, weight: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """J(x)^T weight."""
    timestep = update.timesteps(len(x))
    pull = torch.func.vjp(lambda seen: network(seen, timestep), x)[1]
    return pull(weight.float())[0].double()


def _labelled(gains: Array, sampler: Sampler) -> xr.Dataset:
    count = gains.shape[1]
    replicates = sum_without_each(gains.T) / (count - 1)
    interval = from_replicates(gains.mean(1), replicates, np.full(count, 1 / count), scale=LOG)
    definition = (
        "mean square of the final error per unit of white noise on the network's output at the step, to first order"
    )
    data = interval_variables(
        "gain", interval, ("step",), unit="1", long_name="gain of injected noise", definition=definition,
        confidence=0.95, scale="logarithmic",
    )  # fmt: skip
    attrs = {"units": "1", "long_name": "gain of injected noise per sample", "definition": definition}
    data["gain_sample"] = xr.Variable(("step", "sample"), gains, attrs)
    coords = {"timestep": ("step", timestep_array(sampler.updates)), "sampler": sampler.name}
    return xr.Dataset(data, coords)
