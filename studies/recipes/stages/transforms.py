"""Networks with the same float function that quantize better."""

from __future__ import annotations

import dataclasses
import glob
from dataclasses import dataclass, replace
from typing import Any, Literal

from samplers.errors import BadInput
from simulator.calibration.balancing.balance import balance
from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.layer_scales import rescale_norms
from simulator.calibration.balancing.rules import BalancingRule
from simulator.calibration.balancing.salience import collect_salience
from simulator.calibration.channels import PerChannel
from simulator.calibration.observers import MinMax, Observer
from simulator.calibration.trajectory import calibrate_ranges
from simulator.calibration.transforms.concatenations import concatenations_of
from simulator.calibration.transforms.hadamard import Rotation, rotate
from simulator.calibration.transforms.layers import linear_layers
from simulator.calibration.transforms.low_rank import LowRank, add_low_rank_branches
from simulator.calibration.transforms.shortcuts import split_shortcuts
from simulator.instrument.scheme import Scheme
from simulator.instrument.survey import survey
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.stages.collected import operand_specs
from studies.recipes.task import Task


@dataclass(frozen=True)
class BalanceChannels:
    """Channels of activations and weights balanced, the factors folded offline.

    Args:
        rule: what a channel is divided by.
        variant: of the salience, ``paper`` or ``released``.
        samples: that salience is collected on; the variant's own if None.
    """

    rule: BalancingRule
    variant: Literal["paper", "released"] = "paper"
    samples: int | None = None
    name = "balance"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        rule = {"name": type(self.rule).__name__, **_plain(self.rule)}
        return {"rule": rule, "variant": self.variant, "samples": self.samples}

    def require(self, task: Task) -> None:
        """A network whose layers are known and, for a rule that needs it, adaLN.

        Raises:
            BadInput: it has none.
        """
        graph = graph_of(task.model)
        if self.rule.needs_adaptive_norm and not graph.adaptive:
            raise BadInput(
                "salience balancing needs a network with adaLN", got=f"{task.model.name}, without one",
                fix="use digits-dit",
            )  # fmt: skip

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The balanced network."""
        task = preparation.task
        salience = collect_salience(
            preparation.model, task.sampler, variant=self.variant, samples=self.samples, seed=preparation.seed,
            batch_size=task.batch_size, conditioning=task.conditioning,
        )  # fmt: skip
        report("balancing channels", 1, 1)
        return replace(preparation, model=balance(preparation.model, salience, self.rule).model)


@dataclass(frozen=True)
class RescaleNorms:
    """RepQ: norms re-scaled so that one scale serves all channels; then ranges of everything else.

    Args:
        samples: that ranges per channel, and then those of the new network, are found on.
        observer: how both are found.
    """

    samples: int = 256
    observer: Observer = MinMax()  # noqa: RUF009 - an immutable value
    name = "layer scales"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"samples": self.samples, "observer": self.observer.config()}

    def require(self, task: Task) -> None:
        """A network whose layers are known.

        Raises:
            BadInput: it is of another family.
        """
        graph_of(task.model)

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The network with its norms re-scaled for the task's activation bits, and its ranges."""
        task = preparation.task
        common: dict[str, Any] = {
            "samples": self.samples, "seed": preparation.seed, "batch_size": task.batch_size,
            "conditioning": task.conditioning, "progress": lambda d, n: report("calibrating ranges", d, n),
            "observer": self.observer, "specs": operand_specs(preparation) if self.observer.needs_spec else None,
        }  # fmt: skip
        channels = calibrate_ranges(preparation.model, task.sampler, granularity=PerChannel(), **common)
        rescaled = rescale_norms(preparation.model, channels, task.bits.activations)
        ranges = calibrate_ranges(rescaled.model, task.sampler, outputs=preparation.scheme.requantizes, **common)
        return replace(preparation, model=rescaled.model, ranges=rescaled.over(ranges))


@dataclass(frozen=True)
class SplitShortcuts:
    """Q-Diffusion: the two halves of a skip concatenation get quantizers of their own."""

    name = "split shortcuts"

    def config(self) -> dict[str, Any]:
        """Nothing to choose."""
        return {}

    def require(self, task: Task) -> None:
        """A network with skip concatenations.

        Raises:
            BadInput: it has none.
        """
        if not concatenations_of(task.model):
            raise BadInput("split shortcuts need skip concatenations", got=task.model.name, fix="use a UNet")

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The network with split layers."""
        return replace(preparation, model=split_shortcuts(preparation.model).model)


@dataclass(frozen=True)
class RotateLayers:
    """Hadamard: linear layers see rotated inputs.

    Args:
        layers: globs of their paths.
        signs: random signs before the transform, drawn with the preparation's seed.
    """

    layers: tuple[str, ...] = ("*",)
    signs: bool = True
    name = "rotation"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {"layers": list(self.layers), "signs": self.signs}

    def require(self, task: Task) -> None:
        """Linear layers with an even number of inputs, which every network here has."""

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The rotated network."""
        rotation = Rotation(self.layers, preparation.seed if self.signs else None)
        return replace(preparation, model=rotate(preparation.model, rotation).model)


@dataclass(frozen=True)
class LowRankBranches:
    """SVDQuant: a low-rank branch at 16 bits takes what a layer's residual could not hold.

    The first and the last layer get none: schemes have them at 8 bits, and a branch as wide as the last layer, whose
    outputs are few, would be that layer at 16.

    Args:
        low_rank: rank and layers.
        group_size: input channels that share a scale of the residual.
        branch_bits: of the branch.
    """

    low_rank: LowRank = LowRank()  # noqa: RUF009 - an immutable value
    group_size: int = 64
    branch_bits: int = 16
    name = "low-rank branches"

    def config(self) -> dict[str, Any]:
        """Its arguments."""
        return {**_plain(self.low_rank), "group_size": self.group_size, "branch_bits": self.branch_bits}

    def require(self, task: Task) -> None:
        """Linear layers, which every network here has."""

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The network with branches, and the scheme that tells them apart."""
        sites = survey(preparation.model, conditioning=preparation.task.conditioning)
        edges = {facts.key.module for facts in sites if facts.edge}
        inner = [path for path in linear_layers(preparation.model.module, self.low_rank.layers) if path not in edges]
        low_rank = replace(self.low_rank, layers=tuple(map(glob.escape, inner)))
        made = add_low_rank_branches(preparation.model, low_rank)
        before = preparation.scheme
        rules = (
            *made.residual_rules(preparation.task.bits.weights, self.group_size), *before.rules,
            *made.branch_rules(self.branch_bits),
        )  # fmt: skip
        explained = float(min(made.explained.values()))
        scheme = Scheme(before.settings, rules, before.target)
        return replace(preparation, model=made.model, scheme=scheme).noting(self.name, least_explained=explained)


def _plain(value: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values; enums by name."""
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {
        name: found.name if hasattr(found, "name") else list(found) if isinstance(found, tuple) else found
        for name, found in fields.items()
    }
