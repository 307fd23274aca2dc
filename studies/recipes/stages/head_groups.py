"""Ranges of attention in groups of channels that are whole heads or whole parts of heads: PTQ-AttnDM."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from samplers.validation import require_int
from simulator.calibration.channel_grouping import grouped_ranges
from simulator.calibration.channels import PerHeadChannel
from simulator.calibration.collection.set_ranges import calibrate_on_set
from simulator.calibration.head_grouping import HEAD_SITES, head_groups, head_shapes, most_groups
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.survey import survey
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.stages.active import ActivePoints
from studies.recipes.task import Task


@dataclass(frozen=True)
class HeadGroupedRanges:
    """Min-max ranges over active points, those of attention for groups of channels aligned to heads.

    Results are observed too, so that a scheme may quantize the scores QK^T over their range.

    Args:
        groups: of channels of query, key, value and the output projection's input; where they cannot be so many, equal
            and aligned, the largest number below that can.
        points: that bounds are observed at.

    Raises:
        BadInput: no group.
    """

    groups: int = 8
    points: ActivePoints = field(default_factory=ActivePoints)
    name = "head groups"

    def __post_init__(self) -> None:
        require_int("groups", self.groups, 1)

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"groups": self.groups, "points": self.points.config()}

    def require(self, task: Task) -> None:
        """Attention whose heads have an axis, with an output projection of its own, and a point for each step.

        Raises:
            BadInput: it has none.
        """
        self.points.require(task)
        head_shapes(survey(task.model, conditioning=task.conditioning))

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """Ranges with groups, and a scheme that allows them."""
        task = preparation.task
        _, points = self.points.collect(preparation, report)
        fine = calibrate_on_set(
            preparation.model, points, granularity=PerHeadChannel(), outputs=True, batch_size=task.batch_size,
            conditioning=task.conditioning,
            progress=lambda done, total: report("calibrating ranges", done, total),
        )  # fmt: skip
        shapes = head_shapes(survey(preparation.model, conditioning=task.conditioning))
        count = most_groups(shapes.values(), self.groups)
        before = preparation.scheme
        rules = (*before.rules, Rule(HEAD_SITES, Settings(activation_groups=count)))
        scheme = Scheme(before.settings, rules, before.target, before.intermediate)
        ranges = grouped_ranges(fine, head_groups(fine, shapes, count))
        histogram = [int(found) for found in points.histogram(task.steps)]
        return replace(preparation, ranges=ranges, scheme=scheme).noting(
            self.name, groups=count, points_per_step=histogram
        )
