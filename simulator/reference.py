"""The full-precision trajectory that every measurement refers to, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from samplers.coefficients import Prediction, Update, advance, history_length
from samplers.errors import BadInput
from samplers.method import clipped
from samplers.noise import NoiseStream
from samplers.parameterization import predict
from samplers.sampler import Sampler
from samplers.state import State
from simulator.instrument.attention_parts import Attention, attention_in_float
from simulator.instrument.contractions import Contraction
from simulator.instrument.forward import Call, forward
from simulator.instrument.interception import Handler
from simulator.instrument.sites import SiteKey
from simulator.models.registry import Model

Look = Callable[[int, SiteKey, Contraction, Tensor], None]
"""Called with the step, and a site's contraction and its float result."""


class Outputs(Protocol):
    """The network's outputs, known already (``simulator.recording``)."""

    def at(self, step: int, members: np.ndarray) -> Tensor:
        """Of these samples at a step."""
        ...


@dataclass(frozen=True)
class Arithmetic:
    """A state's arithmetic at one step."""

    state: State
    sampler: Sampler
    update: Update

    def predict(self, output: Tensor, x: Tensor) -> Prediction:
        """x0 and epsilon, and a learned sigma, from the network's output at x, by ``update``."""
        return self.sampler.predict(self.state, self.update, x, self.state.cast(output))

    def corrected(self, epsilon: Tensor, x: Tensor, prediction: Prediction) -> Prediction:
        """A corrected epsilon with the x0 that goes with it, and the sigma that the network predicted beside its own.

        Raises:
            BadInput: abar is 0, where epsilon is x and says nothing about x0.
        """
        if self.update.alpha_cumprod == 0:
            raise BadInput(
                "a correction of epsilon needs some signal at every timestep",
                got=f"alphas_cumprod 0 at timestep {self.update.timestep} (rescale_betas_zero_snr)",
                fix="use timestep_spacing leading, or a correction that leaves this step alone",
            )
        corrected = clipped(self.sampler.clipping, *predict(self.state, "epsilon", self.update, x, epsilon))
        return corrected._replace(sigma=prediction.sigma)


@dataclass(frozen=True)
class Point:
    """What full precision did at one step of one batch."""

    step: int
    members: np.ndarray
    timestep: Tensor
    call: Call | None
    arithmetic: Arithmetic
    outputs: dict[SiteKey, Tensor]
    output: Tensor
    x: Tensor
    prediction: Prediction
    x_next: Tensor
    z: Tensor | None

    @property
    def epsilon(self) -> Tensor:
        """The predicted epsilon."""
        return self.prediction.epsilon


def full_precision(
    model: Model,
    allow_float: tuple[str, ...],
    sampler: Sampler,
    state: State,
    noise: NoiseStream,
    members: np.ndarray,
    call: Call | None,
    look: Look | None = None,
    recording: Outputs | None = None,
) -> Iterator[Point]:
    """Walk the full-precision trajectory of one batch, step by step.

    Args:
        model: the network.
        allow_float: patterns of sites and modules that may stay outside sites.
        sampler: the sampler.
        state: arithmetic of x_t and of the update.
        noise: initial and step noise.
        members: indices of the batch's samples.
        call: calls the network with their conditions.
        look: sees each contraction with its float result, while its operands are at hand.
        recording: gives the network's outputs in its place; no site's output is known then.
    """
    x = state.cast(sampler.init_noise_sigma * noise.initial(members, model.sample_shape))
    earlier: tuple[Prediction, ...] = ()
    kept = history_length(sampler.updates)
    for step, update in enumerate(sampler.updates):
        outputs: dict[SiteKey, Tensor] = {}
        timestep = update.timesteps(len(members))
        if recording is None:
            handler = _Keeping(outputs) if look is None else _looking(step, outputs, look)
            seen = x.to(torch.float32, copy=True)
            output = forward(model.module, handler, seen, timestep, call=call, allow_float=allow_float)
        else:
            output = recording.at(step, members)
        arithmetic = Arithmetic(state, sampler, update)
        prediction = arithmetic.predict(output, x)
        z = state.cast(noise.step(step, members, model.sample_shape)) if update.noise_coefficient > 0 else None
        x_next = advance(state, update, x, prediction, z, earlier)
        yield Point(step, members, timestep, call, arithmetic, outputs, output, x, prediction, x_next, z)
        x, earlier = x_next, (prediction, *earlier)[:kept]


class _Keeping:
    """Handler that computes in float and keeps each site's output for this step."""

    def __init__(self, outputs: dict[SiteKey, Tensor]) -> None:
        self._outputs = outputs

    def __call__(self, site: SiteKey, contraction: Contraction, /) -> Tensor:
        """The contraction in float."""
        found = contraction.float()
        self._outputs[site] = found.clone()  # the network may write to its own
        return found

    def attention(self, scores: SiteKey, mixture: SiteKey, operation: Attention, /) -> Tensor:
        """A large attention in float, in parts."""
        self._outputs[scores] = operation.empty_scores()
        found = attention_in_float(operation, self._outputs[scores])
        self._outputs[mixture] = found.clone()
        return found


def _looking(step: int, outputs: dict[SiteKey, Tensor], look: Look) -> Handler:
    """Keeps outputs too, and shows each contraction whole."""

    def handle(site: SiteKey, contraction: Contraction) -> Tensor:
        found = contraction.float()
        outputs[site] = found.clone()
        look(step, site, contraction, outputs[site])
        return found

    return handle
