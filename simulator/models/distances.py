"""Distances between two sets of images in pixel space, for the model card.

Images enter as rows of pixels on the [0, 1] scale: (N, D) float64. Pixels are a space in which both distances are
defined without another network; they are not comparable with FID, whose features come from Inception.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


def pixel_rows(images: NDArray[np.float32]) -> Rows:
    """Flatten images on [-1, 1] to rows on [0, 1]; values outside are clipped, as writing a picture would."""
    return np.clip((images.reshape(len(images), -1).astype(np.float64) + 1.0) / 2.0, 0.0, 1.0)


def pairwise(a: Rows, b: Rows) -> Rows:
    """Euclidean distances (len(a), len(b)); below about 1e-7 of the rows' norms they are rounding noise."""
    squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2.0 * (a @ b.T)
    return np.sqrt(np.maximum(squared, 0.0))


def frechet_distance(a: Rows, b: Rows) -> float:
    """Squared Frechet distance of the Gaussians fitted to both sets.

    ``|mean_a - mean_b|^2 + tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2))`` with unbiased covariances A and B. Singular
    covariances (constant pixels) are fine. Biased upwards for finite sets: compare with the distance of two real sets
    of the same sizes. Source: Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500).
    """
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0.0)).sum()
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2.0 * cross)


def energy_distance(a: Rows, b: Rows) -> float:
    """Unbiased estimate of ``2 E|X - Y| - E|X - X'| - E|Y - Y'|``; zero in the mean for equal distributions.

    Pairs of an element with itself are left out, so single estimates can be negative. Source: Szekely and Rizzo 2013.
    """

    def within(rows: Rows) -> float:
        return float(pairwise(rows, rows)[~np.eye(len(rows), dtype=bool)].mean())

    return float(2.0 * pairwise(a, b).mean() - within(a) - within(b))


def nearest_distances(a: Rows, b: Rows) -> NDArray[np.float64]:
    """Distance of every row of ``a`` to its nearest row of ``b``: (len(a),)."""
    return pairwise(a, b).min(axis=1)


def nearest_indices(a: Rows, b: Rows) -> NDArray[np.int64]:
    """Index of the row of ``b`` nearest to every row of ``a``, the first of equals: (len(a),)."""
    return pairwise(a, b).argmin(axis=1)
