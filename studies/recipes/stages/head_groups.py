"""Ranges of attention in groups of channels that are whole heads or whole parts of heads: PTQ-AttnDM."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.calibration.channel_grouping import even_groups, grouped_ranges
from simulator.calibration.channels import PerHeadChannel, heads_and_channels
from simulator.calibration.collection.set_ranges import calibrate_on_set
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.scheme.patterns import select
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts, survey
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.stages.active import ActivePoints
from studies.recipes.task import Task

GROUPED = ("@attention", "@output")
"""Query, key and value of the products, and the input of the projection after them, whose channels are heads' too."""

ALL = "all"
"""Name of the one step set."""


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
        sites = survey(task.model, conditioning=task.conditioning)
        for pattern in GROUPED:
            select(pattern, sites)
        _heads(sites)

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """Ranges with groups, and a scheme that allows them."""
        task = preparation.task
        _, points = self.points.collect(preparation, report)
        fine = calibrate_on_set(
            preparation.model, points, granularity=PerHeadChannel(), outputs=True, batch_size=task.batch_size,
            conditioning=task.conditioning,
            progress=lambda done, total: report("calibrating ranges", done, total),
        )  # fmt: skip
        heads = _heads(survey(preparation.model, conditioning=task.conditioning))
        counts = {key: most_groups(shape, self.groups) for key, (shape, _) in heads.items()}
        groups = {
            (*key, ALL): even_groups(shape, counts[key]).reshape(-1 if flat else shape)
            for key, (shape, flat) in heads.items()
        }
        before = preparation.scheme
        rules = (*before.rules, Rule(GROUPED, Settings(activation_groups=self.groups)))
        scheme = Scheme(before.settings, rules, before.target, before.intermediate)
        return replace(preparation, ranges=grouped_ranges(fine, groups), scheme=scheme).noting(
            self.name, groups=sorted(set(counts.values())),
            points_per_step=[int(count) for count in points.histogram(task.steps)],
        )  # fmt: skip


def most_groups(shape: tuple[int, int], most: int) -> int:
    """The largest number, ``most`` or less, of equal groups of (heads, channels) that cut no head unequally.

    One group is always possible.
    """
    heads, total = shape[0], prod(shape)
    return max(n for n in range(1, most + 1) if total % n == 0 and (heads % n == 0 or n % heads == 0))


Operand = tuple[SiteKey, str]


def _heads(sites: tuple[SiteFacts, ...]) -> dict[Operand, tuple[tuple[int, int], bool]]:
    """(heads, channels of each) of every operand that has them, and whether the two lie along one axis.

    Raises:
        BadInput: attention whose heads have no axis, or an output projection that does not read the heads before it.
    """
    after = select("@output", sites)
    found: dict[Operand, tuple[tuple[int, int], bool]] = {}
    last: tuple[int, int] | None = None
    for facts in sites:
        if facts.key.operation in ("qk", "pv"):
            for role, shape in zip(facts.roles, facts.shapes, strict=False):
                axes = heads_and_channels(role, len(shape))
                if axes is None and role in ("query", "key", "value"):
                    raise BadInput(
                        "head-aligned groups need attention with an axis of heads",
                        got=f"{shape} at {facts.key} {role}",
                        fix="use attention that keeps (samples, heads, tokens, channels)",
                    )
                if axes is not None:
                    last = shape[axes[0]], shape[axes[1]]
                    found[facts.key, role] = last, False
        elif facts.key in after:
            if last is None or facts.contracted != prod(last):
                raise BadInput(
                    "an output projection must read the heads of the attention before it",
                    got=f"{facts.contracted} channels at {facts.key} after {last}", fix="use plain attention",
                )  # fmt: skip
            found[facts.key, "input"] = last, True
    return found
