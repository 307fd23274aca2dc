"""Runs of a study by shape: each group has its own axes, along which its runs lie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from studies.study.study import Scalar

Point = Mapping[str, Scalar]
"""What varies, at one run."""

RUN = "run"
"""Dimension of runs that fill too little of their axes."""

FULL_ENOUGH = 4
"""Cells per run beyond which a group lies along one dimension."""


@dataclass(frozen=True)
class GroupAxis:
    """A dimension along which runs lie.

    Args:
        name: of the dimension.
        points: its fields at each place.
    """

    name: str
    points: tuple[Point, ...]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that vary along it."""
        return tuple(self.points[0])


@dataclass(frozen=True)
class Layout:
    """Where each run of a group lies.

    Args:
        axes: of the group; a study without axes has none, and one run.
        places: index along each axis, by key.
    """

    axes: tuple[GroupAxis, ...]
    places: Mapping[str, tuple[int, ...]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(len(axis) for axis in self.axes)


def layout(axes: Sequence[Sequence[str]], points: Mapping[str, Point]) -> Layout:
    """Lay runs out along the axes of their study, of whose values those stay that some run has.

    Args:
        axes: the fields of each axis.
        points: what varies, by the key of the run, in the study's order.
    """
    found = []
    for fields in axes:
        values = dict.fromkeys(tuple(point[name] for name in fields) for point in points.values())
        found.append(GroupAxis("+".join(fields), tuple(dict(zip(fields, value, strict=True)) for value in values)))
    if math.prod(map(len, found)) > FULL_ENOUGH * len(points):
        every = GroupAxis(RUN, tuple(dict(point) for point in points.values()))
        return Layout((every,), {key: (i,) for i, key in enumerate(points)})
    indices = [{tuple(point.values()): i for i, point in enumerate(axis.points)} for axis in found]
    places = {
        key: tuple(
            index[tuple(point[name] for name in axis.fields)] for axis, index in zip(found, indices, strict=True)
        )
        for key, point in points.items()
    }
    return Layout(tuple(axis for axis in found if len(axis)), places)


def slabs(shape: tuple[int, ...], bytes_each: int, most: int) -> tuple[int, ...]:
    """How many places of each axis to hold at once, so that they take at most ``most`` bytes, or one run's.

    Later axes are held whole for as long as they fit, so that what is held lies together.
    """
    held = list(shape)
    for axis in range(len(shape)):
        rest = math.prod(held[axis + 1 :]) * bytes_each
        held[axis] = max(1, min(shape[axis], most // max(rest, 1)))
        if held[axis] * rest <= most:
            break
    return tuple(held)


def blocks(shape: tuple[int, ...], held: tuple[int, ...]) -> Iterable[tuple[slice, ...]]:
    """The slabs that cover a shape, in order."""
    if not shape:
        yield ()
        return
    for start in range(0, shape[0], held[0]):
        for rest in blocks(shape[1:], held[1:]):
            yield slice(start, min(start + held[0], shape[0])), *rest
