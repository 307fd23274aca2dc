"""The Fréchet distance of infinitely many samples, from its growth as samples get fewer, with an interval.

Fitted to n samples of each distribution, E FD(n) = FD + c/n + O(1/n^2): the distance is biased upwards. The n pairs
of samples are cut into k disjoint parts of n/k for several k; the mean distance of the parts is a point at k/n, and the
intercept of the least-squares line through the points estimates FD. Source of the idea: Chong and Forsyth 2020
(arXiv:1911.07023), who vary the generated samples alone, against fixed statistics of the data, and draw random subsets;
here both sets vary together, so that the biases of both vanish in the limit, and parts are disjoint.

The interval is a jackknife over groups of sample pairs: the whole fit again without each. Resampling with replacement
does not serve: a bootstrap sample holds copies, which bias it upwards again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noise_models.inference.intervals import Interval, from_replicates
from samplers.errors import BadInput
from studies.quality.gaussians import Array, Gaussians, frechet, require_features
from studies.quality.shuffling import Role, order

GROUPS = 20
"""Groups of the jackknife; each number of parts divides it, so that parts are unions of groups."""

PARTS = (1, 2, 4, 5)
"""Numbers of parts that samples are cut into."""

MOST_REPLICATED = 256
"""Dimensions beyond which no group is left out, so that there is no interval: in 2048 dimensions the Gaussians of a
jackknife are 250 covariances of 34 MB, each with a decomposition of seconds."""

LEAST_PER_DIMENSION = 20
"""Samples per feature dimension below which no Fréchet distance is given unasked."""


@dataclass(frozen=True, eq=False)
class PartGaussians:
    """Gaussians of every part of one set of features, with all groups and without each.

    Made once per set, so that a comparison costs singular values alone. Sets drawn on the same noise are cut alike.

    Args:
        samples: n.
        dimension: d.
        parts: numbers of parts, ascending, 1 first.
        gaussians: per entry of ``parts``, Gaussians with leading axes (1 + GROUPS, k): all, then without group g;
            (1, k) beyond ``MOST_REPLICATED`` dimensions.
        inverse_sizes: (1 + GROUPS, len(parts)), or (1, len(parts)): mean of 1/size over the parts.
    """

    samples: int
    dimension: int
    parts: tuple[int, ...]
    gaussians: tuple[Gaussians, ...]
    inverse_sizes: Array

    @classmethod
    def of(cls, features: ArrayLike, *, parts: tuple[int, ...] = PARTS, role: Role = Role.GENERATED) -> PartGaussians:
        """Cut and fit features (n, d), after the fixed shuffling of ``role``.

        Raises:
            BadInput: features that are none, fewer than two samples in the smallest part, or numbers of parts that are
                not ascending divisors of ``GROUPS`` from 1.
        """
        if parts[:1] != (1,) or any(GROUPS % k for k in parts) or list(parts) != sorted(set(parts)):
            raise BadInput(f"parts must be ascending divisors of {GROUPS}, from 1", got=parts, fix=f"use {PARTS}")
        rows = require_features("features", features, least=2 * GROUPS)
        offset = rows.mean(0)
        rows = rows[order(len(rows), role)] - offset  # so that sums of squares keep their digits
        counts = np.array([len(rows[g::GROUPS]) for g in range(GROUPS)], np.float64)
        sums = np.stack([rows[g::GROUPS].sum(0) for g in range(GROUPS)])
        squares = np.stack([rows[g::GROUPS].T @ rows[g::GROUPS] for g in range(GROUPS)])
        kept = np.vstack([np.ones(GROUPS), 1.0 - np.eye(GROUPS)])[: None if rows.shape[1] <= MOST_REPLICATED else 1]
        found, sizes = [], []
        for k in parts:
            # part p is made of the groups g with g mod k = p
            member = (np.arange(GROUPS)[None, :] % k == np.arange(k)[:, None]).astype(np.float64)
            chosen = (kept[:, None, :] * member[None]).reshape(-1, GROUPS)
            size = chosen @ counts
            mean = (chosen @ sums) / size[:, None]
            square = (chosen @ squares.reshape(GROUPS, -1)).reshape(-1, *squares.shape[1:])
            covariance = (square - size[:, None, None] * mean[:, :, None] * mean[:, None, :]) / (size - 1)[
                :, None, None
            ]
            made = Gaussians.of_moments(mean + offset, covariance)
            shape = (len(kept), k)
            found.append(Gaussians(made.mean.reshape(*shape, -1), made.root.reshape(*shape, *made.root.shape[1:])))
            sizes.append((1.0 / size).reshape(shape).mean(1))
        return cls(len(rows), rows.shape[1], tuple(parts), tuple(found), np.stack(sizes, axis=1))


@dataclass(frozen=True, eq=False)
class FrechetCurve:
    """Mean Fréchet distance of parts of several sizes, and what it extrapolates to.

    Args:
        samples: n, of each set.
        dimension: d.
        parts: numbers of parts k.
        values: (1 + GROUPS, len(parts)): mean over the k parts, of all samples and without each group; (1, len(parts))
            where no group was left out.
        inverse_sizes: likewise, the abscissas.
    """

    samples: int
    dimension: int
    parts: tuple[int, ...]
    values: Array
    inverse_sizes: Array

    @property
    def at_all(self) -> float:
        """FD(n) of all samples, biased upwards."""
        return float(self.values[0, 0])

    @property
    def smallest(self) -> int:
        """Samples in the smallest part."""
        return self.samples // self.parts[-1]

    def intercepts(self) -> Array:
        """(1 + GROUPS,) or (1,) of the least-squares lines, in 1/n; NaN with a single size."""
        return self._lines()[0]

    def slope(self) -> float:
        """c of the line through all samples."""
        return float(self._lines()[1][0])

    def interval(self, confidence: float = 0.95) -> Interval:
        """FD of infinitely many samples, by a jackknife over groups with Student's t.

        The interval may reach below 0, where the distance cannot lie: equal distributions have distance 0, which an
        unbiased estimate must be free to miss on both sides. Its ends are NaN beyond ``MOST_REPLICATED`` dimensions.
        """
        return _interval(self.intercepts(), confidence)

    def difference(self, other: FrechetCurve, confidence: float = 0.95) -> Interval:
        """FD of infinitely many samples of this curve minus that of ``other``, paired group by group.

        Raises:
            BadInput: curves of other samples or parts.
        """
        if (self.samples, self.parts) != (other.samples, other.parts):
            raise BadInput(
                "paired curves must have the same samples and parts",
                got=f"{self.samples} in {self.parts} and {other.samples} in {other.parts}",
                fix="draw as many of both",
            )
        return _interval(self.intercepts() - other.intercepts(), confidence)

    def _lines(self) -> tuple[Array, Array]:
        if len(self.parts) < 2:
            return np.full(len(self.values), np.nan), np.full(len(self.values), np.nan)
        x = self.inverse_sizes - self.inverse_sizes.mean(1, keepdims=True)
        slope = (x * self.values).sum(1) / (x * x).sum(1)
        return self.values.mean(1) - slope * self.inverse_sizes.mean(1), slope


def frechet_curve(x: PartGaussians, y: PartGaussians) -> FrechetCurve:
    """Fréchet distances between the parts of two sets of equal size.

    Raises:
        BadInput: sizes, dimensions or parts that differ.
    """
    if (x.samples, x.dimension, x.parts) != (y.samples, y.dimension, y.parts):
        raise BadInput(
            "a Fréchet distance takes sets of equal size, dimension and parts",
            got=f"({x.samples}, {x.dimension}) and ({y.samples}, {y.dimension})",
            fix="take as many of the larger set as the smaller one has",
        )
    values = [frechet(a, b).mean(1) for a, b in zip(x.gaussians, y.gaussians, strict=True)]
    return FrechetCurve(x.samples, x.dimension, x.parts, np.stack(values, axis=1), x.inverse_sizes)


def parts_for(samples: int, dimension: int, *, least: int = LEAST_PER_DIMENSION) -> tuple[int, ...]:
    """The numbers of parts whose sizes are at least ``least`` samples per dimension; 1 whatever the size."""
    return tuple(k for k in PARTS if k == 1 or samples // k >= least * dimension)


def _interval(values: NDArray[np.float64], confidence: float) -> Interval:
    if len(values) == 1:
        nan = np.asarray(np.nan)
        return Interval(values[0], nan, nan, nan, np.asarray(1, np.int8))
    return from_replicates(values[0], values[1:], np.full(GROUPS, 1.0 / GROUPS), confidence=confidence)
