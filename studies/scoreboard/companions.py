"""Mixed bits beside the plain ones that cost as much: one width at every step, and widths drawn at random.

A recipe is mixed where its bit operations are those of no single width. Two recipes then go with it, which do all that
it does but for its choice of bits: run-time operands of all sites have one width, at every step the widest whose bit
operations do not pass the recipe's, or steps drawn from the seed have the next wider one as long as these allow.
Weights, and the first and last layers, keep the bits that the recipe's first step gives them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noise_models.precision.candidates import EVERYTHING, Candidates
from noise_models.precision.sigmoid_rule import round_bits
from samplers.errors import BadInput
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.scheme.settings import LARGEST_BITS
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Recipe, Report, Stage
from studies.recipes.task import Task

SEPARATOR = "@"
"""Between a recipe's name and its companion's schedule."""

_ENDS = frozenset({"@first", "@last"})
"""Layers that schemes keep at more bits than the rest."""


class Schedule(Enum):
    """How a companion spends a recipe's bit operations."""

    UNIFORM = "uniform"
    """The widest width that they allow, at every step."""
    RANDOM = "random"
    """That width, and the next wider one at steps drawn from the seed while they allow it."""


def companion(recipe: Recipe, schedule: Schedule) -> Recipe:
    """The same recipe with plain bits of the same budget; a recipe like any other."""
    summary = f"{recipe.name}, its bit operations spent on {schedule.value} widths."
    name = f"{recipe.name}{SEPARATOR}{schedule.value}"
    return Recipe(name, summary, recipe.source, (SameBudget(recipe.stages, schedule),))


def is_mixed(network: QuantizedModel, steps: int) -> bool:
    """Whether the network's bit operations over all steps are those of no single width of run-time operands."""
    widths = Widths.of(network)
    return _total_bops(network, steps) not in (widths.bops * steps).tolist()


@dataclass(frozen=True)
class SameBudget:
    """All stages of a recipe, with plain bits in place of those that it chose.

    The recipe is prepared once, for its bit operations; what follows the last change of its scheme is then done anew on
    the plain one. A correction that came with that change is left out: like a policy's scope, it belongs to the scheme.

    Args:
        stages: of the recipe.
        schedule: which plain bits.
    """

    stages: tuple[Stage, ...]
    schedule: Schedule
    name = "same budget"

    def config(self) -> dict[str, Any]:
        """The recipe's stages, and the schedule."""
        stages = [{"stage": stage.name, **stage.config()} for stage in self.stages]
        return {"schedule": self.schedule.value, "stages": stages}

    def require(self, task: Task) -> None:
        """What the recipe's stages require.

        Raises:
            BadInput: of the first that lacks something.
        """
        for stage in self.stages:
            stage.require(task)

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The preparation, with the widths of every step, their bit operations and the recipe's in the log.

        Raises:
            BadInput: no width costs as little as the recipe.
        """
        passed = [preparation]
        for stage in self.stages:
            passed.append(stage.apply(passed[-1], report))
        network, steps = passed[-1].quantized(), preparation.task.steps
        budget, widths = _total_bops(network, steps), Widths.of(network)
        chosen = widths.choose(self.schedule, budget, steps, preparation.seed)
        scheme = widths.candidates.scheme(chosen[:, None], f"{network.scheme}-{self.schedule.value}")
        changes = [index for index, (old, new) in enumerate(pairwise(passed), 1) if old.scheme != new.scheme]
        last = changes[-1] if changes else 0
        made = replace(passed[last], scheme=scheme, correction=passed[max(last - 1, 0)].correction)
        for stage in self.stages[last:]:
            made = stage.apply(made, report)
        return made.noting(
            self.name, bits=widths.bits[chosen].tolist(), bops=int(widths.bops[chosen].sum()), budget=budget
        )


@dataclass(frozen=True, eq=False)
class Widths:
    """A network's scheme with one width for all run-time operands, at each width that its sites can have.

    Attributes:
        bits: (width,) ascending.
        candidates: the schemes, in this order.
        bops: (width,) bit operations per sample of one forward pass.
    """

    bits: NDArray[np.int64]
    candidates: Candidates
    bops: NDArray[np.int64]

    @classmethod
    def of(cls, network: QuantizedModel) -> Widths:
        """Everything else is as the network's scheme has it at its first step, and so are the first and last layers."""
        scheme, sites = network.scheme, network.plan.sites
        first = tuple(replace(rule, steps=None) for rule in scheme.rules if rule.holds(0))
        ends = tuple(
            Rule(rule.sites, Settings(activation_bits=rule.settings.activation_bits))
            for rule in first
            if _ENDS.issuperset(rule.sites) and rule.settings.activation_bits
        )
        made = {}
        for bits in range(2, LARGEST_BITS + 1):
            rules = (*first, Rule(EVERYTHING, _one_width(bits)), *ends)
            plain = Scheme(scheme.settings, rules, scheme.target, scheme.intermediate, f"{scheme}-a{bits}")
            try:
                Plan(plain, sites)
            except BadInput:  # such as log-sqrt2 codes of more than 8 bits
                continue
            made[bits] = plain
        candidates = Candidates(tuple(made.values()))
        return cls(np.array(list(made)), candidates, candidates.bops(sites, network.model.module)[0])

    def choose(self, schedule: Schedule, budget: int, steps: int, seed: int) -> NDArray[np.int64]:
        """Index of the width of each step, (step,), of at most ``budget`` bit operations in all.

        Raises:
            BadInput: the narrowest width costs more.
        """
        within = np.flatnonzero(self.bops * steps <= budget)
        if not len(within):
            raise BadInput(
                f"a budget must allow {self.bits[0]} bits at every step", got=budget, fix="leave the companion out"
            )
        widest = int(within[-1])
        if schedule is Schedule.UNIFORM or widest + 1 == len(self.bits):
            return np.full(steps, widest)
        order = np.random.default_rng(seed).permutation(steps)  # the step of the largest fraction is raised first
        between = self.bits[widest] + (1 + order) / (1 + steps)
        return round_bits(between, self.bits, "budget", cost=self.bops, budget=budget)


def _one_width(bits: int) -> Settings:
    """Of all run-time operands."""
    return Settings(activation_bits=bits, query_bits=bits, key_bits=bits, probability_bits=bits, value_bits=bits)


def _total_bops(network: QuantizedModel, steps: int) -> int:
    return account(network.plan, network.model.module, steps=steps).total_bops
