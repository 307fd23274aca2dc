"""What training gives: a network whose weights lie on the grid, the ranges that go with it, and the loss on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samplers.coefficients import timestep_array
from samplers.errors import BadInput
from samplers.sampler import Sampler
from simulator.calibration.parameters import bounds_of
from simulator.calibration.ranges import EVERY_STEP, WEIGHT, Bounds, Ranges
from simulator.calibration.steps import ALL_STEPS, StepSets
from simulator.calibration.training.student import Student
from simulator.instrument.contractions import Contraction, MatMul
from simulator.instrument.forward import forward
from simulator.instrument.sites import SiteKey
from simulator.instrument.storage import Stored
from simulator.models.derived import derive
from simulator.models.registry import Model


@dataclass(frozen=True)
class TrainingLog:
    """The loss on the way.

    Attributes:
        losses: float64 (steps run,): each batch's mean squared error of the predicted noise.
        judgements: (step, loss on the fixed training draws), the first before any step.
        chosen_step: the step of the lowest judgement, whose weights are given.
        diverged: whether training was stopped, since a loss was not finite or above ten times the first judgement's;
            a row to be reported as diverged, whatever its network still does.
    """

    losses: NDArray[np.float64]
    judgements: tuple[tuple[int, float], ...]
    chosen_step: int
    diverged: bool


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        model: the derived model; its weights are real values of their codes, but for a control's.
        log: how training went.
        source: what determines the result, as plain JSON values.
    """

    model: Model
    log: TrainingLog
    source: Mapping[str, Any]
    student: Student = field(repr=False, compare=False)

    @property
    def learned(self) -> bool:
        """Whether there are ranges: a control has none."""
        return bool(self.student.activations)

    @torch.no_grad()
    def ranges(self, sampler: Sampler | None = None) -> Ranges:
        """Bounds of every operand and weight, from which the engine makes exactly the learned parameters.

        Steps of a sampler at which all scales are equal share a set; where no scale follows the timestep all steps do,
        and no sampler is needed. Bounds of weights have the parameter shape of the scheme's granularity, whichever
        scales were shared in training.

        Raises:
            BadInput: a control, or no sampler where scales follow the timestep.
        """
        if not self.learned:
            raise BadInput(
                "only trained quantizers have ranges", got="a control", fix="calibrate its model as any other"
            )
        quantizers = self.student.activations
        timestep = torch.zeros(1, dtype=torch.long) if sampler is None else torch.from_numpy(_timesteps(sampler))
        found = {key: quantizer.parameters_at(timestep) for key, quantizer in quantizers.items()}
        moving = any(scale.ndim for scale, _ in found.values())
        if moving and sampler is None:
            raise BadInput("scales that follow the timestep need the steps", got="no sampler", fix="pass sampler=")
        steps, firsts = _step_sets(found.values(), len(timestep)) if moving else (ALL_STEPS, [0])
        bounds: dict[tuple[SiteKey, str, str], Bounds] = {}
        for each, first in zip(steps.sets, firsts, strict=True):
            for (site, role), (scale, zero) in found.items():
                own = (scale[first] if scale.ndim else scale).numpy(), torch.round(zero).numpy().astype(np.int32)
                bounds[site, role, each.name] = _bounds(*own, self.student.operands[site, role].spec)
        for site, quantizer in self.student.weights.items():
            shared = quantizer.shared_by(quantizer.spec.granularity)
            bounds[site, WEIGHT, EVERY_STEP] = _bounds(shared, np.zeros_like(shared, np.int32), quantizer.spec)
        source = {**self.source, **({} if sampler is None or not moving else {"sampler": sampler.config()})}
        return Ranges(bounds, source, steps)


def derived(model: Model, student: Student, name: str) -> Model:
    """``model`` with the student's parameters, weights on their grid."""
    rounded = _rounded_weights(model, student)

    @torch.no_grad()
    def change(module: nn.Module) -> None:
        own = dict(module.named_parameters())
        for key, value in student.module.named_parameters():
            own[key].copy_(value)
        for stored, weight in rounded.items():
            torch.as_strided(own[stored.memory], stored.shape, stored.stride, stored.offset).copy_(weight)

    return derive(model, change, name)


def _rounded_weights(model: Model, student: Student) -> dict[Stored, Tensor]:
    """Real values of the codes of each stored weight; those that a network computes stay as they are."""
    stored = {facts.key: facts.stored for facts in student.sites}
    found: dict[Stored, Tensor] = {}

    def note(site: SiteKey, contraction: Contraction) -> Tensor:
        place = stored[site]
        if site in student.weights and place is not None and not isinstance(contraction, MatMul):
            found[place] = student.weight(site, contraction).clone()
        return contraction.float()

    if student.weights:
        student.quantizers.eval()
        two = torch.zeros(2, *model.sample_shape), torch.zeros(2, dtype=torch.long)
        forward(student.module, note, *two, call=model.call, audit=False)
    return found


def _timesteps(sampler: Sampler) -> np.ndarray:
    return timestep_array(sampler.updates)


def _step_sets(found: Any, count: int) -> tuple[StepSets, list[int]]:
    """Runs of consecutive steps at which every scale is the same to the bit, and the first step of each."""
    rows = torch.stack([scale.expand(count) for scale, _ in found], dim=1)
    runs = [list(run) for _, run in groupby(range(count), key=lambda step: rows[step].numpy().tobytes())]
    return StepSets.partition(*(run[-1] + 1 for run in runs)), [run[0] for run in runs]


def _bounds(scale: np.ndarray, zero: np.ndarray, spec: Any) -> Bounds:
    low, high = bounds_of(scale, zero, spec)
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


def log_of(losses: Sequence[float], judgements: Sequence[Sequence[float]], chosen: int, diverged: bool) -> TrainingLog:
    """The log of a run."""
    return TrainingLog(
        np.array(losses, np.float64), tuple((int(step), float(loss)) for step, loss in judgements), chosen, diverged
    )
