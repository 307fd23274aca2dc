"""Densities of a quantizer's input with closed partial moments, and characteristic functions where theory needs them.

A partial moment of order k about c over [a, b] is the integral of (x - c)^k f(x). With those of orders 0, 1 and 2 the
error of every cell of a quantizer is exact. They are differences of terms of order c^2, so a cell of width h loses
about (deviation / h)^2 rounding errors of float64: 1e-12 relative at 8 bits, 1e-7 at 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from samplers.errors import BadInput
from samplers.validation import require_real

Array = NDArray[np.float64]
Partial = tuple[Array, Array, Array]
"""Partial moments of orders 0, 1 and 2."""


class Density(Protocol):
    """A density on the real line."""

    @property
    def mean(self) -> float:
        """E[x]."""
        ...

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        ...

    @property
    def support(self) -> tuple[float, float]:
        """Interval outside which the density is 0 in float64, far tails of 1e-300 included."""
        ...

    def partial(self, low: ArrayLike, high: ArrayLike, centre: ArrayLike) -> Partial:
        """Moments of orders 0, 1 and 2 about ``centre`` over [low, high], low <= high; ends may be infinite."""
        ...


class Transformable(Density, Protocol):
    """A density, symmetric about its mean, whose characteristic function is known."""

    def even(self, u: ArrayLike) -> Array:
        """phi_0(u) = E[cos(u (x - mean))]: the characteristic function is exp(i u mean) phi_0(u)."""
        ...

    def even_slope(self, u: ArrayLike) -> Array:
        """d phi_0 / d u = -E[(x - mean) sin(u (x - mean))]."""
        ...

    def envelope(self, u: ArrayLike) -> Array:
        """Supremum of the absolute characteristic function over all frequencies of at least u >= 0."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """N(mean, deviation^2)."""

    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        _require(self)

    @property
    def support(self) -> tuple[float, float]:
        """38 deviations: the density is below 1e-313 of its peak."""
        return self.mean - 38 * self.deviation, self.mean + 38 * self.deviation

    def partial(self, low: ArrayLike, high: ArrayLike, centre: ArrayLike) -> Partial:
        """With t = (x - mean) / deviation: Phi, -phi(t) and Phi - t phi(t) between the ends."""
        s, shift = self.deviation, np.asarray(centre, np.float64) - self.mean
        a, b = ((np.asarray(end, np.float64) - self.mean) / s for end in (low, high))
        right = a > 0  # of two equal tails take the small one, which keeps its digits
        zeroth = ndtr(np.where(right, -a, b)) - ndtr(np.where(right, -b, a))
        at_a, at_b = (np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi) for t in (a, b))
        first = s * (at_a - at_b)
        second = s**2 * (zeroth + _product(a, at_a) - _product(b, at_b))
        return zeroth, first - shift * zeroth, second - 2 * shift * first + shift**2 * zeroth

    def even(self, u: ArrayLike) -> Array:
        """exp(-deviation^2 u^2 / 2)."""
        return np.exp(-((self.deviation * np.asarray(u, np.float64)) ** 2) / 2)

    def even_slope(self, u: ArrayLike) -> Array:
        """-deviation^2 u phi_0(u)."""
        return -(self.deviation**2) * np.asarray(u, np.float64) * self.even(u)

    def envelope(self, u: ArrayLike) -> Array:
        """It falls throughout."""
        return self.even(u)


@dataclass(frozen=True)
class Laplace:
    """f(x) = exp(-|x - mean| / b) / 2b, b = deviation / sqrt 2."""

    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        _require(self)

    @property
    def scale(self) -> float:
        """b, the mean absolute deviation."""
        return self.deviation / math.sqrt(2)

    @property
    def support(self) -> tuple[float, float]:
        """700 b: the density is below 1e-304 of its peak."""
        return self.mean - 700 * self.scale, self.mean + 700 * self.scale

    def partial(self, low: ArrayLike, high: ArrayLike, centre: ArrayLike) -> Partial:
        """Right of the mean (x - c)^k f has the antiderivatives -exp(-y / b) / 2 {1, r + b, r^2 + 2 b r + 2 b^2}.

        y = x - mean, r = x - c; the left half is the right one mirrored.
        """
        low, high, centre = (np.asarray(v, np.float64) - self.mean for v in (low, high, centre))
        right = self._right(np.maximum(low, 0.0), np.maximum(high, 0.0), centre)
        left = self._right(np.maximum(-high, 0.0), np.maximum(-low, 0.0), -centre)
        return right[0] + left[0], right[1] - left[1], right[2] + left[2]

    def _right(self, low: Array, high: Array, centre: Array) -> Partial:
        b = self.scale

        def tails(y: Array) -> Partial:
            weight, r = np.exp(-y / b) / 2, np.where(np.isinf(y), 0.0, y) - centre
            return weight, weight * (r + b), weight * (r**2 + 2 * b * r + 2 * b**2)

        (a0, a1, a2), (b0, b1, b2) = tails(low), tails(high)
        return a0 - b0, a1 - b1, a2 - b2

    def even(self, u: ArrayLike) -> Array:
        """1 / (1 + b^2 u^2)."""
        return 1 / (1 + (self.scale * np.asarray(u, np.float64)) ** 2)

    def even_slope(self, u: ArrayLike) -> Array:
        """-2 b^2 u phi_0(u)^2."""
        return -2 * self.scale**2 * np.asarray(u, np.float64) * self.even(u) ** 2

    def envelope(self, u: ArrayLike) -> Array:
        """It falls throughout."""
        return self.even(u)


@dataclass(frozen=True)
class Uniform:
    """Constant on mean +- h, h = sqrt 3 deviation."""

    mean: float = 0.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        _require(self)

    @property
    def half_width(self) -> float:
        """h."""
        return math.sqrt(3) * self.deviation

    @property
    def support(self) -> tuple[float, float]:
        """Exact."""
        return self.mean - self.half_width, self.mean + self.half_width

    def partial(self, low: ArrayLike, high: ArrayLike, centre: ArrayLike) -> Partial:
        """Differences of (x - c)^(k + 1) / ((k + 1) 2 h)."""
        centre = np.asarray(centre, np.float64)
        a, b = (np.clip(np.asarray(end, np.float64), *self.support) - centre for end in (low, high))
        density = 1 / (2 * self.half_width)
        zeroth, first, second = (density * (b**k - a**k) / k for k in (1, 2, 3))
        return zeroth, first, second

    def even(self, u: ArrayLike) -> Array:
        """sin(h u) / (h u)."""
        return np.sinc(self.half_width * np.asarray(u, np.float64) / np.pi)

    def even_slope(self, u: ArrayLike) -> Array:
        """(cos(h u) - phi_0(u)) / u, 0 at u = 0."""
        u = np.asarray(u, np.float64)
        safe = np.where(u == 0, 1.0, u)
        return np.where(u == 0, 0.0, (np.cos(self.half_width * u) - self.even(u)) / safe)

    def envelope(self, u: ArrayLike) -> Array:
        """1 / (h u), at most 1: a bound that the sine meets at its crests."""
        return 1 / np.maximum(self.half_width * np.asarray(u, np.float64), 1.0)


@dataclass(frozen=True)
class Folded:
    """|x| of a symmetric density about 0: half-Gaussian, exponential (half-Laplace).

    Raises:
        BadInput: ``whole`` has another mean than 0.
    """

    whole: Gaussian | Laplace | Uniform

    def __post_init__(self) -> None:
        if self.whole.mean != 0:
            raise BadInput("a folded density must have mean 0", got=self.whole.mean, fix="fold a centred one")

    @property
    def mean(self) -> float:
        """E|x|."""
        return float(self.partial(0.0, math.inf, 0.0)[1])

    @property
    def deviation(self) -> float:
        """sqrt(E x^2 - E|x|^2)."""
        return math.sqrt(self.whole.deviation**2 - self.mean**2)

    @property
    def support(self) -> tuple[float, float]:
        """Its upper half."""
        return 0.0, self.whole.support[1]

    def partial(self, low: ArrayLike, high: ArrayLike, centre: ArrayLike) -> Partial:
        """Twice those of the upper half."""
        low, high = (np.maximum(np.asarray(end, np.float64), 0.0) for end in (low, high))
        zeroth, first, second = self.whole.partial(low, high, centre)
        return 2 * zeroth, 2 * first, 2 * second


def _product(t: Array, density: Array) -> Array:
    """t density(t), 0 at infinity."""
    return np.where(np.isinf(t), 0.0, t) * density


def _require(density: Any) -> None:
    for name, least in (("mean", -math.inf), ("deviation", 0.0)):
        value = require_real(name, getattr(density, name))
        if value <= least:
            raise BadInput("an input's deviation must be above 0", got=value, fix="a constant's error is one number")


FAMILIES: dict[str, Callable[[float, float], Transformable]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "uniform": Uniform,
}
"""By name: (mean, deviation) -> density."""
