"""Clipping and rounding together: granular and overload distortion, and the clip that makes their sum least.

A quantizer of 2^b levels covers a clip range and rounds within it. Inside the outermost cells |e| <= step / 2
(granular distortion); beyond them the error grows with the input (overload distortion). Both are sums of closed
partial moments of the density (``densities``), so the total is exact for every clip.

Banner et al. ("ACIQ", NeurIPS 2019) approximate the total by ``overload beyond the clip itself + clip^2 / (3 4^b)``:
step^2 / 12 with step = 2 clip / 2^b, overload to the clip instead of to the outermost level, half a step below. Their
optimum is offered as :func:`aciq_clip`; the exact one, which is higher at few bits, as :func:`optimal_clip`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from noise_models.theory.densities import Density, Folded, Gaussian, Laplace
from samplers.errors import BadInput
from samplers.validation import require_int, require_real


class Convention(Enum):
    """How 2^bits codes lie around 0, and what the clip is."""

    MIDRISE = "midrise"
    """Levels (k + 1/2) step on both sides of 0, none at 0; step = 2 clip / 2^bits, the clip is half a step beyond the
    outermost level. Tables of optimal quantizers and ACIQ use it."""
    SYMMETRIC = "symmetric"
    """Integers -(2^(bits-1) - 1) to 2^(bits-1) - 1 with 0, the engine's narrow signed format; the outermost is the
    clip."""
    TWOS_COMPLEMENT = "twos-complement"
    """Integers -2^(bits-1) to 2^(bits-1) - 1; the largest is the clip."""
    UNSIGNED = "unsigned"
    """Integers 0 to 2^bits - 1, for one-sided inputs; the largest is the clip."""


@dataclass(frozen=True)
class Grid:
    """Levels (k + offset) step for k = low..high; decisions halfway between.

    Raises:
        BadInput: a step that is not above 0, or no level.
    """

    step: float
    low: int
    high: int
    offset: float = 0.0

    def __post_init__(self) -> None:
        if require_real("step", self.step) <= 0:
            raise BadInput("step must be above 0", got=self.step, fix="pass the quantizer's step")
        if self.high < self.low:
            raise BadInput("a grid needs a level", got=f"{self.low}..{self.high}", fix="order the codes")

    @staticmethod
    def of(convention: Convention, bits: int, clip: float) -> Grid:
        """The grid of a convention.

        Raises:
            BadInput: fewer than 1 bit, or than the 2 that integers on both sides of 0 need; a clip that is not above 0.
        """
        least = 2 if convention in (Convention.SYMMETRIC, Convention.TWOS_COMPLEMENT) else 1
        require_int("bits", bits, least)
        if bits > 16:
            raise BadInput("bits must be at most 16", got=bits, fix="use the uniform model: nothing is left to clip")
        if require_real("clip", clip) <= 0:
            raise BadInput("clip must be above 0", got=clip, fix="pass the largest magnitude kept")
        half = 1 << (bits - 1)
        if convention is Convention.MIDRISE:
            return Grid(clip / half, -half, half - 1, 0.5)
        if convention is Convention.UNSIGNED:
            return Grid(clip / (2 * half - 1), 0, 2 * half - 1)
        low = -half if convention is Convention.TWOS_COMPLEMENT else -(half - 1)
        return Grid(clip / (half - 1), low, half - 1)

    @property
    def levels(self) -> np.ndarray:
        """float64, ascending."""
        return (np.arange(self.low, self.high + 1, dtype=np.float64) + self.offset) * self.step


class Distortion(NamedTuple):
    """Error e = Q(x) - x of clipping and rounding, in the input's unit.

    Attributes:
        granular: part of E[e^2] from inputs within half a step of a level.
        overload: part of E[e^2] from inputs beyond the outermost cells.
        mean: E[e].
        covariance: E[(x - mean) e].
        clipped: share of inputs beyond the outermost cells.
    """

    granular: float
    overload: float
    mean: float
    covariance: float
    clipped: float

    @property
    def total(self) -> float:
        """E[e^2]."""
        return self.granular + self.overload

    def sqnr_db(self, power: float) -> float:
        """10 log10(power / E[e^2]) for a signal of this power; infinite without error."""
        return 10 * math.log10(power / self.total) if self.total > 0 else math.inf


def distortion(density: Density, grid: Grid) -> Distortion:
    """Exact distortion of an input on a grid: sums of partial moments about each level, over its own cell."""
    levels, half = grid.levels, grid.step / 2
    ends = levels[[0, -1]]
    edges = ends + np.array([-half, half])
    _, granular_first, granular_second = density.partial(levels - half, levels + half, levels)
    below, above = np.array([-np.inf, edges[1]]), np.array([edges[0], np.inf])
    mass, first, second = density.partial(below, above, ends)
    all_levels = np.concatenate([levels, ends])
    all_first, all_second = np.concatenate([granular_first, first]), np.concatenate([granular_second, second])
    return Distortion(
        granular=float(granular_second.sum()),
        overload=float(second.sum()),
        mean=-float(all_first.sum()),
        covariance=-float(np.sum(all_second + (all_levels - density.mean) * all_first)),
        clipped=float(mass.sum()),
    )


class Clip(NamedTuple):
    """A clip and what it costs.

    Attributes:
        clip: in the input's unit.
        mse: E[e^2] there, of the formula that was minimised.
    """

    clip: float
    mse: float


def optimal_clip(density: Density, bits: int, convention: Convention = Convention.MIDRISE) -> Clip:
    """The clip of least exact total distortion.

    Clips of 1e-2 to 1e2 deviations are scanned in 400 equal ratios, since on a grid with 0 the total has more than one
    minimum at few bits; the best of them is refined between its neighbours by Brent's method.

    Args:
        density: of the input, its mean where the convention has its centre: 0, or a folded density.
        bits: of the codes.
        convention: where the codes lie.

    Raises:
        BadInput: bits as :meth:`Grid.of`.
    """
    Grid.of(convention, bits, 1.0)

    def total(clip: float) -> float:
        return distortion(density, Grid.of(convention, bits, clip)).total

    size = math.hypot(density.deviation, density.mean)
    return _least(total, size * 1e-2, size * 1e2)


def aciq_distortion(density: Gaussian | Laplace | Folded, bits: int, clip: float) -> float:
    """ACIQ's approximation: E[(|x| - clip)^2; |x| > clip] + step^2 / 12, step = 2 clip / 2^bits.

    Of a folded density, whose range is clipped on one side, step = clip / 2^bits.

    Source: Banner et al. 2019, equations 4, 6 and 9.
    """
    steps = 2.0**bits / (1 if isinstance(density, Folded) else 2)
    upper = float(density.partial(clip, math.inf, clip)[2])
    lower = 0.0 if isinstance(density, Folded) else float(density.partial(-math.inf, -clip, -clip)[2])
    return upper + lower + (clip / steps) ** 2 / 12


def aciq_clip(density: Gaussian | Laplace | Folded, bits: int) -> Clip:
    """The clip of least approximate distortion, as ACIQ tabulates it (2.83 b for Laplace at 2 bits, 1.71 sigma, ...).

    For Laplace it is b W(3 4^bits), Lambert's W, since 2 b exp(-clip / b) = 2 clip / (3 4^bits) there; for the folded
    Laplace b W(12 4^bits), the two-sided clip at one bit more. Others by minimisation.

    Raises:
        BadInput: fewer than 1 bit, more than 16, or a density whose mean is not 0.
    """
    if not 1 <= require_int("bits", bits, 1) <= 16:
        raise BadInput("bits must be 1 to 16", got=bits, fix="use the uniform model: nothing is left to clip")
    whole = density.whole if isinstance(density, Folded) else density
    if whole.mean != 0:
        raise BadInput("ACIQ's clips are for inputs of mean 0", got=whole.mean, fix="subtract the mean")
    if isinstance(whole, Laplace):
        one_sided = isinstance(density, Folded)
        clip = whole.scale * float(lambertw(3 * 4.0 ** (bits + one_sided)).real)
        return Clip(clip, aciq_distortion(density, bits, clip))
    return _least(lambda clip: aciq_distortion(density, bits, clip), whole.deviation * 1e-2, whole.deviation * 1e2)


def _least(cost: Callable[[float], float], low: float, high: float, count: int = 400) -> Clip:
    """Scan in equal ratios, then refine in the bracket of the best."""
    clips = np.geomspace(low, high, count)
    best = int(np.argmin([cost(clip) for clip in clips]))
    bracket = clips[max(best - 1, 0)], clips[min(best + 1, count - 1)]
    found = minimize_scalar(cost, bounds=bracket, method="bounded", options={"xatol": 1e-9 * bracket[1]})
    return Clip(float(found.x), float(found.fun))
