"""Ranges of groups of attention channels that are aligned to the heads: PTQ-AttnDM's groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from simulator.calibration.channel_grouping import grouped_ranges
from simulator.calibration.channels import PerHeadChannel
from simulator.calibration.head_grouping import HEAD_SITES, head_groups, head_shapes
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.scheme import Rule, Settings
from simulator.instrument.survey import survey
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.task import Task


def head_group_rule(groups: int) -> Rule:
    """The rule that lets operands of attention have so many groups."""
    return Rule(HEAD_SITES, Settings(activation_groups=groups))


@dataclass(frozen=True)
class HeadGroupRanges:
    """Min-max ranges, for attention channels one per group.

    Query, key and value are (heads, channels); the output projection's input has all heads side by side.

    Args:
        groups: of equal size, whole heads or whole parts of a head.
        samples: of the stream "calibrate".
    """

    groups: int
    samples: int
    name = "head groups"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"groups": self.groups, "samples": self.samples}

    def require(self, task: Task) -> None:
        """Attention with projections of the customary names, and an axis of heads.

        Raises:
            BadInput: there is none.
        """
        head_shapes(survey(task.model, conditioning=task.conditioning))

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The ranges."""
        task = preparation.task
        fine = calibrate_ranges(
            preparation.model, task.sampler, samples=self.samples, seed=preparation.seed, batch_size=task.batch_size,
            granularity=PerHeadChannel(), conditioning=task.conditioning,
            progress=lambda done, total: report("calibrating ranges", done, total),
        )  # fmt: skip
        shapes = head_shapes(survey(preparation.model, conditioning=task.conditioning))
        return replace(preparation, ranges=grouped_ranges(fine, head_groups(fine, shapes, self.groups)))
