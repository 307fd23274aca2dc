"""A mixture on the line under a sampler: the distribution of x at every step, by quadrature instead of sampling.

On R^1 the distribution is carried as weighted nodes. A step without noise moves them, x -> f(x); a step of noise c
then has the density sum_j w_j N(x; f(x_j), c^2), evaluated on a fresh grid. The trapezoidal rule on smooth densities
that vanish at both ends converges exponentially: with c at least 1.25 spacings of the moved nodes its error is about
exp(-2 pi^2 1.25^2) = 4e-14.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from noise_models.exact.line import mixture_cdf, mixture_quantile
from noise_models.exact.path import linear_updates, per_step
from samplers.coefficients import Update, history_length
from samplers.errors import BadInput
from samplers.sampler import Sampler
from simulator.models.gaussian import Array
from simulator.models.mixture import Mixture

REACH = 9.0
"""Standard deviations that grids and kernels reach to."""
PER_SPACING = 1.25
"""Standard deviations of a step's noise for each distance of two moved nodes, at least."""
COARSEST, FINEST = 1 << 10, 1 << 18
"""Nodes of a grid, fewest and most."""
FINAL = 1 << 13
"""Fewest nodes after the last noise: the finished samples' distribution function is then good to about 1e-5."""
LOST = 1e-9
"""Weight that may leave the grids."""


@dataclass(frozen=True, eq=False)
class LinePath:
    """Distributions of x before each call of the network and after the last, as nodes with weights.

    Args:
        nodes: one array for each distribution, ascending but after steps that fold the line.
        weights: likewise, of sum 1 up to 1e-9; expectations of smooth functions are sums over them.
        ranks: likewise, P(X <= node) as long as no step folds the line.
    """

    nodes: tuple[Array, ...]
    weights: tuple[Array, ...]
    ranks: tuple[Array, ...]

    def mean(self, index: int = -1) -> float:
        """Of the distribution at this index; -1 is that of the finished samples."""
        return float(self.nodes[index] @ self.weights[index])

    def variance(self, index: int = -1) -> float:
        """Likewise."""
        return float((self.nodes[index] - self.mean(index)) ** 2 @ self.weights[index])

    def cdf(self, x: ArrayLike, index: int = -1) -> Array:
        """P(X <= x), linear between nodes: errors are of second order in their distance, which is finest at the end."""
        nodes, ranks = self._ranked(index)
        return np.interp(np.asarray(x, np.float64), nodes, ranks, left=0.0, right=1.0)

    def wasserstein(self, mixture: Mixture, index: int = -1) -> tuple[float, float]:
        """(W1, W2) to a mixture on the line: the integrals of |F - G| and, by the ranks, of the quantiles' distance."""
        nodes, ranks = self._ranked(index)
        own = mixture_quantile(mixture, np.linspace(1e-12, 1 - 1e-12, 2 * COARSEST))
        x = np.unique(np.concatenate([nodes, own]))
        w1 = np.trapezoid(np.abs(self.cdf(x, index) - mixture_cdf(mixture, x)), x)
        inside = (ranks > 1e-15) & (ranks < 1 - 1e-15)
        squared = (nodes[inside] - mixture_quantile(mixture, ranks[inside])) ** 2
        return float(w1), float(np.trapezoid(squared, ranks[inside])) ** 0.5

    def _ranked(self, index: int) -> tuple[Array, Array]:
        nodes, ranks = self.nodes[index], self.ranks[index]
        if (np.diff(nodes) >= 0).all():
            return nodes, ranks
        order = np.argsort(nodes)
        weights = self.weights[index][order]
        return nodes[order], np.cumsum(weights) - weights / 2


def line_path(
    sampler: Sampler,
    data: Mixture,
    *,
    updates: Sequence[Update] | None = None,
    start: Mixture | None = None,
    epsilon_variance: ArrayLike | None = None,
) -> LinePath:
    """Distribution of x at every step of ``sampler`` with the exact epsilon of ``data``, from N(0, 1).

    Noise of variance q on epsilon, independent of x, makes the step's noise sqrt(c^2 + b^2 q).

    Args:
        sampler: linear; multistep only without any noise, since a fresh grid has no earlier predictions.
        data: a mixture of dimension 1.
        updates: in place of the sampler's own, as a correction changes them.
        start: distribution of the first x, with variances above 0; N(0, 1) if None, times the sampler's
            ``init_noise_sigma`` where it has one.
        epsilon_variance: a number, or one for each update, at least 0.

    Raises:
        BadInput: a sampler that clips, a mixture of another dimension, noise in a multistep method or on epsilon at
            abar = 0, or noise so small beside the range of x (a small eta) that a grid of 2^18 nodes does not resolve
            it.
    """
    steps = linear_updates(sampler, updates)
    added = per_step(epsilon_variance, steps)
    noise = np.array([np.hypot(u.c, u.b * q**0.5 if q else 0.0) for u, q in zip(steps, added, strict=True)])
    if data.dimension != 1 or (start is not None and start.dimension != 1):
        raise BadInput("the data must be on the line", got=f"{data.dimension} dimensions", fix="use data.along")
    if history_length(steps) and noise.any():
        raise BadInput(
            "a multistep method is followed without noise only", got="history and noise", fix="sample, and compare"
        )
    scale = float(getattr(sampler, "init_noise_sigma", 1.0))
    first = start or Mixture(np.ones(1), np.zeros((1, 1)), np.full(1, scale**2))
    edge = max(float((np.abs(m.means) + REACH * m.variances**0.5).max()) for m in (data, first)) + REACH * 0.1
    narrow = float(first.variances.min()) ** 0.5 / PER_SPACING
    if not noise.any():
        return _moved_alone(steps, data, first, edge, narrow)
    spacings = _spacings(steps, data, noise, edge)
    x, h = _grid(edge, min(spacings[0], narrow))
    weight, rank = np.exp(first.log_density(x[:, None])) * h, mixture_cdf(first, x)
    found = [(x, weight, rank)]
    for i, update in enumerate(steps):
        x, _ = _moved(update, data, x, ())
        if noise[i] > 0:
            x, weight = _smoothed(x, weight, noise[i], *_grid(edge, spacings[i + 1]))
            rank = np.cumsum(weight) - weight / 2
        if abs(weight.sum() - 1) > LOST:
            raise BadInput(
                "the distribution must stay on the grid",
                got=f"weight {weight.sum()} after step {i}",
                fix="check that the sampler's variance stays finite",
            )
        found.append((x, weight, rank))
    return LinePath(*zip(*found, strict=True))


def _moved_alone(steps: Sequence[Update], data: Mixture, first: Mixture, edge: float, narrow: float) -> LinePath:
    """The path of a run without noise, whose steps move each node by itself and keep its rank.

    Between two modes such a run tears neighbouring nodes apart. There nodes are added, without weight, until those on
    both sides of a gap differ by less than 1e-9 in rank.
    """
    x, h = _grid(edge, min(narrow, 2 * edge / FINAL))
    rows, weight, rank = _walked(steps, data, x), np.exp(first.log_density(x[:, None])) * h, mixture_cdf(first, x)
    while len(x) < FINEST:
        torn = np.flatnonzero((np.diff(rows[-1]) > 4 * h) & (np.diff(rank) > 1e-9))
        if not torn.size:
            break
        added = (x[torn] + x[torn + 1]) / 2
        x, weight = np.insert(x, torn + 1, added), np.insert(weight, torn + 1, 0.0)
        rank = np.insert(rank, torn + 1, mixture_cdf(first, added))
        rows = np.insert(rows, torn + 1, _walked(steps, data, added), axis=1)
    return LinePath(tuple(rows), (weight,) * len(rows), (rank,) * len(rows))


def _walked(steps: Sequence[Update], data: Mixture, x: Array) -> Array:
    """Where each of x lies before every step and after the last, (n + 1, len(x))."""
    rows = [x]
    earlier: deque[tuple[Array, Array]] = deque(maxlen=history_length(steps))
    for update in steps:
        x, predicted = _moved(update, data, x, earlier)
        earlier.appendleft(predicted)
        rows.append(x)
    return np.array(rows)


def _moved(
    update: Update, data: Mixture, x: Array, earlier: Iterable[tuple[Array, Array]]
) -> tuple[Array, tuple[Array, Array]]:
    """f(x), and the predictions that it was made of."""
    abar = float(update.alpha_cumprod)
    x0, epsilon = (data.predict(x[:, None], abar, kind)[:, 0] for kind in ("sample", "epsilon"))
    new = (
        float(update.x0_coefficient) * x0
        + float(update.x_coefficient) * x
        + float(update.epsilon_coefficient) * epsilon
    )
    for weights, (x0_before, epsilon_before) in zip(update.history, earlier, strict=False):
        new = new + float(weights.x0_coefficient) * x0_before + float(weights.epsilon_coefficient) * epsilon_before
    return new, (x0, epsilon)


def _spacings(steps: Sequence[Update], data: Mixture, noise: Array, edge: float) -> Array:
    """Largest distance of nodes before each step, and after the last, that keeps its noise resolved."""
    x = np.linspace(-edge, edge, 4001)
    bound = np.full(len(steps) + 1, np.inf)
    for i, update in enumerate(steps):
        if noise[i] > 0:
            abar = float(update.alpha_cumprod)
            by_x0, by_epsilon = (data.jacobian(x[:, None], abar, kind)[:, 0, 0] for kind in ("sample", "epsilon"))
            slope = (
                float(update.x0_coefficient) * by_x0
                + float(update.x_coefficient)
                + float(update.epsilon_coefficient) * by_epsilon
            )
            bound[i] = min(bound[i], noise[i] / PER_SPACING / max(float(np.abs(slope).max()), 1.0))
            bound[i + 1] = noise[i] / PER_SPACING
    if noise.any():
        last = int(np.flatnonzero(noise)[-1]) + 1
        bound[last] = min(bound[last], 2 * edge / FINAL)
    return bound


def _grid(edge: float, spacing: float) -> tuple[Array, float]:
    count = max(int(np.ceil(2 * edge / spacing)) if np.isfinite(spacing) else 0, COARSEST) + 1
    if count > FINEST + 1:
        raise BadInput(
            f"a grid of {FINEST} nodes must resolve the noise of every step",
            got=f"noise that needs {count}",
            fix="use eta = 0, a larger eta, or samples",
        )
    return np.linspace(-edge, edge, count), 2 * edge / (count - 1)


def _smoothed(x: Array, weight: Array, noise: float, grid: Array, h: float) -> tuple[Array, Array]:
    """Nodes with weights after noise, on a grid of spacing h."""
    kept = weight > 1e-30
    x, weight = x[kept], weight[kept] * h / (noise * np.sqrt(2 * np.pi))
    nearest = np.rint((x - grid[0]) / h).astype(np.int64)
    offset = x - grid[0] - nearest * h
    found = np.zeros(len(grid))
    reach = int(np.ceil(REACH * noise / h))
    for shift in range(-reach, reach + 1):
        index = nearest + shift
        inside = (index >= 0) & (index < len(grid))
        part = weight * np.exp(-(((shift * h - offset) / noise) ** 2) / 2)
        found += np.bincount(index[inside], part[inside], minlength=len(grid))
    return grid, found
