"""Ranges of run-time operands along the sampler's own full-precision trajectory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from simulator.calibration.observers import MinMax, Observer
from simulator.calibration.steps import ALL_STEPS, StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.scheme import Scheme
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.stages.collected import operand_specs
from studies.recipes.task import Task


class Steps(Enum):
    """Which steps share ranges."""

    ALL = "all"
    """One range, of all steps."""
    NOISIEST = "noisiest"
    """One range, observed at the first step alone."""
    EACH = "each"
    """A range for every step."""
    SCHEME = "scheme"
    """A range for every run of steps that the scheme treats alike."""

    def sets(self, count: int, scheme: Scheme) -> StepSets:
        """The step sets of a sampler of ``count`` steps."""
        match self:
            case Steps.NOISIEST:
                return StepSets.observed_at(0)
            case Steps.EACH:
                return StepSets.each(count)
            case Steps.SCHEME:
                edges = {edge for rule in scheme.rules for edge in rule.steps or ()}
                return StepSets.partition(*sorted(edge for edge in {*edges, count} if 0 < edge <= count))
        return ALL_STEPS


@dataclass(frozen=True)
class TrajectoryRanges:
    """Bounds of every operand over full-precision sampling runs.

    Args:
        samples: of the stream "calibrate".
        observer: how bounds are found.
        steps: which steps share them.
    """

    samples: int = 256
    observer: Observer = MinMax()  # noqa: RUF009 - an immutable value
    steps: Steps = Steps.ALL
    name = "ranges"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"samples": self.samples, "observer": self.observer.config(), "steps": self.steps.value}

    def require(self, task: Task) -> None:
        """Nothing but the model."""

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The ranges of the network as it is now."""
        task = preparation.task
        ranges = calibrate_ranges(
            preparation.model, task.sampler, samples=self.samples, seed=preparation.seed, batch_size=task.batch_size,
            observer=self.observer, steps=self.steps.sets(task.steps, preparation.scheme),
            outputs=preparation.scheme.requantizes,
            specs=operand_specs(preparation) if self.observer.needs_spec else None, conditioning=task.conditioning,
            progress=lambda done, total: report("calibrating ranges", done, total),
        )  # fmt: skip
        return replace(preparation, ranges=ranges)
