"""Observers: how bounds are found in what streams by. A new one is a value with these methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_real
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.channels import Observed
from simulator.calibration.points import Points

Bounds = tuple[np.ndarray, np.ndarray]


class Accumulator(Protocol):
    """What one operand has shown so far; its memory does not grow with the data."""

    def update(self, observed: Observed, /) -> None:
        """Take in one forward pass."""
        ...

    def bounds(self) -> Bounds:
        """Low and high of each group, float64 (groups,), after one update at least."""
        ...


@runtime_checkable
class Observer(Protocol):
    """A rule that turns data into bounds; a frozen value."""

    @property
    def needs_spec(self) -> bool:
        """Whether the bounds depend on the format that they are for."""
        ...

    def config(self) -> str | dict[str, Any]:
        """Name and arguments as plain JSON values: equal exactly when the observers are."""
        ...

    def accumulator(self, groups: int, spec: QuantSpec | None) -> Accumulator:
        """An empty accumulator for ``groups`` bounds."""
        ...

    def fit(self, points: Points, spec: QuantSpec | None) -> Bounds:
        """Bounds of data at hand, float64 (groups,)."""
        ...


class _Extremes:
    """Smallest and largest value of each group."""

    def __init__(self, groups: int) -> None:
        self._low, self._high = np.full(groups, np.inf), np.full(groups, -np.inf)

    def update(self, observed: Observed) -> None:
        self._low, self._high = np.minimum(self._low, observed.low), np.maximum(self._high, observed.high)

    def bounds(self) -> Bounds:
        return self._low, self._high


@dataclass(frozen=True)
class MinMax:
    """Smallest and largest value. Memory: two numbers per group."""

    needs_spec = False

    def config(self) -> str:
        """Its name."""
        return "min-max"

    def accumulator(self, groups: int, spec: QuantSpec | None) -> Accumulator:
        """Two vectors."""
        return _Extremes(groups)

    def fit(self, points: Points, spec: QuantSpec | None) -> Bounds:
        """The extremes."""
        return points.low, points.high


@dataclass(frozen=True)
class MovingAverage:
    """Exponential moving average of the bounds of each forward pass: ``b <- momentum b + (1 - momentum) b_pass``.

    The first pass sets b. Passes count in the order in which they run: along a trajectory all steps of the first batch
    of samples come first. PTQ4DM averages the bounds of ``of = LpSearch(2.4)`` so, with 0.9. Memory: two numbers per
    group, and one pass's accumulator of ``of``.

    Args:
        momentum: 0 to below 1.
        of: finds the bounds of one pass.

    Raises:
        BadInput: an argument breaks its rule.
    """

    momentum: float = 0.9
    of: Observer = MinMax()

    def __post_init__(self) -> None:
        object.__setattr__(self, "momentum", require_real("momentum", self.momentum))
        if not 0 <= self.momentum < 1:
            raise BadInput("momentum must lie in 0..1, 1 excluded", got=self.momentum, fix="use 0.9, say")
        if not isinstance(self.of, Observer):
            raise BadInput("of must be an observer", got=repr(self.of), fix="pass MinMax(), say")

    @property
    def needs_spec(self) -> bool:
        """As ``of``."""
        return self.of.needs_spec

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {"name": "moving-average", "momentum": self.momentum, "of": self.of.config()}

    def accumulator(self, groups: int, spec: QuantSpec | None) -> Accumulator:
        """Two vectors."""
        return _Averages(self, groups, spec)

    def fit(self, points: Points, spec: QuantSpec | None) -> Bounds:
        """Data at hand are one pass."""
        return self.of.fit(points, spec)


class _Averages:
    """Averaged bounds of each group."""

    def __init__(self, observer: MovingAverage, groups: int, spec: QuantSpec | None) -> None:
        self._observer, self._groups, self._spec = observer, groups, spec
        self._bounds: Bounds | None = None

    def update(self, observed: Observed) -> None:
        of_pass = self._observer.of.accumulator(self._groups, self._spec)
        of_pass.update(observed)
        new = of_pass.bounds()
        if self._bounds is None:
            self._bounds = new
            return
        keep = self._observer.momentum
        low, high = (keep * old + (1 - keep) * b for old, b in zip(self._bounds, new, strict=True))
        self._bounds = low, high

    def bounds(self) -> Bounds:
        assert self._bounds is not None
        return self._bounds
