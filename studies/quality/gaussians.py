"""Gaussians fitted to features, and the Fréchet distance between two of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samplers.errors import BadInput

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Mean, covariance and a root of it, of one set of features or of many (leading axes).

    Args:
        mean: (..., d) float64.
        root: (..., d, d) float64, R with covariance = R^T R.
    """

    mean: Array
    root: Array

    @classmethod
    def of_moments(cls, mean: ArrayLike, covariance: ArrayLike) -> Gaussians:
        """From mean (..., d) and symmetric covariance (..., d, d).

        The root is diag(sqrt(max(value, 0))) V^T of one symmetric eigen-decomposition: it exists for singular
        covariances, and rounding can only make eigenvalues of 0 negative, which are 0 then.
        """
        values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
        root = np.sqrt(np.maximum(values, 0.0))[..., :, None] * np.swapaxes(vectors, -1, -2)
        return cls(np.asarray(mean, np.float64), root)

    @classmethod
    def of_features(cls, features: ArrayLike) -> Gaussians:
        """From features (n, d): sample mean and unbiased covariance."""
        rows = np.asarray(features, np.float64)
        mean = rows.mean(0)
        centred = rows - mean
        return cls.of_moments(mean, centred.T @ centred / (len(rows) - 1))


def frechet(a: Gaussians, b: Gaussians) -> Array:
    """Squared Fréchet (2-Wasserstein) distance of Gaussians: |m_a - m_b|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2.

    With A = R_a^T R_a and B = R_b^T R_b the last trace is the sum of the singular values of R_a R_b^T. So no product
    of covariances is formed, whose square root would lose half of the digits of small eigenvalues and turn complex:
    for equal sets the value is 0 to about d 1e-16 of the traces, where a square root of A B leaves d 1e-8. Leading
    axes broadcast; the result is at least 0. Source: Dowson and Landau 1982; Heusel et al. 2017 (arXiv:1706.08500).
    """
    shift = ((a.mean - b.mean) ** 2).sum(-1)
    traces = (a.root**2).sum((-1, -2)) + (b.root**2).sum((-1, -2))
    cross = np.linalg.svd(a.root @ np.swapaxes(b.root, -1, -2), compute_uv=False).sum(-1)
    return np.maximum(shift + traces - 2.0 * cross, 0.0)


def require_features(name: str, features: ArrayLike, *, least: int = 2) -> Array:
    """Features as (n, d) float64.

    Raises:
        BadInput: not two-dimensional, fewer rows than ``least``, no columns, or entries that are not finite.
    """
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not rows.shape[1]:
        raise BadInput(f"{name} must be real features (n, d)", got=f"{rows.dtype} {rows.shape}", fix="flatten each")
    if len(rows) < least:
        raise BadInput(f"{name} must hold at least {least} samples", got=len(rows), fix="draw more")
    if not np.isfinite(rows).all():
        raise BadInput(f"{name} must be finite", got="NaN or infinity", fix="look for samples that diverged")
    return rows.astype(np.float64)


def require_pair(x: ArrayLike, y: ArrayLike, *, least: int = 2) -> tuple[Array, Array]:
    """Two sets of features of one dimension.

    Raises:
        BadInput: as :func:`require_features`, or dimensions that differ.
    """
    a, b = require_features("x", x, least=least), require_features("y", y, least=least)
    if a.shape[1] != b.shape[1]:
        raise BadInput(
            "both sets must have features of one dimension", got=f"{a.shape[1]} and {b.shape[1]}", fix="use one scale"
        )
    return a, b
