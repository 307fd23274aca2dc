"""Distances of distributions that are known, or whose densities are: no features, no bias.

For subjects with a known final distribution. In one dimension and between Gaussians there are closed forms; elsewhere a
divergence is a mean of log densities, with its standard error.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from noise_models.intervals import Interval
from samplers.errors import BadInput
from studies.quality.gaussians import Array, Gaussians, frechet


def gaussian_wasserstein(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """2-Wasserstein distance of N(mean_a, cov_a) and N(mean_b, cov_b), the root of ``gaussians.frechet``.

    Raises:
        BadInput: means (d,) and covariances (d, d) that do not fit, are not finite, symmetric or positive semidefinite.
    """
    (m, a), (n, b) = _moments("a", mean_a, cov_a), _moments("b", mean_b, cov_b)
    _same(m, n)
    return float(np.sqrt(frechet(Gaussians.of_moments(m, a), Gaussians.of_moments(n, b))))


def gaussian_divergence(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """Kullback-Leibler divergence KL(N(mean_a, cov_a) || N(mean_b, cov_b)) in nats.

    (tr(B^-1 A) + (m_b - m_a)^T B^-1 (m_b - m_a) - d + ln det B - ln det A) / 2, by Cholesky factors of both.

    Raises:
        BadInput: as :func:`gaussian_wasserstein`, or a singular covariance (infinite or undefined).
    """
    (m, a), (n, b) = _moments("a", mean_a, cov_a), _moments("b", mean_b, cov_b)
    _same(m, n)
    try:
        root_a, root_b = np.linalg.cholesky(a), np.linalg.cholesky(b)
    except np.linalg.LinAlgError as error:
        raise BadInput(
            "a divergence of Gaussians needs positive definite covariances", got=str(error), fix="drop null directions"
        ) from error
    whitened, shift = np.linalg.solve(root_b, root_a), np.linalg.solve(root_b, n - m)
    logs = 2.0 * float(np.log(np.diagonal(root_b)).sum() - np.log(np.diagonal(root_a)).sum())
    return 0.5 * (float((whitened**2).sum() + shift @ shift) - len(m) + logs)


def divergence(log_p: ArrayLike, log_q: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """KL(p || q) in nats from the log densities of both at independent samples of p: the mean of log p - log q.

    Args:
        log_p: (n,) at samples of p, n at least 30.
        log_q: (n,) at the same samples. -inf anywhere makes the divergence infinite, and its interval NaN.
        confidence: of the interval, by Student's t.

    Raises:
        BadInput: shapes that differ, too few samples, NaN, or infinities but -inf in log_q.
    """
    p, q = np.asarray(log_p, np.float64), np.asarray(log_q, np.float64)
    if p.ndim != 1 or p.shape != q.shape or len(p) < 30:
        raise BadInput("log densities must be two (n,), n at least 30", got=f"{p.shape} and {q.shape}", fix="draw more")
    if not np.isfinite(p).all() or np.isnan(q).any() or (q == np.inf).any():
        raise BadInput("log densities must be finite, but for -inf of q", got="others", fix="check the densities")
    gain = p - q
    estimate, n = np.asarray(gain.mean()), len(p)
    if not np.isfinite(estimate):
        nan = np.asarray(np.nan)
        return Interval(estimate, nan, nan, nan, np.asarray(2, np.int8))
    error = gain.std(ddof=1) / math.sqrt(n)
    half = student.ppf((1 + confidence) / 2, n - 1) * error
    return Interval(estimate, np.asarray(error), estimate - half, estimate + half, np.asarray(0, np.int8))


def _moments(name: str, mean: ArrayLike, covariance: ArrayLike) -> tuple[Array, Array]:
    m, c = np.atleast_1d(np.asarray(mean, np.float64)), np.atleast_2d(np.asarray(covariance, np.float64))
    rule = f"mean_{name} must be (d,) and cov_{name} (d, d), finite, symmetric and positive semidefinite"
    if m.ndim != 1 or c.shape != (len(m), len(m)) or not (np.isfinite(m).all() and np.isfinite(c).all()):
        raise BadInput(rule, got=f"{m.shape} and {c.shape}", fix="pass moments of one distribution")
    scale = float(np.abs(c).max())
    if not np.allclose(c, c.T, rtol=0, atol=1e-12 * scale) or np.linalg.eigvalsh(c).min() < -1e-10 * scale:
        raise BadInput(rule, got="no such matrix", fix="pass a covariance")
    return m, c


def _same(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    if a.shape != b.shape:
        raise BadInput("both must have one dimension", got=f"{len(a)} and {len(b)}", fix="compare like with like")
