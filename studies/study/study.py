"""A study as a value: what is fixed, what varies, and the runs that follow."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from samplers.errors import BadInput
from studies.study.spec import RunSpec

Scalar = str | int | float | bool
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FIELDS = tuple(f.name for f in dataclasses.fields(RunSpec))

MOST_RUNS = 1_000_000


@dataclass(frozen=True)
class Axis:
    """Fields that vary together: a field of the grid, or several zipped ones.

    Args:
        values: field -> its values, as many for each field.

    Raises:
        BadInput: no value, lists of unequal length, or a point that stands twice.
    """

    values: Mapping[str, tuple[Scalar, ...]]

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.values.items()}
        if not lengths or len(set(lengths.values())) > 1 or not min(lengths.values()):
            raise BadInput(
                "an axis needs values, and zipped lists as many as one another", got=lengths or "none",
                fix="fill up the shorter ones",
            )  # fmt: skip
        points = [tuple(repr(value) for value in point.values()) for point in self]
        if len(set(points)) < len(points):
            twice = next(point for point in points if points.count(point) > 1)
            raise BadInput(f"values of {self.name} must differ", got=f"{', '.join(twice)} twice", fix="name each once")

    @property
    def name(self) -> str:
        """Of the axis in a dataset: its fields, joined."""
        return "+".join(self.values)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __iter__(self) -> Iterator[dict[str, Scalar]]:
        for values in zip(*self.values.values(), strict=True):
            yield dict(zip(self.values, values, strict=True))


@dataclass(frozen=True)
class Study:
    """A grid of runs.

    Args:
        name: of the study; letters, digits, dots, dashes, underscores.
        summary: what it asks, one sentence.
        fixed: fields of :class:`RunSpec` that are the same in all runs.
        axes: what varies; runs are their product, the last axis fastest.
        figures: names of ``qnoise plot`` that answer it.

    Raises:
        BadInput: a field that a run does not have, or one that stands twice; a name that is none.
    """

    name: str
    summary: str = ""
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    figures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or _NAME.fullmatch(self.name) is None:
            raise BadInput(
                "a study's name must be letters, digits, dots, dashes and underscores, 64 at most",
                got=repr(self.name), fix='name = "snr-vs-bits", say',
            )  # fmt: skip
        named = [*self.fixed, *(name for axis in self.axes for name in axis.values)]
        for name in named:
            require_field(name)
        if len(set(named)) < len(named):
            twice = next(name for name in named if named.count(name) > 1)
            raise BadInput("a field must be fixed or vary, once", got=f"{twice} twice", fix="keep one of them")
        if len(self) > MOST_RUNS:
            raise BadInput(f"a study has at most {MOST_RUNS} runs", got=len(self), fix="make several of it")

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self.axes)

    def points(self) -> Iterator[dict[str, Scalar]]:
        """What varies, run by run."""
        for choice in itertools.product(*self.axes):
            yield {name: value for part in choice for name, value in part.items()}

    def specs(self) -> Iterator[RunSpec]:
        """The runs, in order.

        Raises:
            BadInput: values that break a rule; which run it is stands in the message.
        """
        for point in self.points():
            try:
                yield RunSpec(**{**self.fixed, **point})  # type: ignore[arg-type]  # checked by RunSpec
            except BadInput as error:
                where = ", ".join(f"{name} = {value!r}" for name, value in point.items())
                raise BadInput(
                    error.rule, got=f"{error.got} ({where})" if where else error.got, fix=error.fix
                ) from None

    def config(self) -> dict[str, Any]:
        """As plain JSON values: what ``from_config`` takes."""
        return {
            "name": self.name,
            "summary": self.summary,
            "fixed": dict(self.fixed),
            "axes": [{name: list(values) for name, values in axis.values.items()} for axis in self.axes],
            "figures": list(self.figures),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Study:
        """The study of such a configuration."""
        axes = tuple(Axis({name: tuple(values) for name, values in axis.items()}) for axis in config["axes"])
        return cls(config["name"], config["summary"], dict(config["fixed"]), axes, tuple(config["figures"]))


def require_field(name: str) -> str:
    """A field of runs by its name.

    Raises:
        BadInput: there is none; the nearest one is in the message.
    """
    if name not in FIELDS:
        near = difflib.get_close_matches(str(name), FIELDS, n=1, cutoff=0.4)
        raise BadInput(
            "a run has no such field", got=repr(name), fix=f"did you mean {near[0]}?" if near else ", ".join(FIELDS)
        )
    return name
