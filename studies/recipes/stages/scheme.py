"""Which scheme the bits of a task mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from simulator.instrument.scheme import Rule, Scheme
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Report
from studies.recipes.task import Task


@dataclass(frozen=True)
class UseScheme:
    """A scheme written with the task's bits.

    Args:
        text: a short string in which ``{w}`` and ``{a}`` stand for the bits of weights and activations.
        rules: of some sites, on top.
    """

    text: str = "w{w}a{a}"
    rules: tuple[Rule, ...] = ()
    name = "scheme"

    def of(self, task: Task) -> Scheme:
        """The scheme for a task."""
        plain = Scheme.parse(self.text.format(w=task.bits.weights, a=task.bits.activations))
        return plain if not self.rules else Scheme(plain.settings, (*plain.rules, *self.rules), plain.target)

    def config(self) -> dict[str, Any]:
        """Its text and rules."""
        rules = {"rules": Scheme(rules=self.rules).config()["rules"]} if self.rules else {}
        return {"text": self.text, **rules}

    def require(self, task: Task) -> None:
        """The scheme must exist.

        Raises:
            BadInput: no such scheme at these bits.
        """
        self.of(task)

    def apply(self, preparation: Preparation, report: Report) -> Preparation:
        """The scheme in place of the one before."""
        return replace(preparation, scheme=self.of(preparation.task))
