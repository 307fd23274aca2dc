"""Final samples by the thousand, in full precision and under schemes on shared noise, without recording the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samplers.coefficients import Prediction, advance, history_length
from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.schedule import require_schedule
from samplers.state import FLOAT64, State
from samplers.validation import require_int
from simulator.correction import Correction, NoCorrection
from simulator.instrument.contractions import Contraction
from simulator.instrument.forward import Call, forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Model
from simulator.reference import Arithmetic

Progress = Callable[[int, int], None]
"""Called after each step of each batch with (steps done, steps in all)."""


@dataclass(frozen=True)
class Generator:
    """What draws samples: a model in full precision, or quantized, perhaps corrected.

    Args:
        model: the network.
        quantized: the same network under a scheme; None for full precision.
        correction: of the quantized network.
    """

    model: Model
    quantized: QuantizedModel | None = None
    correction: Correction = field(default_factory=NoCorrection)

    def __post_init__(self) -> None:
        if self.quantized is not None and self.quantized.model is not self.model:
            raise BadInput("a quantized network must be one of the model", got="another's", fix="pass its own model")


@torch.no_grad()
def final_images(
    generator: Generator,
    sampler: Sampler,
    *,
    samples: int,
    seed: int = 0,
    purpose: str = "evaluate",
    batch_size: int = 256,
    conditioning: Conditioning | None = None,
    state: State = FLOAT64,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Final samples as images, (samples, channels, height, width) float32; those of latent models are decoded.

    Sample i is what a paired run of the same settings ends in, bit for bit, under full precision and under each arm:
    noise is addressed by sample and step, so that generators called with one seed share it.

    Args:
        generator: what draws.
        sampler: the method.
        samples: how many.
        seed: of the noise stream.
        purpose: of the noise stream.
        batch_size: samples per forward pass.
        conditioning: what samples are conditioned on.
        state: arithmetic of x_t and of the update.
        progress: called after each step.

    Raises:
        BadInput: sizes below 1, a model without a noise schedule, or conditions that do not fit.
    """
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    require_schedule(generator.model.schedule)
    noise = NoiseStream(seed, purpose)
    updates = tuple(generator.correction.update(i, update) for i, update in enumerate(sampler.updates))
    kept, model = history_length(updates), generator.model
    batches = range(0, samples, batch_size)
    images = []
    for done, first in enumerate(batches):
        members = np.arange(first, min(first + batch_size, samples))
        call = call_for(model, conditioning, members)
        x = state.cast(sampler.init_noise_sigma * noise.initial(members, model.sample_shape))
        earlier: tuple[Prediction, ...] = ()
        for step, update in enumerate(sampler.updates):
            arithmetic = Arithmetic(state, sampler, updates[step])
            prediction = _predict(generator, arithmetic, step, x, members, call)
            z = state.cast(noise.step(step, members, model.sample_shape)) if update.noise_coefficient > 0 else None
            x = advance(state, updates[step], x, prediction, z, earlier)
            earlier = (prediction, *earlier)[:kept]
            if progress is not None:
                progress(done * len(updates) + step + 1, len(batches) * len(updates))
        exact = x if x.dtype in (torch.float32, torch.float64) else x.float()
        images.append((exact if model.decoder is None else model.decoder.decode(exact)).float().numpy())
    return np.concatenate(images)


def _predict(
    generator: Generator,
    arithmetic: Arithmetic,
    step: int,
    x: Tensor,
    members: NDArray[np.int64],
    call: Call | None,
) -> Prediction:
    """x0 and epsilon at x, corrected."""
    timestep = arithmetic.update.timesteps(len(members))
    if generator.quantized is None:
        seen = x.to(torch.float32, copy=True)
        output = forward(generator.model.module, _in_float, seen, timestep, call=call, audit=False)
        return arithmetic.predict(output, x)
    correction = generator.correction
    seen = correction.input(step, x).to(torch.float32, copy=True)
    output = generator.quantized(seen, timestep, step=step, audit=False, call=call)
    prediction = arithmetic.predict(output, x)
    epsilon = arithmetic.state.cast(correction.epsilon(step, prediction.epsilon, members))
    if torch.equal(epsilon, prediction.epsilon):  # x0 stays as the output gave it, to the last bit
        return prediction
    return arithmetic.corrected(epsilon, x, prediction)


def _in_float(site: SiteKey, contraction: Contraction, /) -> Tensor:
    """Handler that computes as a paired run's reference does."""
    return contraction.float()
