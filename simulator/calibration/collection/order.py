"""In which order passes over a calibration set run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.validation import require_int

if TYPE_CHECKING:
    from simulator.calibration.collection.calibration_set import CalibrationSet


@runtime_checkable
class Order(Protocol):
    """How a set is cut into passes; a frozen value."""

    def config(self) -> dict[str, Any]:
        """Name and arguments as plain JSON values."""
        ...

    def rows(self, points: CalibrationSet, size: int) -> Iterator[np.ndarray]:
        """Rows of each pass, int64, at most ``size`` of them; every row of the set once."""
        ...


@dataclass(frozen=True)
class OneStep:
    """A pass holds points of one step: pass k of every step, in loop order, before pass k + 1 of any.

    Within a step points are in order of their members. Over all steps of all samples these are the passes that the
    sampler itself would make, one batch of samples after the other, in its order.
    """

    def config(self) -> dict[str, Any]:
        """Its name."""
        return {"name": "one-step"}

    def rows(self, points: CalibrationSet, size: int) -> Iterator[np.ndarray]:
        """Rows of each pass."""
        step, member = points.step.numpy(), points.member.numpy()
        order = np.lexsort((member, step))  # stable: rows of one point twice stay in their order
        by_step = np.split(order, np.flatnonzero(np.diff(step[order])) + 1)
        for start in range(0, max(len(rows) for rows in by_step), size):
            yield from (rows[start : start + size] for rows in by_step if start < len(rows))


@dataclass(frozen=True)
class Mixed:
    """A pass holds points of any step: the set in a random order, cut into passes.

    Reconstruction and the moving averages of PTQ4DM see calibration data so. No step set but one of all steps can be
    observed in such passes.

    Args:
        seed: of the permutation, at least 0.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", require_int("seed", self.seed, 0))

    def config(self) -> dict[str, Any]:
        """Name and seed."""
        return {"name": "mixed", "seed": self.seed}

    def rows(self, points: CalibrationSet, size: int) -> Iterator[np.ndarray]:
        """Rows of each pass."""
        order = permutation(NoiseStream(self.seed, "calibrate order"), len(points))
        yield from (order[start : start + size] for start in range(0, len(order), size))


def permutation(noise: NoiseStream, count: int) -> np.ndarray:
    """A uniform permutation of ``count`` indices, int64: the order of as many normals of the stream."""
    return np.argsort(noise.initial([0], (count,)).numpy()[0], kind="stable")


def require_order(order: Order | None) -> Order:
    """The order; :class:`OneStep` for None.

    Raises:
        BadInput: anything else.
    """
    if order is None:
        return OneStep()
    if isinstance(order, type) or not isinstance(order, Order):
        raise BadInput("order must be OneStep() or Mixed()", got=repr(order), fix="pass a value")
    return order
