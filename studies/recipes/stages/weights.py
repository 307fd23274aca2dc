"""Ranges of weights that are searched for, in place of their extremes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from samplers.errors import BadInput
from simulator.calibration.observers import Observer
from simulator.calibration.search import LpSearch
from simulator.calibration.weights import weight_ranges
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.task import Task


@dataclass(frozen=True)
class WeightRanges:
    """Bounds of every weight, after those of activations were calibrated.

    Args:
        observer: how they are found.
    """

    observer: Observer = LpSearch()  # noqa: RUF009 - an immutable value
    name = "weight ranges"

    def config(self) -> dict[str, Any]:
        """Its argument."""
        return {"observer": self.observer.config()}

    def require(self, task: Task) -> None:
        """Nothing but the model."""

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The ranges, with those of the weights as they are now.

        Raises:
            BadInput: no stage before it has made ranges.
        """
        if preparation.ranges is None:
            raise BadInput(
                "ranges of weights are added to calibrated ones", got="none", fix="put a stage that calibrates first"
            )
        found = weight_ranges(
            preparation.model, preparation.scheme, self.observer, conditioning=preparation.task.conditioning
        )
        report("searching ranges of weights", 1, 1)
        return replace(preparation, ranges=preparation.ranges.with_weights(found, self.config()))
