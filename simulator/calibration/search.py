"""Search among candidate ranges for the smallest quantization error of the format that will be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_int, require_real
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.quantizer import QuantSpec, dequantize, parameters_from_range, quantize
from simulator.arithmetic.rounding import Rounding
from simulator.calibration.histogram import Binned
from simulator.calibration.observers import Accumulator, Bounds
from simulator.calibration.percentile import percentile, require_percent
from simulator.calibration.points import Points

_AT_ONCE = 1 << 17
"""Values quantized in one call: many enough to outweigh the call, few enough for the cache."""


@dataclass(frozen=True)
class LpSearch:
    """The range ``[r low, r high]``, r = 1, 1 - 1/n, ..., 1/n, with the smallest mean of ``|x - x_quantized|**p``.

    low and high are the extremes of the data, n the number of candidates; ties go to the wider range. Each candidate
    runs through ``parameters_from_range``, ``quantize`` and ``dequantize`` with the spec of the operand, so sign, bits,
    rounding, rule and scale format are those of the network. ``p = 2`` is the mean squared error; 2.4 with 100
    candidates is the search of PTQ4DM and Q-Diffusion.

    Streaming, errors are taken at bin centres. With a spec that rounds to nearest, the error of the range found,
    ``(mean |e|**p)**(1/p)``, exceeds the smallest of all candidates by at most one bin width: the distance to the
    nearest code changes no faster than x, so each candidate's error is off by half a width at most (Minkowski).
    Directed modes have no such bound, since their error jumps at every code. Memory: ``8 bins`` bytes per group.

    Args:
        p: at least 1.
        candidates: how many ranges are tried.
        bins: of the histogram.

    Raises:
        BadInput: an argument breaks its rule.
    """

    p: float = 2.4
    candidates: int = 100
    bins: int = 8192
    needs_spec = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", require_order(self.p))
        for name, least in (("candidates", 1), ("bins", 2)):
            object.__setattr__(self, name, require_int(name, getattr(self, name), least))

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {"name": "lp-search", "p": self.p, "candidates": self.candidates, "bins": self.bins}

    def accumulator(self, groups: int, spec: QuantSpec | None) -> Accumulator:
        """A histogram."""
        require_deterministic(spec)
        return Binned(groups, self.bins, partial(self.fit, spec=spec))

    def fit(self, points: Points, spec: QuantSpec | None) -> Bounds:
        """The best candidate of each group."""
        n = self.candidates
        shares = ((n - i) / n for i in range(n))
        return best_range(points, ((points.low * r, points.high * r) for r in shares), spec, self.p)


@dataclass(frozen=True)
class PercentileSearch:
    """Of the percentile ranges ``percents`` the one with the smallest mean of ``|x - x_quantized|**p``.

    PTQ4DiT and RepQ-ViT choose so among 99.9, 99.99 and 99.999 with p = 2. Ties go to the first; streaming, the bounds
    of both :class:`Percentile` and :class:`LpSearch` hold. Memory: ``8 bins`` bytes per group.

    Raises:
        BadInput: an argument breaks its rule.
    """

    percents: tuple[float, ...] = (99.999, 99.99, 99.9)
    p: float = 2.0
    bins: int = 8192
    needs_spec = True

    def __post_init__(self) -> None:
        if not isinstance(self.percents, tuple | list) or not self.percents:
            raise BadInput("percents must be a tuple, one at least", got=repr(self.percents), fix="pass (99.99,), say")
        object.__setattr__(self, "percents", tuple(require_percent(percent) for percent in self.percents))
        object.__setattr__(self, "p", require_order(self.p))
        object.__setattr__(self, "bins", require_int("bins", self.bins, 2))

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {"name": "percentile-search", "percents": list(self.percents), "p": self.p, "bins": self.bins}

    def accumulator(self, groups: int, spec: QuantSpec | None) -> Accumulator:
        """A histogram."""
        require_deterministic(spec)
        return Binned(groups, self.bins, partial(self.fit, spec=spec))

    def fit(self, points: Points, spec: QuantSpec | None) -> Bounds:
        """The best candidate of each group."""
        ranges = ((percentile(points, (100 - q) / 100), percentile(points, q / 100)) for q in self.percents)
        return best_range(points, ranges, spec, self.p)


def require_order(p: float) -> float:
    """``p`` as a float.

    Raises:
        BadInput: below 1.
    """
    number = require_real("p", p)
    if number < 1:
        raise BadInput("p must be at least 1", got=number, fix="use 2 or 2.4")
    return number


def require_deterministic(spec: QuantSpec | None) -> QuantSpec:
    """The spec.

    Raises:
        BadInput: None, or one that rounds stochastically.
    """
    if spec is None or spec.rounding is Rounding.STOCHASTIC:
        raise BadInput(
            "a search for the smallest error needs a spec that rounds deterministically",
            got=spec and spec.rounding.name, fix="pass specs",
        )  # fmt: skip
    return spec


def best_range(points: Points, candidates: Iterable[Bounds], spec: QuantSpec | None, p: float) -> Bounds:
    """Of candidate bounds (groups,) each group's best, the first of equals.

    Raises:
        BadInput: no spec, or one that rounds stochastically.
    """
    spec = require_deterministic(spec)
    low, high = (np.stack(bounds, axis=1) for bounds in zip(*candidates, strict=True))
    error = np.empty(low.shape)
    at_once = max(1, _AT_ONCE // points.values.size)
    for start in range(0, low.shape[1], at_once):
        part = slice(start, start + at_once)
        error[:, part] = error_power(points, low[:, part], high[:, part], spec, p)
    best = np.argmin(error, axis=1)[:, None]
    low, high = (np.take_along_axis(bound, best, axis=1)[:, 0] for bound in (low, high))
    return low, high


def error_power(points: Points, low: np.ndarray, high: np.ndarray, spec: QuantSpec, p: float) -> np.ndarray:
    """Sum of ``count |x - dequantize(quantize(x))|**p`` for each group and range (groups, ranges), in float64."""
    rows = replace(spec, granularity=PerAxis((0, 1)))
    scale, zero_point = parameters_from_range(low[..., None], high[..., None], rows)
    values = np.broadcast_to(points.values[:, None], (*low.shape, points.values.shape[1]))
    error = dequantize(quantize(values, rows, scale, zero_point)).astype(np.float64)
    error -= values
    power = error * error if p == 2 else np.abs(error, out=error) ** p
    return np.einsum("ijk,ik->ij", power, points.counts)
