"""Groups of timesteps, and in each groups of the channels of every layer's input, with bounds of their own: APQ-DM."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_choice, require_int
from simulator.calibration.channels import PerChannel
from simulator.calibration.collection.calibration_set import CalibrationSet
from simulator.calibration.collection.set_ranges import calibrate_on_set
from simulator.calibration.intervals.channel_groups import PAIRINGS, GroupedRanges, channel_groups
from simulator.calibration.intervals.observation import sample_operands
from simulator.calibration.intervals.soft_groups import SoftGrouping, soft_channel_groups
from simulator.calibration.intervals.step_groups import alike_steps
from simulator.calibration.ranges import Ranges
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.survey import survey
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.stages.active import ActivePoints
from studies.recipes.stages.collected import operand_specs
from studies.recipes.task import Task

INPUT = "input"
"""Role of what a layer with a weight reads; operands of attention products have one range per tensor."""

WEIGHTED = ("@weights",)


@dataclass(frozen=True)
class HardGrouping:
    """Every channel in one group.

    Args:
        groups: at most.
        pairing: of bins of lows with bins of highs (``simulator.calibration.intervals.channel_groups``).

    Raises:
        BadInput: no group, or an unknown pairing.
    """

    groups: int = 8
    pairing: str = "nested"

    def __post_init__(self) -> None:
        require_int("groups", self.groups, 1)
        require_choice("pairing", self.pairing, PAIRINGS)

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"form": "hard", "groups": self.groups, "pairing": self.pairing}


@dataclass(frozen=True)
class ChannelGroups:
    """Ranges of groups of steps, in each of which the channels of a layer's input have bounds in groups.

    Steps are cut where sharing loses the fewest bits (``alike_steps``). A :class:`SoftGrouping` learns how much each
    channel belongs to each group and then gives every channel bounds of its own, as released code runs.

    Args:
        grouping: of channels.
        step_groups: sets of consecutive steps; one for each step where there are fewer.
        points: that bounds are observed at, and soft assignments learned.
        elements: of each channel and step that a soft assignment learns from.
    """

    grouping: HardGrouping | SoftGrouping = HardGrouping()
    step_groups: int = 8
    points: ActivePoints = field(default_factory=ActivePoints)
    elements: int = 64
    name = "channel groups"

    def __post_init__(self) -> None:
        for name in ("step_groups", "elements"):
            require_int(name, getattr(self, name), 1)

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        soft = {"form": "soft", **self.grouping.config(), "elements": self.elements}
        return {
            "grouping": soft if isinstance(self.grouping, SoftGrouping) else self.grouping.config(),
            "step_groups": self.step_groups, "points": self.points.config(),
        }  # fmt: skip

    def require(self, task: Task) -> None:
        """A layer with a weight, and a point for each step.

        Raises:
            BadInput: there is none.
        """
        self.points.require(task)
        if all(facts.weight_shape is None for facts in survey(task.model, conditioning=task.conditioning)):
            raise BadInput("groups of channels need a layer with a weight", got=task.model.name, fix="use a network")

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """Ranges with groups, and a scheme that allows them."""
        task = preparation.task
        fine, points = self.points.collect(preparation, report)
        sets = alike_steps(fine, task.steps, min(self.step_groups, task.steps))
        observed = calibrate_on_set(
            preparation.model, points, steps=sets, granularity=PerChannel(), outputs=preparation.scheme.requantizes,
            batch_size=task.batch_size, conditioning=task.conditioning,
            progress=lambda done, total: report("calibrating ranges", done, total),
        )  # fmt: skip
        inputs = {key: bound for key, bound in observed.bounds.items() if key[1] == INPUT}
        others = {
            key: (np.array(low.min()), np.array(high.max()))
            for key, (low, high) in observed.bounds.items()
            if key not in inputs
        }
        ranges = self._grouped(preparation, points, replace(observed, bounds=inputs), report)
        counts = [bound[0].size for bound in ranges.bounds.values()]
        soft = isinstance(self.grouping, SoftGrouping)
        rule = Rule(WEIGHTED, Settings(activation_groups=0 if soft else self.grouping.groups))
        before = preparation.scheme
        made = replace(
            preparation, ranges=replace(ranges, bounds={**others, **ranges.bounds}),
            scheme=Scheme(before.settings, (*before.rules, rule), before.target, before.intermediate),
        )  # fmt: skip
        return made.noting(
            self.name, step_sets=[s.name for s in sets.sets], mean_groups=sum(counts) / len(counts),
            points_per_step=[int(count) for count in points.histogram(task.steps)],
        )  # fmt: skip

    def _grouped(self, preparation: Preparation, points: CalibrationSet, inputs: Ranges, report: Report) -> Ranges:
        """Bounds of the groups, or with soft ones of the channels."""
        if isinstance(self.grouping, HardGrouping):
            return _with_groups(channel_groups(inputs, groups=self.grouping.groups, pairing=self.grouping.pairing))
        task = preparation.task
        samples = sample_operands(
            preparation.model, points.x, points.timestep, elements=self.elements, by_channel=True,
            seed=preparation.seed, batch_size=task.batch_size, conditioning=task.conditioning,
            samples=points.member.tolist(), progress=lambda done, total: report("observing operands", done, total),
        )  # fmt: skip
        return soft_channel_groups(
            inputs, samples, task.sampler, operand_specs(preparation), fit=self.grouping,
            progress=lambda done, total: report("grouping channels", done, total),
        ).ranges()  # fmt: skip


def _with_groups(grouped: GroupedRanges) -> Ranges:
    return Ranges(grouped.bounds(), grouped.source, grouped.steps, grouped.assignments())
