"""From salience to one factor per channel: PTQ4DiT's balancing and SmoothQuant's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_real
from simulator.calibration.balancing.weighting import spearman_weights


class OverPoints(Enum):
    """How the points of a calibration (steps, or rows) become one salience per channel."""

    SPEARMAN = "spearman"
    """Weighted by softmax(-rho): PTQ4DiT's SSC."""
    MAXIMUM = "maximum"
    """The largest: SmoothQuant's, and CSB without SSC."""


@dataclass(frozen=True)
class Factors:
    """One input's factors.

    Attributes:
        factor: c, float64 (channels,), positive: X / c and W c.
        activations: the salience of X that c was computed from.
        weight: that of W.
        points: weight of each point, float64 (points,); None for the maximum.
    """

    factor: np.ndarray
    activations: np.ndarray
    weight: np.ndarray
    points: np.ndarray | None = None


class BalancingRule(Protocol):
    """What balancing asks of a rule."""

    @property
    def name(self) -> str:
        """What is appended to a model's name."""
        ...

    @property
    def needs_adaptive_norm(self) -> bool:
        """Whether the method is one for networks with adaLN only."""
        ...

    def factors(self, activations: np.ndarray, weight: np.ndarray) -> Factors:
        """Factors from s(X), (points, channels), and s(W), (channels,)."""
        ...


@dataclass(frozen=True)
class SalienceBalancing:
    """PTQ4DiT: ``c_j = sqrt(s(X_j) / (s(W_j) + 1e-8))``, after which both maxima are ``sqrt(s(X_j) s(W_j))``.

    c_j = 1 where either is 0: the released code divides by 0 there. Source: Wu et al. 2024 (arXiv:2405.16005), CSB and
    SSC.

    Args:
        over: SPEARMAN for CSB with SSC, the method; MAXIMUM for CSB alone.
        guard: what is added to s(W_j).
        needs_adaptive_norm: refuse networks without adaLN, for which the method was made; False to try it elsewhere.

    Raises:
        BadInput: another ``over``, or a guard outside 0 to 1.
    """

    over: OverPoints = OverPoints.SPEARMAN
    guard: float = 1e-8
    needs_adaptive_norm: bool = True

    def __post_init__(self) -> None:
        _require_over(self.over)
        _require_between("guard", self.guard, 0.0, 1.0)

    @property
    def name(self) -> str:
        """What is appended to a model's name."""
        return "balanced" if self.over is OverPoints.SPEARMAN else "balanced-maximum"

    def factors(self, activations: np.ndarray, weight: np.ndarray) -> Factors:
        """As the protocol says."""
        salience, points = _over(self.over, activations, weight)
        return Factors(_power(salience, weight, 0.5, self.guard), salience, weight, points)


@dataclass(frozen=True)
class SmoothQuant:
    """``c_j = s(X_j)^alpha / s(W_j)^(1 - alpha)``: the larger alpha, the more of the outliers goes to the weights.

    c_j = 1 where either is 0. Source: Xiao et al. 2023 (arXiv:2211.10438), eq. 4.

    Args:
        exponent: alpha, 0 to 1.
        over: how steps become one salience; the published method has no steps, and takes the largest.

    Raises:
        BadInput: another ``over``, or an exponent outside 0 to 1.
    """

    exponent: float = 0.5
    over: OverPoints = OverPoints.MAXIMUM

    def __post_init__(self) -> None:
        _require_over(self.over)
        _require_between("exponent", self.exponent, 0.0, 1.0)

    @property
    def needs_adaptive_norm(self) -> bool:
        """It was made for transformers of any kind."""
        return False

    @property
    def name(self) -> str:
        """What is appended to a model's name."""
        return f"smooth{self.exponent:g}" + ("" if self.over is OverPoints.MAXIMUM else f"-{self.over.value}")

    def factors(self, activations: np.ndarray, weight: np.ndarray) -> Factors:
        """As the protocol says."""
        salience, points = _over(self.over, activations, weight)
        return Factors(_power(salience, weight, self.exponent, 0.0), salience, weight, points)


def _over(over: OverPoints, activations: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    if over is OverPoints.MAXIMUM:
        return activations.max(axis=0), None
    points = spearman_weights(activations, weight)
    return points @ activations, points


def _power(activations: np.ndarray, weight: np.ndarray, exponent: float, guard: float) -> np.ndarray:
    both = (activations > 0) & (weight > 0)
    x, w = np.where(both, activations, 1.0), np.where(both, weight + guard, 1.0)
    return x**exponent / w ** (1.0 - exponent)


def _require_over(over: object) -> None:
    if not isinstance(over, OverPoints):
        raise BadInput("over must be one of OverPoints", got=repr(over), fix="use OverPoints.SPEARMAN, say")


def _require_between(name: str, value: object, low: float, high: float) -> None:
    if not low <= require_real(name, value) <= high:
        raise BadInput(f"{name} must be {low:g} to {high:g}", got=value, fix="choose such a number")
