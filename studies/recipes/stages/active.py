"""APQ-DM's active collection: the entropies of a first pass over the trajectory say which steps points are taken at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from samplers.errors import BadInput
from samplers.validation import require_int, require_real
from simulator.calibration.channels import PerChannel
from simulator.calibration.collection.active import Active
from simulator.calibration.collection.calibration_set import CalibrationSet
from simulator.calibration.collection.entropies import Assignment, Hard, step_entropies
from simulator.calibration.collection.trajectories import collect
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.task import Task


@dataclass(frozen=True)
class ActivePoints:
    """One step of each sample, taken where the assignment of channels to groups is least certain.

    Args:
        samples: of the stream "calibrate": as many points.
        per_round: samples of a round; fewer where ``samples`` would otherwise give fewer rounds than steps.
        weight: of how often a step was taken.
        groups: that channels are assigned to.
        assignment: whose entropy counts.
        observed: samples of the pass that entropies are found on, no more than ``samples``.

    Raises:
        BadInput: a number that breaks its rule.
    """

    samples: int = 1024
    per_round: int = 16
    weight: float = 2.0
    groups: int = 8
    assignment: Assignment = Hard()  # noqa: RUF009 - an immutable value
    observed: int = 64

    def __post_init__(self) -> None:
        for name in ("samples", "per_round", "groups", "observed"):
            require_int(name, getattr(self, name), 1)
        if require_real("weight", self.weight) < 0:
            raise BadInput("weight must be at least 0", got=self.weight, fix="use 2")

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {
            "collection": "active", "samples": self.samples, "per_round": self.per_round, "weight": self.weight,
            "groups": self.groups, "assignment": repr(self.assignment), "observed": self.observed,
        }  # fmt: skip

    def require(self, task: Task) -> None:
        """A round for each step at least.

        Raises:
            BadInput: fewer samples than steps.
        """
        if self.samples < task.steps:
            raise BadInput(
                f"active collection needs a sample for each of {task.steps} steps", got=self.samples, fix="use more"
            )

    def collect(self, preparation: Preparation, report: Report) -> tuple[Ranges, CalibrationSet]:
        """Ranges per channel of every step, over the first samples, and the points; every step has one at least.

        Raises:
            BadInput: a step that no round took.
        """
        task = preparation.task
        common: dict[str, Any] = {
            "seed": preparation.seed, "batch_size": task.batch_size, "conditioning": task.conditioning,
        }  # fmt: skip
        fine = calibrate_ranges(
            preparation.model, task.sampler, samples=min(self.observed, self.samples), granularity=PerChannel(),
            steps=StepSets.each(task.steps),
            progress=lambda done, total: report("observing channels", done, total), **common,
        )  # fmt: skip
        entropies = step_entropies(fine, task.steps, groups=self.groups, assignment=self.assignment)
        active = Active(entropies, self.weight, skip=0, per_round=min(self.per_round, self.samples // task.steps))
        points = collect(
            task.model, task.sampler, active, samples=self.samples,
            progress=lambda done, total: report("collecting", done, total), **common,
        )  # fmt: skip
        missed = [step for step, count in enumerate(points.histogram(task.steps)) if not count]
        if missed:
            raise BadInput(
                "every step must have points of its own", got=f"none at {missed}",
                fix="give more samples, or weigh how often a step was taken more",
            )  # fmt: skip
        return fine, points
