"""Scales and zero points of activations while they are learned: functions of the sampler's step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.parameters import bounds_of
from simulator.calibration.ranges import Bounds
from simulator.calibration.steps import StepSet, StepSets
from simulator.instrument.machines.machine import Affine
from simulator.instrument.sites import SiteKey


class StepScale(Protocol):
    """Scale and zero point of one operand as a function of the step."""

    def parameters(self) -> Mapping[str, Tensor]:
        """Leaf tensors that Adam changes, by name; none for one that is not learned. Changed in place."""
        ...

    def __call__(self, step: Tensor | None, /) -> tuple[Tensor, Tensor]:
        """Scale (positive) and zero point for loop indices int64 (n,): float32, both () or both (n,).

        Without steps, what serves every step. Gradients reach ``parameters()``; a zero point need not be an integer,
        since it is rounded with a gradient of 1.
        """
        ...


class ScaleModel(Protocol):
    """What learned scales look like; a frozen value."""

    def config(self) -> dict[str, Any]:
        """Name and arguments as plain JSON values."""
        ...

    def steps(self, calibrated: StepSets) -> StepSets:
        """Step sets of the learned ranges, given those of the calibrated ones."""
        ...

    def start(
        self, site: SiteKey, role: str, spec: QuantSpec, affines: tuple[Affine, ...], calibrated: StepSets
    ) -> StepScale:
        """A new scale for one operand, whose calibrated parameters are ``affines``, one for each step set."""
        ...


@dataclass(frozen=True)
class OneScalePerStepSet:
    """One learned scale for each step set of the calibrated ranges; zero points stay.

    ``scale = calibrated exp(theta)``, theta from 0: always positive, and one learning rate fits operands of any size.
    Ranges calibrated with ``StepSets.each(n)`` thus have one scale per step.
    """

    def config(self) -> dict[str, Any]:
        """Its name."""
        return {"name": "one-scale-per-step-set"}

    def steps(self, calibrated: StepSets) -> StepSets:
        """The same."""
        return calibrated

    def start(
        self, site: SiteKey, role: str, spec: QuantSpec, affines: tuple[Affine, ...], calibrated: StepSets
    ) -> StepScale:
        """At the calibrated scales."""
        return Stepped(affines, calibrated, learned=True)


class Stepped:
    """A scale and zero point for each step set, the scale learned or not.

    Args:
        affines: one for each set.
        steps: the sets.
        learned: whether ``scale = calibrated exp(theta)`` with a theta for each set.
    """

    def __init__(self, affines: tuple[Affine, ...], steps: StepSets, *, learned: bool = False) -> None:
        self._scale = torch.tensor([float(affine.scale) for affine in affines], dtype=torch.float32)
        self._zero = torch.tensor([float(affine.zero_point) for affine in affines], dtype=torch.float32)
        self._theta = torch.zeros(len(affines), requires_grad=True) if learned else None
        self._steps = steps

    def parameters(self) -> Mapping[str, Tensor]:
        """theta."""
        return {} if self._theta is None else {"theta": self._theta}

    def __call__(self, step: Tensor | None, /) -> tuple[Tensor, Tensor]:
        """By step set."""
        scale = self._scale if self._theta is None else self._scale * torch.exp(self._theta)
        if len(self._steps.sets) == 1:
            return scale[0], self._zero[0]
        names = [s.name for s in self._steps.sets]
        if step is None:
            self._steps.serving(None)  # says that steps are needed
            raise AssertionError
        place = torch.tensor([names.index(self._steps.serving(int(one))) for one in step])
        return scale[place], self._zero[place]


def learned_bounds(scale: StepScale, spec: QuantSpec, steps: StepSet) -> Bounds:
    """Bounds () that give the engine the scale and zero point of the first step that a set serves.

    Raises:
        BadInput: a scale that no range gives.
    """
    with torch.no_grad():
        found, zero = scale(None if steps.serves is None else torch.tensor(steps.serves[:1]))
    number = np.float32(found.reshape(-1)[0].item())
    if not np.isfinite(number) or number <= 0:
        raise BadInput("a learned scale must be positive and finite", got=number, fix="learn slower")
    code = np.clip(np.rint(zero.reshape(-1)[0].item()), spec.format.qmin, spec.format.qmax)
    return bounds_of(np.asarray(number), np.asarray(int(code)), spec)
