"""Roundings and scales that are optimised, unit by unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from simulator.calibration.collection.policy import Collection
from simulator.calibration.collection.random_steps import RandomSteps
from simulator.calibration.collection.trajectories import collect
from simulator.calibration.reconstruction.run import reconstruct
from simulator.calibration.reconstruction.settings import Reconstruction, adaround, at_preset
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.stages.collected import fitted
from studies.recipes.task import Task


@dataclass(frozen=True)
class Reconstruct:
    """AdaRound, BRECQ or QDrop, after ranges were calibrated.

    Args:
        method: what is optimised, and how.
        collection: which points it sees.
        samples: trajectories that they are picked from.
    """

    method: Reconstruction = adaround("full")  # noqa: RUF009 - an immutable value
    collection: Collection = RandomSteps(4)  # noqa: RUF009 - an immutable value
    samples: int = 256
    name = "reconstruction"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"method": self.method.config(), "collection": self.collection.config(), "samples": self.samples}

    def quick(self) -> Reconstruct:
        """The same with few iterations."""
        return replace(self, method=at_preset(self.method, "quick"))

    def require(self, task: Task) -> None:
        """Nothing but the model."""

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The network with decided roundings, and its ranges.

        Raises:
            BadInput: no stage before it has made ranges.
        """
        task = preparation.task
        if preparation.ranges is None:
            raise BadInput(
                "reconstruction needs calibrated ranges", got="none", fix="put a stage that calibrates first"
            )
        points = collect(
            task.model, task.sampler, fitted(self.collection, task.steps), samples=self.samples, seed=preparation.seed,
            batch_size=task.batch_size, conditioning=task.conditioning,
            progress=lambda done, total: report("collecting", done, total),
        )  # fmt: skip
        found = reconstruct(
            preparation.model, preparation.scheme, preparation.ranges, points, self.method, seed=preparation.seed,
            conditioning=task.conditioning, folder=self._place(preparation),
            progress=lambda done, total: report(f"reconstruction ({self.method.name})", done, total),
        )  # fmt: skip
        assert found is not None
        logs = [
            {"phase": log.phase, "unit": log.unit, "before": log.before, "after": log.after, "diverged": log.diverged}
            for log in found.logs
        ]
        made = replace(preparation, model=found.model, ranges=found.ranges)
        return made.noting(self.name, diverged=found.diverged, units=logs)

    def _place(self, preparation: Preparation) -> Path | None:
        assert preparation.ranges is not None
        return preparation.place(
            self.name,
            {
                **self.config(), "scheme": preparation.scheme.config(), "ranges": preparation.ranges.source,
                "sampler": preparation.task.sampler.config(),
            },
        )  # fmt: skip
