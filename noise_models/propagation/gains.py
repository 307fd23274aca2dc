"""What a unit of noise injected at one step becomes in the final sample, by one backward sweep of Jacobian products.

With e_{t-1} = p_t e_t + q_t (J_t e_t + delta_t), where p_t and q_t are the update's weights of x_t and of the network's
output, the final error is sum_t M_t q_t delta_t. For a probe v of independent signs, the sweep

    lambda = v,   gain_t = mean((q_t lambda)^2),   lambda = p_t lambda + q_t J_t^T lambda

gives gain_t = |M_t q_t|_F^2 / d in expectation: the mean square of the final error per unit of white noise at step t
(Hutchinson 1990). In a multistep method q_t lambda gains what later updates weigh the step's prediction with, times
their own lambda. First order in the error, so at low SQNR larger than what a trajectory shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from noise_models.inference.intervals import LOG, from_replicates
from noise_models.inference.labelled import interval_variables
from noise_models.inference.pooling import Array, sum_without_each
from noise_models.propagation.error_recursion import require_linear
from noise_models.propagation.prediction import PURPOSE
from samplers.coefficients import Prediction, Update, advance, history_length, timestep_array
from samplers.loop import Denoiser
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.state import FLOAT64
from samplers.validation import require_int
from simulator.instrument.forward import Call, plain_call
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
        sampler: any with linear updates, multistep ones included.
        samples: trajectories, at least 2.
        seed: of trajectories and probes.
        purpose: of their noise stream.
        batch_size: samples per pass; the trajectory of a batch is kept.
        conditioning: what the samples are conditioned on.

    Returns:
        ``gain`` (step) with standard error and ends, for noise of the network's own output (epsilon or what it
        predicts), and ``gain_sample`` (step, sample).

    Raises:
        BadInput: a sampler that clips x0, or sizes below their least.
    """
    require_int("samples", samples, 2)
    require_int("batch_size", batch_size, 1)
    require_linear(sampler)
    noise, signs = NoiseStream(seed, purpose), NoiseStream(seed, f"{purpose}:probes")
    gains = np.empty((len(sampler.updates), samples))
    for start in range(0, samples, batch_size):
        members = np.arange(start, min(start + batch_size, samples))
        call = call_for(model, conditioning, members)

        def network(x: Tensor, timestep: Tensor, call: Call | None = call) -> Tensor:
            return (call or plain_call)(model.module, x, timestep)

        visited, kept = [], history_length(sampler.updates)
        x = sampler.init_noise_sigma * noise.initial(members, model.sample_shape)
        earlier: tuple[Prediction, ...] = ()
        for step, update in enumerate(sampler.updates):
            visited.append(x.float())
            output = network(visited[-1], update.timesteps(len(x))).double()
            z = noise.step(step, members, model.sample_shape) if update.noise_coefficient > 0 else None
            prediction = sampler.predict(FLOAT64, update, x, output)
            x = advance(FLOAT64, update, x, prediction, z, earlier)
            earlier = (prediction, *earlier)[:kept]
        weights = [torch.sign(signs.initial(members, model.sample_shape)).double()]  # of each step's result, last first
        for step in reversed(range(len(sampler.updates))):
            update = sampler.updates[step]
            of_x0, of_epsilon = _weights_of_prediction(sampler.updates, step, weights)
            by_x, by_output = _readings(sampler, update)
            of_output = by_output[0] * of_x0 + by_output[1] * of_epsilon
            gains[step, members] = of_output.square().flatten(1).mean(1).numpy()
            direct = float(update.x_coefficient) * weights[-1] + by_x[0] * of_x0 + by_x[1] * of_epsilon
            weights.append(direct + _transposed(network, visited[step], update, of_output))
    return _labelled(gains, sampler)


def _weights_of_prediction(updates: Sequence[Update], step: int, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What x0 and epsilon predicted at ``step`` weigh in the end: through its own update and through later ones."""
    own = updates[step]
    of_x0, of_epsilon = (float(c) * weights[-1] for c in (own.x0_coefficient, own.epsilon_coefficient))
    for ahead, user in enumerate(updates[step + 1 :]):
        if ahead < len(user.history):
            old = user.history[ahead]
            of_x0 = of_x0 + float(old.x0_coefficient) * weights[-2 - ahead]
            of_epsilon = of_epsilon + float(old.epsilon_coefficient) * weights[-2 - ahead]
    return of_x0, of_epsilon


def _readings(sampler: Sampler, update: Update) -> tuple[tuple[float, float], tuple[float, float]]:
    """Weights of x_t, and of the network's output, in the x0 and epsilon read from them."""

    def read(x: float, output: float) -> tuple[float, float]:
        pair = [torch.tensor(value, dtype=torch.float64) for value in (x, output)]
        prediction = sampler.predict(FLOAT64, update, *pair)
        return float(prediction.x0), float(prediction.epsilon)

    return read(1.0, 0.0), read(0.0, 1.0)


def _transposed(network: Denoiser, x: Tensor, update: Update, weight: Tensor) -> Tensor:
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
