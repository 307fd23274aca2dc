"""Mixtures of Gaussians on the line: distribution function, quantiles, and the Wasserstein distance of samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from samplers.errors import BadInput
from simulator.models.gaussian import Array
from simulator.models.mixture import Mixture


class SampleDistance(NamedTuple):
    """How far samples lie from a distribution on the line.

    Attributes:
        w1: integral of |F_n - F|.
        w2: square root of the integral of (Q_n - Q)^2 over (0, 1).
        w1_floor: bound of the mean of ``w1`` over n exact samples, the integral of sqrt(F (1 - F) / n).
    """

    w1: float
    w2: float
    w1_floor: float


def mixture_cdf(mixture: Mixture, x: ArrayLike) -> Array:
    """F(x) = sum_k w_k Phi((x - m_k) / s_k), of any shape; a component without variance is a step, 1 at its mean.

    Raises:
        BadInput: a mixture of another dimension than 1.
    """
    x = np.asarray(x, np.float64)[..., None]
    means, deviations = _line(mixture)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(deviations > 0, (x - means) / deviations, np.where(x >= means, np.inf, -np.inf))
    return ndtr(z) @ mixture.weights


def mixture_quantile(mixture: Mixture, u: ArrayLike) -> Array:
    """The smallest x with F(x) >= u, for u in (0, 1), by bisection down to neighbouring floats.

    Raises:
        BadInput: a mixture of another dimension than 1, or u outside (0, 1).
    """
    u = np.asarray(u, np.float64)
    if not ((u > 0) & (u < 1)).all():
        raise BadInput("quantiles are of u in (0, 1)", got=u, fix="leave out the ends")
    means, deviations = _line(mixture)
    low = np.full(u.shape, (means - 40 * deviations).min() - 1e-300)
    high = np.full(u.shape, (means + 40 * deviations).max())
    for _ in range(200):
        middle = low + (high - low) / 2
        below = mixture_cdf(mixture, middle) < u
        moved = np.where(below, middle != low, middle != high)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
        if not moved.any():
            break
    return high


def sample_wasserstein(samples: ArrayLike, mixture: Mixture) -> SampleDistance:
    """Wasserstein distances W1 and W2 between n samples and a mixture on the line, without sampling the mixture.

    The i-th sample in order, x_i, is matched with the quantiles Q(u), (i-1)/n < u < i/n. Integrals of Q are partial
    expectations of the normal components: integral of Q over (u, v) = sum_k w_k [m_k Phi(z) - s_k phi(z)] between
    z = (Q(u) - m_k) / s_k and the same at v. So W2^2 = mean x_i^2 - 2 sum_i x_i int_i Q + E x^2, and in W1 each
    interval is cut at F(x_i), where x_i - Q(u) changes its sign. Errors are those of the quantiles, about 1e-15 of
    the scale, and of W2^2, about 1e-16 of E x^2.

    Args:
        samples: (n,), finite, at least 1.
        mixture: of dimension 1, with variances above 0.

    Raises:
        BadInput: an argument breaks its rule.
    """
    x = np.sort(np.asarray(samples, np.float64))
    if x.ndim != 1 or not x.size or not np.isfinite(x).all():
        raise BadInput("samples must be (n,) finite numbers", got=x.shape, fix="project or flatten them")
    means, deviations = _line(mixture)
    if (deviations == 0).any():
        raise BadInput("the mixture must have variances above 0", got=0, fix="take the marginal at abar < 1")
    centre = float(mixture.mean[0])
    cuts = np.arange(len(x) + 1) / len(x)
    edges = np.concatenate([[-np.inf], mixture_quantile(mixture, cuts[1:-1]), [np.inf]])
    first, last = edges[:-1], edges[1:]
    below = np.clip(x, first, last)  # Q at the cut inside each interval

    def partial(at: Array) -> tuple[Array, Array]:
        """Probability below ``at``, and the partial expectation of x - centre."""
        z = (at[:, None] - means) / deviations
        weight = ndtr(z) @ mixture.weights
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        return weight, ((means - centre) * ndtr(z) - deviations * density) @ mixture.weights

    (low_mass, low), (mass, middle), (high_mass, high) = map(partial, (first, below, last))
    y = x - centre
    w1 = (y * (mass - low_mass) - (middle - low)).sum() + ((high - middle) - y * (high_mass - mass)).sum()
    second = float(mixture.covariance[0, 0])
    w2_squared = (y**2).mean() - 2 * (y * (high - low)).sum() + second
    return SampleDistance(float(max(w1, 0.0)), float(np.sqrt(max(w2_squared, 0.0))), _floor(mixture) / len(x) ** 0.5)


def _floor(mixture: Mixture) -> float:
    """Integral of sqrt(F (1 - F)), by the trapezoidal rule on a grid that is fine around every component."""
    means, deviations = _line(mixture)
    grid = np.unique((means + deviations * np.linspace(-12, 12, 4801)[:, None]).reshape(-1))
    f = mixture_cdf(mixture, grid)
    return float(np.trapezoid(np.sqrt(f * (1 - f)), grid))


def _line(mixture: Mixture) -> tuple[Array, Array]:
    if mixture.dimension != 1:
        raise BadInput("the mixture must be on the line", got=f"{mixture.dimension} dimensions", fix="use .along")
    return mixture.means[:, 0], mixture.variances[:, 0] ** 0.5
