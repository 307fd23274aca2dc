"""Precision and recall of a set of samples against another, on k-nearest-neighbour manifolds of features.

Source: Kynkäänniemi et al. 2019 (arXiv:1904.06991), equations 1 and 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samplers.errors import BadInput
from samplers.validation import require_int
from studies.quality.gaussians import Array, require_pair

NEIGHBOURS = 3
"""k of the paper."""

_ROWS = 512


class PrecisionRecall(NamedTuple):
    """Shares of samples inside the other set's manifold.

    Attributes:
        precision: share of the generated samples within the manifold of the reference.
        recall: share of the reference samples within the manifold of the generated ones.
        samples: of each set.
        neighbours: k.
    """

    precision: float
    recall: float
    samples: int
    neighbours: int


def precision_recall(generated: ArrayLike, reference: ArrayLike, *, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Precision and recall.

    A set's manifold is the union of closed balls about its samples, each as wide as the distance to the sample's k-th
    nearest other one; a sample at exactly that distance lies inside. Copies within a set have radius 0 with themselves
    and still hold copies in the other. Distances are Euclidean, in float64. Both grow with the number of samples, so
    that values compare at equal sizes only; equal sizes are required.

    Args:
        generated: (n, d).
        reference: (n, d).
        neighbours: k, below n.

    Raises:
        BadInput: sizes or dimensions that differ, or too few samples for k.
    """
    a, b = require_pair(generated, reference)
    k = require_int("neighbours", neighbours, 1)
    if len(a) != len(b):
        raise BadInput(
            "precision and recall compare sets of equal size",
            got=f"{len(a)} and {len(b)}",
            fix="take as many of the larger set as the smaller one has",
        )
    if len(a) <= k:
        raise BadInput(f"{k} neighbours need more than {k} samples", got=len(a), fix="draw more")
    return PrecisionRecall(
        float(_inside(a, b, _radii(b, k)).mean()), float(_inside(b, a, _radii(a, k)).mean()), len(a), k
    )


def _squared(a: Array, b: Array) -> Array:
    """Squared distances (len(a), len(b)), by differences where they matter: exact copies are at exactly 0.

    The expansion |a|^2 + |b|^2 - 2 a.b is fast but leaves 1e-16 |a|^2 between copies, so nearly coincident pairs are
    computed again.
    """
    scale_a, scale_b = (a * a).sum(1), (b * b).sum(1)
    squared = scale_a[:, None] + scale_b[None, :] - 2.0 * (a @ b.T)
    rows, columns = np.nonzero(squared <= 1e-10 * (scale_a[:, None] + scale_b[None, :]))
    squared[rows, columns] = ((a[rows] - b[columns]) ** 2).sum(1)
    return squared


def _radii(rows: Array, k: int) -> Array:
    """Squared distance of every row to its k-th nearest other row, (n,)."""
    radii = np.empty(len(rows))
    for first in range(0, len(rows), _ROWS):
        part = slice(first, min(first + _ROWS, len(rows)))
        squared = _squared(rows[part], rows)
        squared[np.arange(len(squared)), first + np.arange(len(squared))] = np.inf
        radii[part] = np.partition(squared, k - 1, axis=1)[:, k - 1]
    return radii


def _inside(points: Array, centres: Array, radii: Array) -> NDArray[np.bool_]:
    """Whether each point lies in some ball, (len(points),)."""
    found = [
        (_squared(points[first : first + _ROWS], centres) <= radii[None, :]).any(1)
        for first in range(0, len(points), _ROWS)
    ]
    return np.concatenate(found)
