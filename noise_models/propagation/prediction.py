"""Predicting the final sample's noise without ever walking a quantized trajectory.

Along full precision's trajectory x_t of samples of their own, the error of a quantized run is followed by

    e_0 = 0,   output error = response(x_t, e_t) + injection(x_t),   e_{t-1} by the sampler's update (error_recursion)

Response, what full precision makes of an error of its input:

- ``tangent``: J(x_t) e_t, a Jacobian-vector product.
- ``finite``: f(x_t + e_t) - f(x_t), the product of e_t with the Jacobian averaged from x_t to x_t + e_t. The two agree
  for small errors. At 10 to 20 dB errors are not small: some samples turn into other digits, where a tangent grows
  without bound and f does not.

Injection, the noise that the quantized network adds, f_q - f at one and the same x:

- ``recorded``: at x_t, sample by sample.
- ``displaced``: at x_t + e_t of another sample, another one at every step. Rounding noise on full precision's smooth
  path is coherent from step to step; a quantized run leaves that path by more than a rounding step and meets other
  roundings. Displacing by independent errors of the predicted size keeps the part of the noise that survives.
- ``split``: the part of the noise that is linear in the output and in x_t, and the rest. Slopes are fitted at x_t, per
  channel and step (PTQD's k, and one on the state beside it). The linear part follows the error of the sample's own
  trajectory, since it acts as a change of the network's gain; the rest is taken as in ``displaced``.
- ``white``: only moments of the noise at x_t enter: per channel a mean and a deviation, drawn independent of x_t, white
  in space and from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from noise_models.propagation.error_recursion import ErrorRecursion, require_linear
from noise_models.propagation.response import RESPONSES, Response, response_of
from samplers.coefficients import Prediction, advance, history_length, timestep_array
from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.state import FLOAT64
from samplers.validation import require_choice, require_int
from simulator.correction import NoCorrection
from simulator.instrument.forward import plain_call
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import watching
from simulator.models.conditioning import call_for
from simulator.moments import moment_names
from simulator.provenance import canonical, environment, run_config, run_key
from simulator.record import ChannelRecord
from simulator.variables import BY_NAME

PURPOSE = "predict"
"""Noise stream of the samples that a prediction is made on: neither those of ranges nor those that judge it."""

INJECTIONS = ("recorded", "displaced", "split", "white")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Predictor:
    """How the error of the network's output is modelled.

    Args:
        response: ``tangent`` or ``finite``.
        injection: ``recorded``, ``displaced``, ``split`` or ``white``.

    Raises:
        BadInput: an unknown name.
    """

    response: str = "finite"
    injection: str = "split"

    def __post_init__(self) -> None:
        require_choice("response", self.response, RESPONSES)
        require_choice("injection", self.injection, INJECTIONS)

    @property
    def name(self) -> str:
        """``response-injection``."""
        return f"{self.response}-{self.injection}"


@torch.no_grad()
def predict_noise(
    networks: Sequence[QuantizedModel],
    sampler: Sampler,
    predictor: Predictor = Predictor(),
    *,
    samples: int = 256,
    seed: int = 0,
    purpose: str = PURPOSE,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> tuple[xr.Dataset, ...]:
    """Predict the accumulated noise of x after every step, for several quantized networks of one model at once.

    Args:
        networks: quantized networks of one model and conditioning.
        sampler: any with linear updates.
        predictor: how the output's error is modelled.
        samples: full-precision trajectories to predict along; at least 3 in every batch where noise is displaced.
        seed: of the noise stream.
        purpose: of the noise stream; neither the one that ranges were fitted on nor the one that judges.
        batch_size: samples per forward pass; other errors are taken from within the batch.
        progress: called after each step with (steps done, steps in all).

    Returns:
        One dataset per network: ``state_predicted`` and ``state_sample_predicted``, laid out as what a run calls
        ``state_accumulated`` and ``state_sample_accumulated`` (so ``sqnr_db`` takes them), and ``epsilon_injected`` of
        the same samples.

    Raises:
        BadInput: no network, or of different models; sizes; updates that are not linear; a network that torch cannot
            differentiate (``tangent``).
    """
    first = _check(networks, sampler, samples, batch_size, predictor)
    model, shape = first.model, first.model.sample_shape
    noise, respond = NoiseStream(seed, purpose), response_of(predictor.response, model)
    walks = [_Walk(network, sampler, samples, predictor, NoiseStream(seed, f"{purpose}:white")) for network in networks]
    batches = range(0, samples, batch_size)
    kept = history_length(sampler.updates)
    with watching(model.module):
        for done, start in enumerate(batches):
            members = np.arange(start, min(start + batch_size, samples))
            call = call_for(model, first.conditioning, members)
            x = sampler.init_noise_sigma * noise.initial(members, shape)
            earlier: tuple[Prediction, ...] = ()
            for walk in walks:
                walk.begin(x)
            for step, update in enumerate(sampler.updates):
                timestep = update.timesteps(len(x))
                output = (call or plain_call)(model.module, x.float(), timestep).double()
                prediction = sampler.predict(FLOAT64, update, x, output)
                z = noise.step(step, members, shape) if update.noise_coefficient > 0 else None
                x_next = advance(FLOAT64, update, x, prediction, z, earlier)
                for walk in walks:
                    walk.step(_Moment(step, members, timestep, call, x, output, prediction, x_next), respond)
                x, earlier = x_next, (prediction, *earlier)[:kept]
                if progress is not None:
                    progress(done * len(sampler.updates) + step + 1, len(batches) * len(sampler.updates))
    settings = {
        "prediction": predictor.name, "sampler": sampler.config(), "samples": samples, "seed": seed,
        "purpose": purpose, "batch_size": batch_size,
    }  # fmt: skip
    return tuple(walk.dataset(settings) for walk in walks)


@dataclass(frozen=True)
class _Moment:
    """Full precision at one step of one batch."""

    step: int
    members: np.ndarray
    timestep: Tensor
    call: Callable[..., Tensor] | None
    x: Tensor
    output: Tensor
    prediction: Prediction
    x_next: Tensor


class _Walk:
    """The predicted error of one quantized network, and its records."""

    def __init__(
        self, network: QuantizedModel, sampler: Sampler, samples: int, predictor: Predictor, white: NoiseStream
    ) -> None:
        steps, channels = len(sampler.updates), network.model.sample_shape[0]
        self._network, self._sampler, self._predictor, self._white = network, sampler, predictor, white
        self._state, self._epsilon = (ChannelRecord(steps, samples, channels) for _ in range(2))
        self._error: ErrorRecursion

    def begin(self, x: Tensor) -> None:
        """A new batch, whose error is 0."""
        self._error = ErrorRecursion(self._sampler, tuple(x.shape))

    def step(self, now: _Moment, respond: Response) -> None:
        """Advance the error by one call of the network."""
        update = self._sampler.updates[now.step]
        added = self._added(now, now.x, now.output)
        quantized = self._sampler.predict(FLOAT64, update, now.x, now.output + added)
        self._epsilon.add(now.step, now.members, now.prediction.epsilon, quantized.epsilon)
        response = respond(now.x, self._error.x, now.timestep, now.output, now.call)
        self._error.step(update, response + self._injected(now, added, response))
        self._state.add(now.step, now.members, now.x_next, now.x_next + self._error.x)

    def _injected(self, now: _Moment, added: Tensor, response: Tensor) -> Tensor:
        """Noise of the quantized network, by the predictor's model; ``added`` is what it is at x_t."""
        kind, error = self._predictor.injection, self._error.x
        if kind == "white":
            return self._drawn(now, added)
        if kind == "recorded" or not now.step:  # before the first step there is no error to be displaced by
            return added
        displacement = error.roll(_distance(now.step, len(error)), 0)
        other = now.x + displacement
        output = (now.call or plain_call)(*self._arguments(now, other)).double()
        displaced = self._added(now, other, output)
        if kind == "displaced":
            return displaced
        of_output, of_state = _slopes(added, now.output, now.x)
        return displaced + of_output * (now.output + response - output) + of_state * (error - displacement)

    def _arguments(self, now: _Moment, x: Tensor) -> tuple[Any, Tensor, Tensor]:
        return self._network.model.module, x.float(), now.timestep

    def _added(self, now: _Moment, x: Tensor, output: Tensor) -> Tensor:
        """What quantization adds to the output at x."""
        found = self._network(x.float(), now.timestep, step=now.step, audit=False, call=now.call)
        return found.double() - output

    def _drawn(self, now: _Moment, added: Tensor) -> Tensor:
        """Noise with the mean and deviation that ``added`` has in each channel, white otherwise."""
        axes = [0, *range(2, added.ndim)]
        mean, deviation = added.mean(axes, keepdim=True), added.std(axes, keepdim=True)
        return mean + deviation * self._white.step(now.step, now.members, self._network.model.sample_shape)

    def dataset(self, settings: dict[str, Any]) -> xr.Dataset:
        """What was predicted, labelled."""
        network = self._network
        config = run_config(network, NoCorrection(), network.conditioning, **settings)
        arrays = {
            "timestep": timestep_array(self._sampler.updates),
            "state_predicted": self._state.blocks(),
            "state_sample_predicted": self._state.samples(),
            "epsilon_injected": self._epsilon.blocks(),
            "epsilon_count": self._epsilon.count(),
        }
        coords = {
            "moment": list(moment_names()), "model": config["model"], "scheme": config["scheme"],
            "target": config["target"], "sampler": self._sampler.name, "seed": config["seed"],
            "prediction": settings["prediction"],
        }  # fmt: skip
        data = {name: (BY_NAME[name].dims, array, BY_NAME[name].attrs) for name, array in arrays.items()}
        return xr.Dataset(data, coords, {"config": canonical(config), "key": run_key(config), **environment()})


def _slopes(added: Tensor, output: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares of ``added`` on output and x with an intercept, (1, channel, 1, ...) each.

    Early in a run epsilon is nearly x; where the two cannot be told apart, the shortest of the best fits is taken.
    """
    rank = x.ndim
    added, output, x = (t.movedim(1, 0).flatten(1) for t in (added, output, x))
    known = torch.stack([output, x, torch.ones_like(x)], 2)
    found = torch.linalg.lstsq(known, added.unsqueeze(2), driver="gelsd").solution[:, :2, 0]
    shape = (1, -1, *[1] * (rank - 2))
    return found[:, 0].reshape(shape), found[:, 1].reshape(shape)


def _distance(step: int, batch: int) -> int:
    """How far along the batch the other error lies: never 0, and every other place once before any comes again."""
    stride = next(s for s in (7, 5, 3, 2, 1) if gcd(s, batch - 1) == 1)
    return 1 + (stride * step) % (batch - 1)


def _check(
    networks: Sequence[QuantizedModel], sampler: Sampler, samples: int, batch_size: int, predictor: Predictor
) -> QuantizedModel:
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    require_linear(sampler)
    models = {(network.model.weights_digest, id(network.model.module)) for network in networks}
    conditions = {canonical({} if n.conditioning is None else n.conditioning.config()) for n in networks}
    if len(models) != 1 or len(conditions) != 1:
        raise BadInput(
            "a prediction takes networks of one model and conditioning",
            got=f"{len(models)} models and {len(conditions)} conditionings",
            fix="predict for each apart",
        )
    smallest = samples % batch_size or min(samples, batch_size)
    if predictor.injection in ("displaced", "split") and smallest < 3:
        raise BadInput(
            "injection is displaced by errors of other samples, so every batch needs 3 or more",
            got=f"a batch of {smallest}",
            fix="use a number of samples that the batch size divides",
        )
    return networks[0]
