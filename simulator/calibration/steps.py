"""Which steps of a sampler share ranges, and which steps those ranges were observed at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from samplers.errors import BadInput
from samplers.validation import require_int


@dataclass(frozen=True)
class StepSet:
    """Steps that share one range per operand.

    Args:
        name: unique among its sets.
        observed: loop indices whose operands determine the ranges; None for all.
        serves: loop indices that use the ranges; None for all.

    Raises:
        BadInput: an empty name, or steps that are empty, negative or repeated.
    """

    name: str
    observed: tuple[int, ...] | None = None
    serves: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise BadInput("a step set's name must be a non-empty str", got=repr(self.name), fix="name it")
        for field in ("observed", "serves"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, _steps(f"{field} of step set {self.name!r}", getattr(self, field)))

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "observed": None if self.observed is None else list(self.observed),
            "serves": None if self.serves is None else list(self.serves),
        }


@dataclass(frozen=True)
class StepSets:
    """Sets of steps, each with its own ranges; a step is served by at most one.

    Steps are loop indices, 0 for the first (noisiest), never training timesteps. ``StepSets()`` is one set of all
    steps; :meth:`each`, :meth:`partition`, :meth:`named` and :meth:`observed_at` make the usual others.

    Raises:
        BadInput: no set, two of one name, or a step that two sets serve.
    """

    sets: tuple[StepSet, ...] = (StepSet("all"),)

    def __post_init__(self) -> None:
        names = [s.name for s in self.sets]
        if not names or len(set(names)) != len(names):
            raise BadInput("step sets must have different names, one at least", got=names, fix="rename them")
        served = [step for s in self.sets for step in s.serves or ()]
        if len(set(served)) != len(served) or (len(names) > 1 and any(s.serves is None for s in self.sets)):
            raise BadInput("a step must be served by one set only", got=self.config(), fix="make the sets disjoint")

    @classmethod
    def each(cls, count: int) -> StepSets:
        """One set, named by its index, for each of ``count`` steps."""
        return cls.partition(*range(1, require_int("count", count, 1)), count)

    @classmethod
    def partition(cls, *ends: int) -> StepSets:
        """Consecutive ranges that end before the steps ``ends``, in ascending order: ``(10, 50)`` is 0..9 and 10..49.

        A range of one step is named by its index, others ``first-last``.
        """
        bounds = [0, *(require_int("an end", end, 1) for end in ends)]
        if len(bounds) < 2 or sorted(set(bounds)) != bounds:
            raise BadInput("ends must ascend, one at least", got=ends, fix="pass for instance 10, 50")
        return cls.named({_name(a, b): range(a, b) for a, b in pairwise(bounds)})

    @classmethod
    def named(cls, sets: Mapping[str, Sequence[int]]) -> StepSets:
        """Sets that serve the steps they were observed at."""
        return cls(tuple(StepSet(name, tuple(steps), tuple(steps)) for name, steps in sets.items()))

    @classmethod
    def observed_at(cls, *steps: int) -> StepSets:
        """Ranges of these steps, used at all: ``observed_at(0)`` is Yang et al.'s calibration on the noisiest step."""
        return cls((StepSet("all", steps, None),))

    @property
    def last(self) -> int | None:
        """The last observed step, None where a set observes all."""
        lasts = [None if s.observed is None else max(s.observed) for s in self.sets]
        return None if None in lasts else max(last for last in lasts if last is not None)

    def observing(self, step: int | None) -> tuple[str, ...]:
        """Names of the sets that observe ``step``; None is no step in particular, observed by sets of all."""
        return tuple(s.name for s in self.sets if s.observed is None or step in s.observed)

    def serving(self, step: int | None) -> str:
        """Name of the set that serves ``step``; None asks for ranges that serve every step.

        Raises:
            BadInput: no such set.
        """
        for s in self.sets:
            if s.serves is None or step in s.serves:
                return s.name
        listing = ", ".join(s.name for s in self.sets)
        raise BadInput(
            "a step must lie in one of the step sets", got=f"step {step}; sets {listing}",
            fix="name a calibrated step, or calibrate with sets that hold it",
        )  # fmt: skip

    def config(self) -> list[dict[str, Any]]:
        """Plain JSON values: equal exactly when the sets are."""
        return [s.config() for s in self.sets]


ALL_STEPS = StepSets()
"""One set of all steps."""


def _name(first: int, end: int) -> str:
    return str(first) if end == first + 1 else f"{first}-{end - 1}"


def _steps(name: str, steps: object) -> tuple[int, ...]:
    if not isinstance(steps, tuple | list | range) or not steps:
        raise BadInput(f"{name} must be a tuple of steps, one at least", got=repr(steps), fix="pass such a tuple")
    checked = tuple(require_int("a step", step, 0) for step in steps)
    if len(set(checked)) != len(checked):
        raise BadInput(f"{name} must not repeat a step", got=checked, fix="drop the repetition")
    return tuple(sorted(checked))
