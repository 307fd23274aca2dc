"""Calibration along the sampler's own full-precision trajectory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.loop import sample
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.schedule import require_schedule
from samplers.validation import require_int
from simulator.arithmetic.granularity import PerTensor
from simulator.calibration.channels import OperandGranularity
from simulator.calibration.collector import Collector, Specs
from simulator.calibration.observers import MinMax, Observer
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import ALL_STEPS, StepSets
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
    observer: Observer = MinMax(),  # noqa: B008 - an immutable value
    steps: StepSets = ALL_STEPS,
    granularity: OperandGranularity = PerTensor(),  # noqa: B008 - an immutable value
    outputs: bool = False,
    specs: Specs | None = None,
    allow_float: tuple[str, ...] = (),
    conditioning: Conditioning | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Ranges:
    """Bounds of every run-time operand over a full-precision sampling run, in one pass for all sites.

    As it stands: minimum and maximum per tensor, over all steps. Memory does not grow with the samples. Where no step
    set observes the last steps, they do not run.

    Args:
        model: the network.
        sampler: the sampler that the quantized network will run under.
        samples: size of the calibration set.
        seed: of its noise stream, whose purpose is "calibrate": disjoint from every evaluation stream.
        batch_size: samples per forward pass.
        observer: how bounds are found.
        steps: which steps share bounds.
        granularity: which elements of an operand share bounds.
        outputs: observe the contractions' results too, under the role "output".
        specs: what the bounds are for, where the observer needs it: one spec, or one per (site, role).
        allow_float: patterns of sites and modules that stay in float, as the quantized network's.
        conditioning: what samples are conditioned on, and guidance, both of whose passes are observed.
        progress: called after each step with (steps done, steps in all).

    Raises:
        BadInput: a size below 1, a model without a noise schedule, a step set beyond the sampler's steps, or an operand
            that is not finite.
    """
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    require_schedule(model.schedule)
    collector = Collector(observer, steps=steps, granularity=granularity, outputs=outputs, specs=specs)
    _check_steps(steps, len(sampler.updates))
    end = len(sampler.updates) if steps.last is None else steps.last + 1
    batches = range(0, samples, batch_size)
    total = len(batches) * end
    done = 0

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        nonlocal done
        collector.step = done % end
        output = forward(model.module, collector, x, timestep, call=call, allow_float=allow_float)
        done += 1
        if progress is not None:
            progress(done, total)
        if collector.step == end - 1 < len(sampler.updates) - 1:
            raise _Enough
        return output

    with torch.no_grad(), watching(model.module):
        for first in batches:
            members = range(first, min(first + batch_size, samples))
            call = call_for(model, conditioning, members)
            with suppress(_Enough):
                sample(denoise, sampler, NoiseStream(seed, PURPOSE), members, model.sample_shape)
    source = {
        **model_config(model),
        **conditioning_config(conditioning),
        **collector.config(),
        "samples": samples,
        "seed": seed,
        "purpose": PURPOSE,
        "batch_size": batch_size,
        "sampler": sampler.config(),
    }
    return collector.ranges(source)


class _Enough(Exception):
    """The last observed step is done."""


def _check_steps(steps: StepSets, count: int) -> None:
    beyond = [step for s in steps.sets for step in (*(s.observed or ()), *(s.serves or ())) if step >= count]
    if beyond:
        raise BadInput(
            f"steps must lie in 0..{count - 1} for a sampler of {count} steps", got=beyond, fix="name existing steps"
        )
