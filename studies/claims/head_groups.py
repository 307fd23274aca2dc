"""Ranges of groups of attention channels that are aligned to the heads: PTQ-AttnDM's groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simulator.calibration.channel_grouping import even_groups, grouped_ranges
from simulator.calibration.channels import PerHeadChannel, heads_and_channels
from simulator.calibration.ranges import Ranges
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.scheme import Rule, Settings
from simulator.instrument.scheme.patterns import select
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import survey
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.task import Task

SITES = ("@attention", "@output")
"""Where attention channels are operands: QK^T, P V, and the projection that reads all heads."""


def head_group_rule(groups: int) -> Rule:
    """The rule that lets operands of attention have so many groups."""
    return Rule(SITES, Settings(activation_groups=groups))


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
        """Attention with projections of the customary names.

        Raises:
            BadInput: there is none.
        """
        for pattern in SITES:
            select(pattern, survey(task.model, conditioning=task.conditioning))

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The ranges."""
        task = preparation.task
        fine = calibrate_ranges(
            preparation.model, task.sampler, samples=self.samples, seed=preparation.seed, batch_size=task.batch_size,
            granularity=PerHeadChannel(), conditioning=task.conditioning,
            progress=lambda done, total: report("calibrating ranges", done, total),
        )  # fmt: skip
        outputs = select("@output", survey(preparation.model, conditioning=task.conditioning))
        return replace(preparation, ranges=grouped_ranges(fine, head_groups(fine, outputs, self.groups)))


def head_groups(fine: Ranges, outputs: frozenset[SiteKey], count: int) -> dict[tuple[SiteKey, str, str], np.ndarray]:
    """The group of every attention channel, by operand.

    Args:
        fine: ranges of ``PerHeadChannel()``.
        outputs: sites of the output projections.
        count: groups of each operand.
    """
    found = {}
    for (site, role, name), (low, _) in fine.bounds.items():
        axes = heads_and_channels(role, low.ndim)
        if axes is not None:
            found[site, role, name] = even_groups(tuple(low.shape[axis] for axis in axes), count)
        elif site in outputs and role == "input":
            found[site, role, name] = even_groups((low.size,), count)
    return found
