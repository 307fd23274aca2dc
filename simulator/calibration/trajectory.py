"""Calibration along the sampler's own full-precision trajectory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from samplers.loop import sample
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.schedule import require_schedule
from samplers.validation import require_int
from simulator.calibration.observers import MinMaxObserver, Ranges
from simulator.instrument.forward import forward
from simulator.instrument.sites import watching
from simulator.models.conditioning import Conditioning, call_for, conditioning_config
from simulator.models.registry import Model
from simulator.provenance import model_config

PURPOSE = "calibrate"
"""Purpose of the noise stream of samples that fit ranges."""


def calibrate_ranges(
    model: Model,
    sampler: Sampler,
    *,
    samples: int = 256,
    seed: int = 0,
    batch_size: int = 64,
    allow_float: tuple[str, ...] = (),
    conditioning: Conditioning | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Ranges:
    """Minimum and maximum of every run-time operand over all steps of a full-precision sampling run.

    Args:
        model: the network.
        sampler: the sampler that the quantized network will run under.
        samples: size of the calibration set.
        seed: of its noise stream, whose purpose is "calibrate": disjoint from every evaluation stream.
        batch_size: samples per forward pass.
        allow_float: patterns of sites and modules that stay in float, as the quantized network's.
        conditioning: what samples are conditioned on, and guidance, both of whose passes are observed.
        progress: called after each step with (steps done, steps in all).

    Raises:
        BadInput: a size below 1, a model without a noise schedule, or an operand that is not finite.
    """
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    require_schedule(model.schedule)
    observer = MinMaxObserver()
    batches = range(0, samples, batch_size)
    total = len(batches) * len(sampler.updates)
    done = 0

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        nonlocal done
        output = forward(model.module, observer, x, timestep, call=call, allow_float=allow_float)
        done += 1
        if progress is not None:
            progress(done, total)
        return output

    with torch.no_grad(), watching(model.module):
        for first in batches:
            members = range(first, min(first + batch_size, samples))
            call = call_for(model, conditioning, members)
            sample(denoise, sampler, NoiseStream(seed, PURPOSE), members, model.sample_shape)
    source = {
        **model_config(model),
        **conditioning_config(conditioning),
        "observer": "min-max",
        "samples": samples,
        "seed": seed,
        "purpose": PURPOSE,
        "batch_size": batch_size,
        "sampler": sampler.config(),
    }
    return observer.ranges(source)
