"""How large each input channel of each layer becomes while sampling: max |X_j|, step by step or sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.loop import sample
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.schedule import require_schedule
from samplers.validation import require_int
from simulator.calibration.channels import PerChannel, channel_axis
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import PURPOSE, calibrate_ranges
from simulator.instrument.contractions import Contraction, MatMul
from simulator.instrument.forward import forward
from simulator.instrument.sites import SiteKey, watching
from simulator.models.conditioning import Conditioning, call_for, conditioning_config
from simulator.models.registry import Model
from simulator.provenance import model_config

Variant = Literal["paper", "released"]

DEFAULT_SAMPLES: dict[str, int] = {"paper": 64, "released": 4}
"""Size of the calibration set; of the released code, which takes 4 rows of each timestep."""


@dataclass(frozen=True)
class Salience:
    """Largest magnitudes of the input channels of layers with a weight.

    Attributes:
        maxima: module path -> float64 (points, channels); a point is a step, or one row of one step's batch.
        source: how they were found, as plain JSON values; ``weights_digest`` in it names the network.
    """

    maxima: Mapping[str, np.ndarray]
    source: Mapping[str, Any]

    def of(self, readers: tuple[str, ...]) -> np.ndarray:
        """(points, channels) of the tensor that these layers read.

        Raises:
            BadInput: a layer that no pass met.
        """
        for path in readers:
            if path not in self.maxima:
                raise BadInput("salience must be known of every layer", got=f"none of {path}", fix="collect it anew")
        return np.max([self.maxima[path] for path in readers], axis=0)


def salience_of(ranges: Ranges) -> Salience:
    """Salience from bounds per channel: a point is a step set, in the sets' order; ``max(|low|, |high|)``.

    Args:
        ranges: of ``PerChannel()``, one step set per step for what depends on the step.

    Raises:
        BadInput: ranges that are not per channel.
    """
    maxima: dict[str, np.ndarray] = {}
    for site in dict.fromkeys(site for site, role, _ in ranges.bounds if role == "input"):
        rows = [np.maximum(np.abs(low), np.abs(high)).ravel() for low, high in _of_sets(ranges, site)]
        if any(low.ndim == 0 for low, _ in _of_sets(ranges, site)):
            raise BadInput("salience needs ranges per channel", got=f"one range at {site}", fix="use PerChannel()")
        found = np.stack(rows)
        maxima[site.module] = np.maximum(found, maxima[site.module]) if site.module in maxima else found
    return Salience(maxima, dict(ranges.source))


def _of_sets(ranges: Ranges, site: SiteKey) -> list[tuple[np.ndarray, np.ndarray]]:
    return [ranges.bounds[site, "input", s.name] for s in ranges.steps.sets]


def collect_salience(
    model: Model,
    sampler: Sampler,
    *,
    variant: Variant = "paper",
    samples: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    steps: tuple[int, ...] | None = None,
    conditioning: Conditioning | None = None,
    allow_float: tuple[str, ...] = (),
) -> Salience:
    """Salience along the full-precision trajectory, of purpose "calibrate".

    Args:
        model: the network, in float.
        sampler: the one that the quantized network will run under.
        variant: ``"paper"``: a point is a step, its maximum over all samples and tokens. ``"released"``: a point is one
            row of the batch at one step, its maximum over tokens; under guidance both passes of a sample are rows.
        samples: calibration samples; 64 for ``"paper"``, 4 for ``"released"``, as its code, by default.
        seed: of the noise.
        batch_size: samples per forward pass.
        steps: loop indices to observe; all by default.
        conditioning: what samples are conditioned on, and guidance.
        allow_float: patterns of sites and modules that stay in float.

    Raises:
        BadInput: another variant, sizes below 1, steps beyond the sampler's, a model without a noise schedule.
    """
    if variant not in DEFAULT_SAMPLES:
        raise BadInput("variant must be 'paper' or 'released'", got=repr(variant), fix="choose one")
    count = DEFAULT_SAMPLES[variant] if samples is None else require_int("samples", samples, 1)
    last = len(sampler.updates) - 1
    chosen = tuple(range(last + 1)) if steps is None else steps
    if any(step > last for step in chosen):
        raise BadInput(f"steps must lie in 0..{last}", got=chosen, fix="name the sampler's steps")
    sets = StepSets.named({str(step): (step,) for step in chosen})
    if variant == "paper":
        ranges = calibrate_ranges(
            model, sampler, samples=count, seed=seed, batch_size=batch_size, steps=sets, granularity=PerChannel(),
            conditioning=conditioning, allow_float=allow_float,
        )  # fmt: skip
        return salience_of(ranges)
    require_int("batch_size", batch_size, 1)
    require_schedule(model.schedule)
    rows = _Rows(chosen)
    with torch.no_grad(), watching(model.module):
        for first in range(0, count, batch_size):
            members = range(first, min(first + batch_size, count))
            call = call_for(model, conditioning, members)
            passes = iter(range(len(sampler.updates)))

            def denoise(x: Tensor, timestep: Tensor, call: Any = call, passes: Any = passes) -> Tensor:
                rows.step = next(passes)
                return forward(model.module, rows, x, timestep, call=call, allow_float=allow_float)

            sample(denoise, sampler, NoiseStream(seed, PURPOSE), members, model.sample_shape)
    source = {
        **model_config(model),
        **conditioning_config(conditioning),
        "salience": "rows",
        "steps": sets.config(),
        "samples": count,
        "seed": seed,
        "purpose": PURPOSE,
        "batch_size": batch_size,
        "sampler": sampler.config(),
    }
    return Salience({path: np.concatenate(found) for path, found in rows.found.items()}, source)


class _Rows:
    """Handler that keeps max |X_j| of each row of a batch, at the chosen steps."""

    def __init__(self, steps: tuple[int, ...]) -> None:
        self._steps, self.step = steps, 0
        self.found: dict[str, list[np.ndarray]] = {}

    def __call__(self, site: SiteKey, contraction: Contraction) -> Tensor:
        """Observe, then compute in float."""
        if self.step in self._steps and not isinstance(contraction, MatMul):
            x = contraction.input
            axis = channel_axis(contraction, x.ndim)
            others = [other for other in range(1, x.ndim) if other != axis]
            found = x.abs().amax(others) if others else x.abs()
            self.found.setdefault(site.module, []).append(found.double().numpy(force=True))
        return contraction.float()
