"""Spearman-guided salience: steps at which activations and weights are large in different channels count most.

``s_rho(X)_j = sum_t w_t s(X^t)_j`` with ``w = softmax_t(-rho_t)`` and ``rho_t`` Spearman's rank correlation of the
channels' ``s(X^t)`` and ``s(W)``. Source: PTQ4DiT (Wu et al. 2024, arXiv:2405.16005), SSC.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata


def spearman(activations: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rank correlation over the channels, ties by mean ranks; 0 where either is constant.

    Args:
        activations: (points, channels).
        weight: (channels,).

    Returns:
        float64 (points,), -1 to 1.
    """
    ranks, other = rankdata(activations, axis=1), rankdata(weight)
    ranks, other = ranks - ranks.mean(1, keepdims=True), other - other.mean()
    size = np.sqrt((ranks**2).sum(1) * (other**2).sum())
    return np.divide(ranks @ other, size, out=np.zeros(len(ranks)), where=size > 0)


def spearman_weights(activations: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``softmax(-rho)`` over the points: float64 (points,), positive, of sum 1."""
    return softmax(-spearman(activations, weight))
