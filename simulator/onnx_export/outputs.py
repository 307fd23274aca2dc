"""Ranges of operands and of outputs, from one calibration run: a deployed site gives codes, so its output has a range.

The only place that finds output ranges; what else reads them goes through :func:`output_range`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from samplers.loop import sample
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.validation import require_int
from simulator.calibration.observers import MinMaxObserver, Ranges
from simulator.calibration.trajectory import PURPOSE
from simulator.instrument.contractions import Contraction
from simulator.instrument.forward import forward
from simulator.instrument.sites import SiteKey, watching
from simulator.models.registry import Model
from simulator.provenance import model_config

OUTPUT = "output"
"""Role of what a site computes."""


class OutputObserver(MinMaxObserver):
    """A :class:`MinMaxObserver` that keeps the extremes of each site's output too, bias included."""

    def __call__(self, site: SiteKey, contraction: Contraction) -> Tensor:
        """Observe operands, compute in float, observe the result."""
        output = super().__call__(site, contraction)
        low, high = (bound.item() for bound in torch.aminmax(output))
        known = self._bounds.get((site, OUTPUT), (low, high))
        self._bounds[site, OUTPUT] = min(low, known[0]), max(high, known[1])
        return output


def calibrate_with_outputs(
    model: Model,
    sampler: Sampler,
    *,
    samples: int = 256,
    seed: int = 0,
    batch_size: int = 64,
    allow_float: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Ranges:
    """As :func:`simulator.calibrate_ranges`, on the same samples, with the output of every site besides.

    Args:
        model: the network.
        sampler: the sampler that the deployed network will run under.
        samples: size of the calibration set.
        seed: of its noise stream, whose purpose is "calibrate".
        batch_size: samples per forward pass.
        allow_float: patterns of sites and modules that stay in float.
        progress: called after each step with (steps done, steps in all).

    Raises:
        BadInput: a size below 1, or an operand that is not finite.
    """
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    observer = OutputObserver()
    batches = range(0, samples, batch_size)
    total, done = len(batches) * len(sampler.updates), 0

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        nonlocal done
        output = forward(model.module, observer, x, timestep, call=model.call, allow_float=allow_float)
        done += 1
        if progress is not None:
            progress(done, total)
        return output

    with torch.no_grad(), watching(model.module):
        for first in batches:
            members = range(first, min(first + batch_size, samples))
            sample(denoise, sampler, NoiseStream(seed, PURPOSE), members, model.sample_shape)
    source = {
        **model_config(model), "observer": "min-max", "outputs": True, "samples": samples, "seed": seed,
        "purpose": PURPOSE, "batch_size": batch_size, "sampler": sampler.config(),
    }  # fmt: skip
    return observer.ranges(source)


def output_range(ranges: Ranges, site: SiteKey) -> tuple[float, float]:
    """Bounds of a site's output.

    Raises:
        BadInput: it was not calibrated.
    """
    return ranges.of(site, OUTPUT)
