"""The choices of a policy: schemes, one of which each step takes, or each group of sites at each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from samplers.errors import BadInput
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.instrument.scheme import BLOCKS, DEFAULTS, Rule, Scheme, Settings
from simulator.instrument.scheme.patterns import select
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts

WHOLE, REST = "all", "rest"
"""Names of the group of all sites, where nothing is grouped, and of the sites that no group names."""

EVERYTHING = ("*",)

_ATTENTION_BITS = ("query_bits", "key_bits", "probability_bits", "value_bits")


@dataclass(frozen=True)
class Candidates:
    """Schemes to choose from, alike but for their bits, and the groups of sites that choose apart.

    Args:
        schemes: at least one, of different names; without rules that name steps, all on one target with one
            intermediate format.
        groups: name -> patterns of sites (``@attention``, ``up.*``); disjoint. The sites that no group names are the
            group ``rest``. Without groups the whole network, ``all``, chooses together. With groups the schemes must
            have the same rules: which of two schemes' rules a site would follow is otherwise not said.

    Raises:
        BadInput: schemes or groups that break their rule.
    """

    schemes: tuple[Scheme, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [str(scheme) for scheme in self.schemes]
        if not names or len(set(names)) < len(names):
            raise BadInput("candidates must be schemes of different names, one at least", got=names, fix="name them")
        for scheme in self.schemes:
            if scheme.has_steps:
                raise BadInput("a candidate is one scheme for all steps", got=str(scheme), fix="drop its steps")
        for name in ("target", "intermediate"):
            if any(getattr(scheme, name) != getattr(self.schemes[0], name) for scheme in self.schemes):
                raise BadInput(f"candidates must share one {name}", got=names, fix="compare machines in runs of each")
        if self.groups and any(scheme.rules != self.schemes[0].rules for scheme in self.schemes):
            raise BadInput(
                "candidates of groups must share their rules",
                got=", ".join(names),
                fix="put what differs into settings, or choose for the whole network",
            )
        for name, patterns in self.groups.items():
            if name in (WHOLE, REST) or not name or isinstance(patterns, str) or not patterns:
                raise BadInput(
                    f"a group needs a name other than {WHOLE} and {REST}, and a tuple of patterns",
                    got=f"{name!r}: {patterns!r}",
                    fix='write {"attention": ("@attention",)}',
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the schemes."""
        return tuple(str(scheme) for scheme in self.schemes)

    @property
    def group_names(self) -> tuple[str, ...]:
        """In the order of the group dimension: ``all``, or ``rest`` and those named."""
        return (REST, *self.groups) if self.groups else (WHOLE,)

    @property
    def activation_bits(self) -> NDArray[np.int64]:
        """(candidate,): what each scheme's settings say of run-time operands, before its rules."""
        return np.array([_bits(scheme, "activation_bits") for scheme in self.schemes], np.int64)

    @property
    def weight_bits(self) -> NDArray[np.int64]:
        """(candidate,): likewise of weights."""
        return np.array([_bits(scheme, "weight_bits") for scheme in self.schemes], np.int64)

    def measured(self) -> tuple[tuple[Scheme, ...], ...]:
        """The schemes to run for their noise, (group, candidate): each alone on its group, the rest in float.

        Without groups they are the candidates themselves.
        """
        if not self.groups:
            return (self.schemes,)
        return tuple(tuple(self._alone(group, index) for index in range(len(self.schemes))) for group in self._lists())

    def _alone(self, group: str, index: int) -> Scheme:
        rules = [Rule(EVERYTHING, Settings(keep_float=True))]
        for name, patterns in self._lists().items():
            own = self._complete(index) | Settings(keep_float=name != group)
            rules.append(Rule(patterns, own))
        scheme = self.schemes[index]
        return Scheme(
            Settings(), (*rules, *scheme.rules), scheme.target, scheme.intermediate, f"{scheme}-{group}-alone"
        )

    def scheme(self, choice: ArrayLike, name: str) -> Scheme:
        """The scheme in which group j takes candidate ``choice[i, j]`` at step i, as rules that name ranges of steps.

        Args:
            choice: (step, group) indices of candidates.
            name: of the scheme.

        Raises:
            BadInput: another shape, or an index of no candidate.
        """
        chosen = np.asarray(choice)
        if chosen.ndim != 2 or chosen.shape[1] != len(self.group_names) or not len(chosen):
            raise BadInput(
                f"choice must be (step, group) with {len(self.group_names)} groups", got=chosen.shape, fix="name each"
            )
        if not np.issubdtype(chosen.dtype, np.integer) or chosen.min() < 0 or chosen.max() >= len(self.schemes):
            raise BadInput(f"choices must be 0..{len(self.schemes) - 1}", got=chosen.tolist(), fix="index candidates")
        rules: list[Rule] = []
        for patterns, column in zip(self._lists().values(), chosen.T, strict=True):
            for index, steps in _runs(column):
                rules.append(Rule(patterns, self._complete(index), steps))
                if not self.groups:
                    rules += [replace(rule, steps=steps) for rule in self.schemes[index].rules]
        if self.groups:
            rules += self.schemes[0].rules
        first = self.schemes[0]
        return Scheme(Settings(), tuple(rules), first.target, first.intermediate, name)

    def bops(self, sites: Sequence[SiteFacts], module: nn.Module) -> NDArray[np.int64]:
        """Bit operations per sample of one forward pass, (group, candidate).

        Args:
            sites: the network's survey.
            module: the network.

        Raises:
            BadInput: a pattern that names no site, or a site in two groups.
        """
        group = self.group_of(sites)
        found = np.zeros((len(self.group_names), len(self.schemes)), np.int64)
        for index, scheme in enumerate(self.schemes):
            for cost in account(Plan(scheme, tuple(sites)), module).passes[0]:
                found[group[cost.site], index] += cost.bops
        return found

    def group_of(self, sites: Sequence[SiteFacts]) -> Mapping[SiteKey, int]:
        """The group of each site, an index into ``group_names``.

        Raises:
            BadInput: a pattern that names no site, a site in two groups, or no site left for ``rest``.
        """
        found = dict.fromkeys((facts.key for facts in sites), 0)
        for index, (name, patterns) in enumerate(self.groups.items(), 1):
            for key in frozenset().union(*(select(pattern, sites) for pattern in patterns)):
                if found[key]:
                    both = f"{self.group_names[found[key]]} and {name}"
                    raise BadInput("a site belongs to one group", got=f"{key} in {both}", fix="narrow the patterns")
                found[key] = index
        if 0 not in found.values():
            raise BadInput(f"the group {REST} must hold a site", got="none", fix="drop one group: it is the rest")
        return found

    def _lists(self) -> dict[str, tuple[str, ...]]:
        """Patterns of each group; those of the rest name every site, and later rules win."""
        return {WHOLE: EVERYTHING} if not self.groups else {REST: EVERYTHING, **self.groups}

    def _complete(self, index: int) -> Settings:
        """A candidate's settings with every field that any candidate sets, so that nothing of another shows through."""
        own = self.schemes[index].settings
        if not self.groups:
            return own if own != Settings() else Settings(activation_bits=DEFAULTS.activation_bits)
        stated = {f.name for s in self.schemes for f in fields(Settings) if getattr(s.settings, f.name) is not None}
        filled = {name: getattr(own, name) for name in stated if getattr(own, name) is not None}
        for name in stated - set(filled):  # an attention operand follows activation_bits where nothing is said
            filled[name] = getattr(DEFAULTS | own, "activation_bits" if name in _ATTENTION_BITS else name)
        return Settings(**filled)


def _bits(scheme: Scheme, name: str) -> int:
    settings = DEFAULTS | scheme.settings
    return BLOCKS[str(settings.block)].element.bits if settings.block in BLOCKS else int(getattr(settings, name))


def _runs(column: NDArray[np.int64]) -> list[tuple[int, tuple[int, int]]]:
    """Runs of one choice as (choice, (first step, stop))."""
    found, first = [], 0
    for index, group in groupby(column.tolist()):
        stop = first + len(list(group))
        found.append((index, (first, stop)))
        first = stop
    return found
