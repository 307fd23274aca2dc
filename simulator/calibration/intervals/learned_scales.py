"""Interval methods as what others optimise: a scale per timestep for training, one per step for reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.sampler import Sampler
from samplers.validation import require_int
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.intervals.generator import TDQ, GeneratedIntervals
from simulator.calibration.intervals.learned import LearnedIntervals, OperandKey, timesteps_of
from simulator.calibration.intervals.segments import SegmentIntervals, Segments
from simulator.calibration.intervals.start import Start
from simulator.calibration.steps import StepSets
from simulator.instrument.sites import SiteKey


class _Affine(Protocol):
    @property
    def scale(self) -> Any: ...
    @property
    def zero_point(self) -> int: ...


@dataclass(frozen=True)
class ScalePerTimestep:
    """Makes the learned scale of one operand for quantization-aware training, where a batch holds many timesteps.

    The zero point is the training's own. One object per operand: each costs a few small products in every pass.

    Args:
        method: TDQ() or segments.
    """

    method: TDQ | Segments

    def build(self, start: float, timesteps: int, generator: torch.Generator) -> TimestepScale:
        """A scale that is ``start`` at first (but for TDQ's variants that are not), draws made by ``generator``."""
        key = SiteKey("", "scale"), ""
        seed = int(torch.randint(2**40, (), generator=generator))
        spec = QuantSpec(IntFormat(8, signed=False))  # its zero point is not used
        return TimestepScale(_intervals(self.method, {key: Start(start, 0.0, learned=False)}, spec, seed))

    def config(self) -> dict[str, Any]:
        """Plain JSON values: equal exactly when the rules are."""
        return {"rule": "per-timestep", "method": self.method.config()}


class TimestepScale(nn.Module):
    """A learned scale that follows the training timestep.

    Args:
        intervals: of one operand.
    """

    def __init__(self, intervals: LearnedIntervals) -> None:
        super().__init__()
        self.intervals = intervals
        intervals.offset.requires_grad_(False)

    def scale(self, timestep: Tensor, /) -> Tensor:
        """Float32 (n,), positive, for training indices (n,)."""
        return self.intervals.scales(timestep)[0]

    def draw_from(self, generator: torch.Generator, /) -> None:
        """Hand it to intervals that have dropout."""
        if isinstance(self.intervals, GeneratedIntervals):
            self.intervals.draw_from(generator)


@dataclass(frozen=True, eq=False)
class ScalePerStep:
    """Makes learned scales and zero points for block reconstruction, where samples have steps of one sampler.

    A scale starts at the mean of the calibrated ones, the zero point at theirs; or, given fitted intervals, where
    these stand, which is TDQ's order: first least error, then reconstruction.

    Args:
        method: TDQ() or segments.
        sampler: says which timestep a step is.
        seed: of a generator's weights.
        fitted: intervals to go on from, left as they are; operands that they lack start as without them.

    Raises:
        BadInput: a seed below 0.
    """

    method: TDQ | Segments
    sampler: Sampler
    seed: int = 0
    fitted: LearnedIntervals | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", require_int("seed", self.seed, 0))

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        first = {} if self.fitted is None else {"fitted": self.fitted.config()}
        return {"name": "per-step", "method": self.method.config(), "seed": self.seed, **first}

    def steps(self, calibrated: StepSets) -> StepSets:
        """One set for each step of the sampler."""
        return StepSets.each(len(self.sampler.updates))

    def start(
        self, site: SiteKey, role: str, spec: QuantSpec, affines: tuple[_Affine, ...], calibrated: StepSets
    ) -> StepScale:
        """A new scale for one operand, whose calibrated parameters are ``affines``, one for each step set."""
        key = site, role
        scale = sum(float(affine.scale) for affine in affines) / len(affines)
        zero = sum(float(affine.zero_point) for affine in affines) / len(affines)
        intervals = _intervals(self.method, {key: Start(scale, zero)}, spec, self.seed)
        if self.fitted is not None and key in self.fitted.keys:
            row = self.fitted.keys.index(key)
            own, first = intervals.state_dict(), self.fitted.state_dict()
            if own.keys() != first.keys() or any(own[n].shape[1:] != first[n].shape[1:] for n in own):
                raise BadInput(
                    f"fitted intervals must be of the method {self.method.config()}",
                    got=self.fitted.config(), fix="fit this method, or go on with theirs",
                )  # fmt: skip
            intervals.load_state_dict({name: tensor[row : row + 1] for name, tensor in first.items()})
        return StepScale(intervals.eval(), timesteps_of(self.sampler))


class StepScale:
    """Scale and zero point of one operand by loop index; dropout is off.

    Args:
        intervals: of one operand.
        timesteps: of each step, (steps,).
    """

    def __init__(self, intervals: LearnedIntervals, timesteps: Tensor) -> None:
        self._intervals, self._timesteps = intervals, timesteps

    def parameters(self) -> Mapping[str, Tensor]:
        """Leaf tensors that an optimiser changes in place, by name."""
        return dict(self._intervals.named_parameters())

    def __call__(self, step: Tensor | None, /) -> tuple[Tensor, Tensor]:
        """Scale and zero point, float32 (n,), for steps int64 (n,).

        Raises:
            BadInput: no steps.
        """
        if step is None:
            raise BadInput("a scale per step needs the step", got="none", fix="reconstruct on samples with their steps")
        timestep = self._timesteps[step]
        return self._intervals.scales(timestep)[0], self._intervals.zero_points(timestep)[0]


def _intervals(
    method: TDQ | Segments, starts: Mapping[OperandKey, Start], spec: QuantSpec, seed: int
) -> LearnedIntervals:
    if isinstance(method, Segments):
        return SegmentIntervals(method, starts, spec)
    return GeneratedIntervals(method, starts, spec, seed=seed)
