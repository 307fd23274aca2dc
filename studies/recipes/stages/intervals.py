"""Scales that follow the timestep, fitted to observed operands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from samplers.errors import BadInput
from simulator.calibration.collection.policy import Collection
from simulator.calibration.collection.random_steps import RandomSteps
from simulator.calibration.collection.trajectories import collect
from simulator.calibration.intervals.fitting import IntervalFit, fit_intervals
from simulator.calibration.intervals.generator import TDQ
from simulator.calibration.intervals.observation import sample_operands
from simulator.calibration.intervals.segments import Segments
from simulator.calibration.intervals.table import ranges_at
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.stages.collected import fitted, operand_specs
from studies.recipes.task import Task


@dataclass(frozen=True)
class FitIntervals:
    """TDQ's generator, or N scales over the timesteps, after ranges were calibrated.

    Args:
        method: the generator, or how many scales.
        fit: how they are fitted.
        collection: the points that operands are observed at.
        samples: trajectories that these are picked from.
    """

    method: TDQ | int = TDQ()  # noqa: RUF009 - an immutable value
    fit: IntervalFit = IntervalFit()  # noqa: RUF009 - an immutable value
    collection: Collection = RandomSteps(20)  # noqa: RUF009 - an immutable value
    samples: int = 256
    name = "intervals"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        method = self.method if isinstance(self.method, int) else self.method.config()
        return {
            "method": method, "fit": self.fit.config(), "collection": self.collection.config(),
            "samples": self.samples,
        }  # fmt: skip

    def require(self, task: Task) -> None:
        """Nothing but the model."""

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """Ranges of every step from the fitted scales.

        Raises:
            BadInput: no stage before it has made ranges.
        """
        task = preparation.task
        if preparation.ranges is None:
            raise BadInput("intervals start from calibrated ranges", got="none", fix="add a stage that calibrates")
        points = collect(
            task.model, task.sampler, fitted(self.collection, task.steps), samples=self.samples, seed=preparation.seed,
            batch_size=task.batch_size, conditioning=task.conditioning,
            progress=lambda done, total: report("collecting", done, total),
        )  # fmt: skip
        samples = sample_operands(
            preparation.model, points.x, points.timestep, seed=preparation.seed, batch_size=task.batch_size,
            conditioning=task.conditioning, samples=points.member.tolist(),
            progress=lambda done, total: report("observing operands", done, total),
        )  # fmt: skip
        found = fit_intervals(
            self._method(task), samples, operand_specs(preparation), fit=self.fit, seed=preparation.seed,
            progress=lambda done, total: report("fitting intervals", done, total),
        )  # fmt: skip
        ranges = ranges_at(found.intervals, task.sampler, found.source, others=preparation.ranges)
        return replace(preparation, ranges=ranges).noting(
            self.name, diverged=int(found.diverged.sum()), kept=int(found.kept.sum()), operands=len(found.kept)
        )

    def _method(self, task: Task) -> TDQ | Segments:
        if isinstance(self.method, TDQ):
            return self.method
        assert task.model.schedule is not None
        return Segments.uniform(self.method, task.model.schedule.num_train_timesteps)
