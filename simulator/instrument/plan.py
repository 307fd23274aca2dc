"""A scheme laid over a network: the treatment of every site at every step."""

from __future__ import annotations

from functools import lru_cache

from samplers.errors import BadInput
from simulator.instrument.resolution import resolved
from simulator.instrument.scheme.patterns import select
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.scheme.settings import DEFAULTS
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts
from simulator.instrument.treatment import Treatment


class Plan:
    """A scheme on a network's sites.

    Args:
        scheme: the scheme.
        sites: every site of the network, in execution order.

    Raises:
        BadInput: a pattern that names no site, or a treatment that its target does not have.
    """

    def __init__(self, scheme: Scheme, sites: tuple[SiteFacts, ...]) -> None:
        self.scheme, self.sites = scheme, sites
        self._facts = {facts.key: facts for facts in sites}
        self._rules: dict[SiteKey, list[int]] = {facts.key: [] for facts in sites}
        for index, rule in enumerate(scheme.rules):
            for key in frozenset().union(*(select(pattern, sites) for pattern in rule.sites)):
                self._rules[key].append(index)
        self._treat = lru_cache(maxsize=None)(self._resolve)
        for facts in sites:
            for step in self._steps_to_check(facts.key):
                self.at(facts.key, step)

    def at(self, site: SiteKey, step: int | None = None) -> Treatment:
        """The treatment of a site at a step.

        Raises:
            BadInput: no step given where the site's treatment depends on it.
        """
        rules = [(index, self.scheme.rules[index]) for index in self._rules[site]]
        if step is None and any(rule.steps is not None for _, rule in rules):
            raise BadInput(
                "a scheme whose rules name steps needs the step", got=f"none at {site}", fix="call with step="
            )
        return self._treat(site, tuple(index for index, rule in rules if rule.holds(step or 0)))

    def treatments(self, site: SiteKey) -> tuple[Treatment, ...]:
        """Every treatment that a site gets at some step, in the order of steps, each once."""
        return tuple(dict.fromkeys(self.at(site, step) for step in self._steps_to_check(site)))

    def _resolve(self, site: SiteKey, rules: tuple[int, ...]) -> Treatment:
        settings = DEFAULTS | self.scheme.settings
        for index in rules:
            settings = settings | self.scheme.rules[index].settings
        return resolved(settings, self._facts[site], self.scheme.target)

    def _steps_to_check(self, site: SiteKey) -> list[int | None]:
        bounded = [rule.steps for index in self._rules[site] if (rule := self.scheme.rules[index]).steps is not None]
        return list(sorted({n for first, stop in bounded for n in (0, first, stop)})) if bounded else [None]
