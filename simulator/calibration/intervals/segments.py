"""Scales learned one by one for segments of the timesteps: S_N, one per step, one per range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.sampler import Sampler
from samplers.validation import require_int, require_real
from simulator.calibration.collector import Specs
from simulator.calibration.intervals.learned import (
    LearnedIntervals,
    OperandKey,
    inverse_softplus,
    spec_of,
    timesteps_of,
)
from simulator.calibration.intervals.observation import OperandSamples
from simulator.calibration.intervals.start import Start, least_error


@dataclass(frozen=True)
class Segments:
    """One learned scale for the timesteps up to and including each end, from the end before.

    Timesteps beyond the last end take the last scale. Scales pass through a softplus, as TDQ's do, so that they stay
    positive and steps of one learning rate are relative to them.

    Args:
        ends: ascending timesteps, one at least.
        name: in configurations.

    Raises:
        BadInput: ends that do not ascend.
    """

    ends: tuple[float, ...]
    name: str = "segments"

    default_rate = 5e-3

    def __post_init__(self) -> None:
        ends = tuple(require_real("an end", end) for end in self.ends)
        object.__setattr__(self, "ends", ends)
        if not ends or any(a >= b for a, b in pairwise(ends)):
            raise BadInput("ends must ascend, one at least", got=self.ends, fix="pass for instance (499.0, 999.0)")

    @classmethod
    def uniform(cls, count: int, num_train_timesteps: int = 1000) -> Segments:
        """S_N of TDQ's table 3: N = ``count`` scales, each for T/N timesteps; one is LSQ's single scale.

        Raises:
            BadInput: a count below 1, or above the number of timesteps.
        """
        total = require_int("num_train_timesteps", num_train_timesteps, 1)
        if require_int("count", count, 1) > total:
            raise BadInput(f"count must be at most {total}", got=count, fix="use fewer scales")
        return cls(tuple((i * total) / count - 1 for i in range(1, count + 1)), f"s_{count}")

    @classmethod
    def each(cls, sampler: Sampler) -> Segments:
        """One scale for each step of a sampler; other samplers' steps take that of the next timestep at or above."""
        return cls(tuple(sorted(set(timesteps_of(sampler).tolist()))), "each-step")

    def start(self, samples: OperandSamples, specs: Specs, *, seed: int = 0, p: float = 2.0) -> SegmentIntervals:
        """Intervals of every observed operand, all at their operand's scale of least error over all timesteps."""
        starts = {
            key: least_error(values, samples.weight(key), spec_of(specs, key), p)
            for key, values in samples.values.items()
        }
        return SegmentIntervals(self, starts, specs)

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "ends": list(self.ends)}


class SegmentIntervals(LearnedIntervals):
    """Intervals of one scale per segment.

    Args:
        method: the segments.
        starts: first scale and zero point of each operand.
        specs: theirs.
    """

    def __init__(self, method: Segments, starts: Mapping[OperandKey, Start], specs: Specs) -> None:
        super().__init__(starts, specs)
        self.method = method
        first = torch.tensor([start.scale for start in starts.values()], dtype=torch.float64)
        self.raw = nn.Parameter(inverse_softplus(first)[:, None].repeat(1, len(method.ends)))
        self._ends = torch.tensor(method.ends, dtype=torch.float64)

    def before_softplus(self, timestep: Tensor, rows: slice) -> Tensor:
        """The segment's number, (rows, n)."""
        place = torch.searchsorted(self._ends, timestep.to(torch.float64)).clamp(max=len(self._ends) - 1)
        return self.raw[rows][:, place]

    def config(self) -> dict[str, Any]:
        """Plain JSON values, with a digest of what was learned."""
        return {**self.method.config(), "sha256": self.digest()}
