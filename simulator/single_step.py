"""One step from full precision's x_t: the mean of x_{t-1} with and without quantization, and the noise against x_t.

Fresh noise is left out and its variance known, so that the one-step variance of x_{t-1} is measured without its
sampling error: var(mean) + c^2. A paired run has x_{t-1} only of trajectories that have drifted apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from samplers.coefficients import Prediction, Update, advance, history_length, timestep_array
from samplers.errors import BadInput
from samplers.method import clipped
from samplers.noise import NoiseStream
from samplers.parameterization import predict
from samplers.sampler import Sampler
from samplers.state import FLOAT64
from samplers.validation import require_int
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import watching
from simulator.models.conditioning import call_for
from simulator.moments import moment_names
from simulator.paired import Arm, Progress
from simulator.provenance import canonical, environment, run_config, run_key
from simulator.record import ChannelRecord
from simulator.reference import Point, full_precision
from simulator.variables import BY_NAME


@torch.no_grad()
def one_step(
    arms: Sequence[Arm],
    sampler: Sampler,
    *,
    samples: int = 64,
    seed: int = 0,
    purpose: str = "evaluate",
    batch_size: int = 64,
    progress: Progress | None = None,
) -> tuple[xr.Dataset, ...]:
    """Measure one step of every arm from each x_t of the full-precision trajectory.

    Args:
        arms: quantized networks of one model and one set of conditions, with corrections; their own state is not used,
            since steps start from full precision's.
        sampler: any of ``samplers``. Clipping is applied to both predictions.
        samples: number of samples.
        seed: of the noise stream.
        purpose: of the noise stream.
        batch_size: samples per forward pass.
        progress: called after each step with (steps done, steps in all).

    Returns:
        One dataset per arm: ``mean_injected`` and ``residual_injected`` with ``epsilon_count``, the sampler's ``c`` and
        the arm's ``c_used``; ``simulator.variables`` defines each.

    Raises:
        BadInput: no arms, arms of different models or conditions, sizes below 1, a correction fitted for another use.
    """
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    shared = {(id(arm.quantized.model.module), id(arm.quantized.conditioning)) for arm in arms}
    if len(shared) != 1:
        raise BadInput("arms must share one model and its conditions", got=f"{len(shared)} of them", fix="split them")
    quantized = arms[0].quantized
    settings = {
        "one_step": True, "sampler": sampler.config(), "state": type(FLOAT64).__name__, "samples": samples,
        "seed": seed, "purpose": purpose, "batch_size": batch_size,
    }  # fmt: skip
    configs = [run_config(arm.quantized, arm.correction, quantized.conditioning, **settings) for arm in arms]
    for arm, config in zip(arms, configs, strict=True):
        arm.correction.check(config)
    work = [_Arm(arm, sampler, samples) for arm in arms]
    noise, model, kept = NoiseStream(seed, purpose), quantized.model, history_length(sampler.updates)
    batches = range(0, samples, batch_size)
    with watching(model.module):
        for done, first in enumerate(batches):
            members = np.arange(first, min(first + batch_size, samples))
            call = call_for(model, quantized.conditioning, members)
            earlier: tuple[Prediction, ...] = ()
            for point in full_precision(model, quantized.allow_float, sampler, FLOAT64, noise, members, call):
                outputs: dict[int, Tensor] = {}
                for one in work:
                    one.add(point, earlier, outputs)
                earlier = (point.prediction, *earlier)[:kept]
                if progress is not None:
                    progress(done * len(sampler.updates) + point.step + 1, len(batches) * len(sampler.updates))
    return tuple(one.dataset(config) for one, config in zip(work, configs, strict=True))


class _Arm:
    """What is recorded of one arm."""

    def __init__(self, arm: Arm, sampler: Sampler, samples: int) -> None:
        steps, channels = len(sampler.updates), arm.quantized.model.sample_shape[0]
        self._arm, self._sampler = arm, sampler
        self._updates = tuple(arm.correction.update(i, update) for i, update in enumerate(sampler.updates))
        self._mean, self._residual = (ChannelRecord(steps, samples, channels) for _ in range(2))

    def add(self, point: Point, earlier: tuple[Prediction, ...], outputs: dict[int, Tensor]) -> None:
        """Record one point; ``outputs`` holds what networks returned at its x_t, shared by arms."""
        correction, step, members = self._arm.correction, point.step, point.members
        seen = correction.input(step, point.x)
        if seen is point.x:
            own = id(self._arm.quantized)
            if own not in outputs:
                outputs[own] = _forward(self._arm.quantized, point, point.x)
            output = outputs[own]
        else:
            output = _forward(self._arm.quantized, point, seen)
        epsilon = correction.epsilon(step, point.arithmetic.predict(output, point.x).epsilon, members)
        state, x = point.arithmetic.state, point.x
        free, used = (_without_noise(updates[step]) for updates in (self._sampler.updates, self._updates))
        corrected = clipped(self._sampler.clipping, *predict(state, "epsilon", used, x, epsilon))
        mean = advance(state, free, x, point.prediction, None, earlier)
        own_mean = advance(state, used, x, corrected, None, earlier)
        self._mean.add(step, members, mean, own_mean)
        self._residual.add(step, members, x, x + (epsilon - point.epsilon))

    def dataset(self, config: dict[str, Any]) -> xr.Dataset:
        """What was recorded, labelled."""
        arrays = {
            "mean_injected": self._mean.blocks(),
            "residual_injected": self._residual.blocks(),
            "epsilon_count": self._mean.count(),
            "timestep": timestep_array(self._sampler.updates),
            "c": np.array([update.c for update in self._sampler.updates]),
            "c_used": np.array([update.c for update in self._updates]),
        }
        data = {name: (BY_NAME[name].dims, array, BY_NAME[name].attrs) for name, array in arrays.items()}
        coords: dict[str, Any] = {
            "moment": list(moment_names()), "model": config["model"], "scheme": config["scheme"],
            "correction": self._arm.correction.name, "sampler": self._sampler.name, "seed": config["seed"],
        }  # fmt: skip
        attrs = {"config": canonical(config), "key": run_key(config), **environment()}
        return xr.Dataset(data, coords=coords, attrs=attrs)


def _without_noise(update: Update) -> Update:
    return dataclasses.replace(update, noise_coefficient=0 * update.noise_coefficient)


def _forward(quantized: QuantizedModel, point: Point, x: Tensor) -> Tensor:
    # full precision was audited on this very timestep
    return quantized(x.to(torch.float32, copy=True), point.timestep, step=point.step, audit=False, call=point.call)
