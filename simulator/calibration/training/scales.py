"""Scales that are learned, one for every timestep or one that follows it: the plug of an activation quantizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from samplers.validation import require_int


@runtime_checkable
class TimeScale(Protocol):
    """A learned scale: a ``torch.nn.Module``, whose parameters are trained."""

    def scale(self, timestep: Tensor, /) -> Tensor:
        """Positive float32: () if one serves every timestep, else (n,) for the training indices ``timestep`` (n,)."""
        ...


@runtime_checkable
class DrawingScale(TimeScale, Protocol):
    """A learned scale that is random in training mode, as one with dropout is."""

    def draw_from(self, generator: torch.Generator, /) -> None:
        """Take the draws of the pass to come from ``generator``: without it a resumed training differs."""
        ...


class ScaleRule(Protocol):
    """Makes the scale of one operand; an immutable value."""

    def build(self, start: float, timesteps: int, generator: torch.Generator) -> TimeScale:
        """A scale that is ``start`` at first, under a schedule of ``timesteps``; every draw from ``generator``."""
        ...

    def config(self) -> dict[str, Any]:
        """Plain JSON values: equal exactly when the rules are."""
        ...


@dataclass(frozen=True)
class RangeScales:
    """``count`` scales, each of an equal range of the training timesteps: S_N of TDQ (So et al. 2023, table 3).

    Timestep t of T has scale ``floor(t count / T)``. One, the default, is LSQ's. All start at the same value, which the
    paper leaves open.

    Raises:
        BadInput: a count below 1.
    """

    count: int = 1

    def __post_init__(self) -> None:
        require_int("count", self.count, 1)

    def build(self, start: float, timesteps: int, generator: torch.Generator) -> TimeScale:
        """The scales; nothing is drawn."""
        return _Scales(start, self.count, timesteps)

    def config(self) -> dict[str, Any]:
        """As JSON."""
        return {"rule": "ranges", "count": self.count}


class _Scales(nn.Module):
    """start * exp(log): positive whatever the optimizer does, whose steps are then relative to the start."""

    start: Tensor

    def __init__(self, start: float, count: int, timesteps: int) -> None:
        super().__init__()
        self._timesteps = timesteps
        self.register_buffer("start", torch.tensor(start, dtype=torch.float32))
        self.log = nn.Parameter(torch.zeros(count))

    def scale(self, timestep: Tensor) -> Tensor:
        scales = self.start * torch.exp(self.log)
        if len(scales) == 1:
            return scales[0]
        return scales[torch.div(timestep * len(scales), self._timesteps, rounding_mode="floor").long()]
