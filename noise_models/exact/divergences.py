"""Distances between exact distributions: Kullback-Leibler and Wasserstein, of Gaussians and of mixtures.

Gaussians in closed form; a mixture's KL by quadrature in one or two dimensions and by Monte Carlo in any; samples
against a mixture on the line by its exact quantiles. Divergences are in nats, distances in the unit of x.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.models.gaussian import Array, Gaussian
from simulator.models.mixture import Mixture

PANELS = (0.0, 0.75, 1.5, 2.5, 4.0, 6.0, 9.0)
"""Panels of a quadrature end this many standard deviations to both sides of every component's mean."""

ORDERS = (8, 16, 32)
"""Gauss-Legendre nodes per panel and axis, until the integral stands still."""


class Estimate(NamedTuple):
    """A value and its standard error (Monte Carlo), or the last change on refining (quadrature)."""

    value: float
    error: float


def same_basis(p: Gaussian, q: Gaussian) -> bool:
    """Whether two Gaussians are given along the same directions."""
    if p.basis is None or q.basis is None:
        return p.basis is q.basis
    return bool(np.array_equal(p.basis, q.basis))


def gaussian_kl(p: Gaussian, q: Gaussian) -> float:
    """KL(p || q) = 1/2 sum_i (s_i^2 / t_i^2 - 1 - log(s_i^2 / t_i^2) + (m_i - n_i)^2 / t_i^2) along shared directions.

    In general 1/2 (tr(Q^-1 P) - d - log det(Q^-1 P) + (m - n)^T Q^-1 (m - n)). Infinite where a variance of p is 0 and
    that of q is not, or the reverse, or the means differ along a direction without variance in q; directions without
    variance and with equal means in both count 0.

    Raises:
        BadInput: different dimensions, or singular covariances along different directions.
    """
    _same_dimension(p, q)
    if same_basis(p, q):
        return _commuting_kl(p.variances, q.variances, q.rotate(p.mean - q.mean))
    if min(p.variances.min(), q.variances.min()) <= 0:
        raise BadInput(
            "the KL divergence along different directions needs variances above 0", got=0, fix="use a shared basis"
        )
    # In coordinates where q is standard normal: the eigenvalues of P there are the ratios of variances.
    scaled = q.rotate(p.matrix(p.variances**0.5).T) / q.variances**0.5
    ratios = np.asarray(np.linalg.svd(scaled, compute_uv=False), np.float64) ** 2
    shift = q.rotate(p.mean - q.mean) / q.variances**0.5
    return float(_excess(ratios).sum() / 2 + (shift**2).sum() / 2)


def _commuting_kl(of_p: Array, of_q: Array, shift: Array) -> float:
    fixed = of_q == 0
    if ((of_p == 0) != fixed).any() or (shift[fixed] != 0).any():
        return np.inf
    ratios = of_p[~fixed] / of_q[~fixed]
    return float((_excess(ratios) + shift[~fixed] ** 2 / of_q[~fixed]).sum() / 2)


def _excess(ratios: Array) -> Array:
    """r - 1 - log r; near 1 by its series, since the difference would cancel."""
    h = ratios - 1
    series = sum((-h) ** k / k for k in range(2, 11))
    with np.errstate(divide="ignore"):
        return np.where(np.abs(h) < 0.01, series, h - np.log(ratios))


def gaussian_wasserstein(p: Gaussian, q: Gaussian) -> float:
    """2-Wasserstein distance: W^2 = |m - n|^2 + sum_i (s_i - t_i)^2 along shared directions.

    In general |m - n|^2 + tr(P + Q - 2 (P^(1/2) Q P^(1/2))^(1/2)), by the singular values of Q^(1/2) P^(1/2) (Dowson
    and Landau 1982); its rounding is that of a difference, about 1e-8 of the deviations. Its square is the Frechet
    distance of the two.

    Raises:
        BadInput: different dimensions.
    """
    _same_dimension(p, q)
    shift = float(((p.mean - q.mean) ** 2).sum())
    if same_basis(p, q):
        return float(np.sqrt(shift + ((p.variances**0.5 - q.variances**0.5) ** 2).sum()))
    cross = np.linalg.svd(q.matrix(q.variances**0.5) @ p.matrix(p.variances**0.5), compute_uv=False).sum()
    return float(np.sqrt(max(shift + p.variances.sum() + q.variances.sum() - 2 * cross, 0.0)))


def mixture_kl(p: Mixture, q: Mixture, *, tolerance: float = 1e-10) -> Estimate:
    """KL(p || q) of mixtures on R^1 or R^2, the integral of p (log p - log q) by Gauss-Legendre quadrature in panels.

    Panels end where components of p or q change (``PANELS``), so that a narrow component inside a wide one is seen;
    beyond 9 standard deviations of all components lies 2e-19 of the weight. The order doubles until the integral moves
    by at most ``tolerance`` (1 + its size); ``error`` is the last move. In the plane time grows with the square of the
    number of components.

    Raises:
        BadInput: more than two dimensions, different ones, a component without variance, or no convergence at order 32.
    """
    _same_dimension(p, q)
    if p.dimension > 2:
        raise BadInput("quadrature takes 1 or 2 dimensions", got=p.dimension, fix="use mixture_kl_monte_carlo")
    before = np.inf
    for order in ORDERS:
        found = _quadrature(p, q, order)
        if abs(found - before) <= tolerance * (1 + abs(found)):
            return Estimate(found, abs(found - before))
        before, last = found, before
    raise BadInput(
        f"quadrature must converge to {tolerance}",
        got=f"a move of {abs(before - last)} at order {ORDERS[-1]}",
        fix="allow a larger tolerance, or use Monte Carlo",
    )


def _quadrature(p: Mixture, q: Mixture, order: int) -> float:
    axes = [_axis(p, q, axis, order) for axis in range(p.dimension)]
    x = np.stack(np.meshgrid(*(nodes for nodes, _ in axes), indexing="ij"), -1).reshape(-1, p.dimension)
    weight = axes[0][1] if p.dimension == 1 else np.outer(axes[0][1], axes[1][1]).reshape(-1)
    log_p = p.log_density(x)
    return float((weight * np.exp(log_p)) @ (log_p - q.log_density(x)))


def _axis(p: Mixture, q: Mixture, axis: int, order: int) -> tuple[Array, Array]:
    """Nodes and weights along one axis."""
    means = np.concatenate([p.means[:, axis], q.means[:, axis]])
    deviations = np.concatenate([p.variances[:, axis], q.variances[:, axis]]) ** 0.5
    ends = np.unique(means + np.outer(np.r_[np.negative(PANELS), PANELS], deviations))
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half = np.diff(ends)[:, None] / 2
    return ((ends[:-1, None] + half) + half * nodes).reshape(-1), (half * weights).reshape(-1)


def mixture_kl_monte_carlo(p: Mixture, q: Mixture, count: int, generator: np.random.Generator) -> Estimate:
    """KL(p || q) as the mean of log p - log q over ``count`` samples of p, with its standard error.

    Unbiased, hence negative at times where the divergence is near 0. Any dimension.

    Raises:
        BadInput: different dimensions, a component without variance, or fewer than 2 samples.
    """
    _same_dimension(p, q)
    require_int("count", count, 2)
    x = p.sample(count, generator)
    ratio = p.log_density(x) - q.log_density(x)
    return Estimate(float(ratio.mean()), float(ratio.std(ddof=1) / count**0.5))


def _same_dimension(p: Gaussian | Mixture, q: Gaussian | Mixture) -> None:
    if p.dimension != q.dimension:
        raise BadInput(
            "both distributions must have one dimension", got=f"{p.dimension} and {q.dimension}", fix="project one"
        )
