"""Joint moments of a signal y and its error e: the only thing a run keeps of its tensors.

A moment vector has 15 entries: ``count, mean_y, mean_e`` and the central sums ``sum (y-mean_y)^p (e-mean_e)^q`` for
2 <= p + q <= 4. Vectors of disjoint data merge exactly (Pebay, Formulas for robust one-pass parallel computation of
covariances and arbitrary-order statistical moments, 2008, here by the binomial shift of central sums). Merging is
deterministic but not associative in floating point, so everything is merged in index order.
"""

from __future__ import annotations

from math import comb

import numpy as np

from simulator.arithmetic.kernels import moments as kernels

ORDERS: tuple[tuple[int, int], ...] = tuple((total - q, q) for total in (2, 3, 4) for q in range(total + 1))
"""(p, q) of the central sums, in storage order."""

SIZE = 3 + len(ORDERS)
_INDEX = {order: 3 + i for i, order in enumerate(ORDERS)}

BLOCKS = 64
"""Replicate blocks of a run: sample i belongs to block i mod 64, whatever the batch."""


def moment_names() -> tuple[str, ...]:
    """Names of the stored entries after ``count``: ``mean_y``, ``mean_e``, then e.g. ``yye`` for p=2, q=1."""
    return ("mean_y", "mean_e", *("y" * p + "e" * q for p, q in ORDERS))


def block_count(samples: int) -> int:
    """Number of replicate blocks of a run with ``samples`` samples."""
    return min(samples, BLOCKS)


def row_moments(y: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Moment vectors of each row; e = other - y, formed in float64.

    Args:
        y: (rows, size), float32 or float64, C-contiguous.
        other: same shape and dtype.

    Returns:
        float64 (rows, 15).
    """
    out = np.empty((len(y), SIZE))
    kernels.row_sums(y, other, out)
    return out


def merge(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Moments of the union of two disjoint sets; any leading dimensions, an empty set has count 0."""
    count = left[..., 0] + right[..., 0]
    share = np.divide(right[..., 0], count, out=np.zeros_like(count), where=count > 0)
    means = left[..., 1:3] + (right[..., 1:3] - left[..., 1:3]) * share[..., None]
    merged = _central_sums_about(left, means) + _central_sums_about(right, means)
    merged[..., 0], merged[..., 1:3] = count, means
    return merged


def _central_sums_about(moments: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Sums of (y-c_y)^p (e-c_e)^q from the central ones, by the binomial theorem."""
    dy, de = moments[..., 1] - center[..., 0], moments[..., 2] - center[..., 1]
    out = np.zeros_like(moments)
    for (p, q), k in _INDEX.items():
        for i in range(p + 1):
            for j in range(q + 1):
                if i + j == 1:
                    continue  # the first central sums vanish
                sums = moments[..., 0] if i + j == 0 else moments[..., _INDEX[i, j]]
                out[..., k] += comb(p, i) * comb(q, j) * dy ** (p - i) * de ** (q - j) * sums
    return out


def merge_into_blocks(blocks: np.ndarray, rows: np.ndarray, samples: np.ndarray) -> None:
    """Merge per-sample vectors into their blocks, in sample order.

    Args:
        blocks: (block, 15), updated in place.
        rows: (sample, 15) of the samples with indices ``samples``.
        samples: their indices in the whole run.
    """
    count = len(blocks)
    for start in range(0, len(samples), count):
        members = samples[start : start + count] % count  # distinct, since the indices are consecutive
        known, new = blocks[members], rows[start : start + count]
        # most runs have one sample per block: nothing to merge with yet
        blocks[members] = merge(known, new) if known[..., 0].any() else new
