"""The offline table: learned intervals at a sampler's steps, as ranges that the engine turns into the same scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from samplers.errors import BadInput
from samplers.sampler import Sampler
from simulator.calibration.intervals.learned import LearnedIntervals, OperandKey, timesteps_of
from simulator.calibration.parameters import bounds_of
from simulator.calibration.ranges import Bounds, Ranges
from simulator.calibration.steps import StepSets


@torch.no_grad()
def table(intervals: LearnedIntervals, sampler: Sampler) -> dict[OperandKey, tuple[np.ndarray, np.ndarray]]:
    """Scale (steps,), float32, and zero point (steps,), int32, of each operand at each step, dropout off."""
    times = timesteps_of(sampler)
    training = intervals.training
    intervals.eval()
    try:
        scales, zeros = intervals.scales(times).numpy(), torch.round(intervals.zero_points(times)).numpy()
    finally:
        intervals.train(training)
    return {key: (scales[row], zeros[row].astype(np.int32)) for row, key in enumerate(intervals.keys)}


def ranges_at(
    intervals: LearnedIntervals, sampler: Sampler, source: Mapping[str, Any], *, others: Ranges | None = None
) -> Ranges:
    """Ranges, one set per step of any sampler, whose scales and zero points are the table's to the bit.

    Args:
        intervals: learned on whatever timesteps.
        sampler: whose steps the ranges serve.
        source: of the samples, such as ``OperandSamples.source``: what the intervals were learned from.
        others: ranges of what the intervals do not hold, such as requantized outputs.

    Raises:
        BadInput: a scale that float32 holds as a subnormal only, such as that of a diverged fit, or other ranges that
            do not serve every step.
    """
    steps = StepSets.each(len(sampler.updates))
    names = [s.name for s in steps.sets]
    bounds: dict[tuple[Any, str, str], Bounds] = {}
    for key, found in table(intervals, sampler).items():
        spec = intervals.specs[intervals.keys.index(key)]
        for name, scale, zero in zip(names, *found, strict=True):
            bounds[*key, name] = bounds_of(np.asarray(scale), np.asarray(zero), spec)
    if others is not None:
        missing = {(site, role) for site, role, _ in others.bounds} - set(intervals.keys)
        for site, role in missing:
            for step, name in enumerate(names):
                bounds[site, role, name] = others.of(site, role, step)
    extra = {} if others is None else {"others": dict(others.source)}
    if "weights_digest" not in source:
        raise BadInput(
            "a table must say which weights its intervals were learned for",
            got=sorted(source), fix="pass the samples' source",
        )  # fmt: skip
    return Ranges(bounds, {**source, **extra, "intervals": intervals.config(), "sampler": sampler.config()}, steps)
