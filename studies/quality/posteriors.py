"""The inception score: how sure a classifier is of each sample, and how varied its answers are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from noise_models.inference.intervals import LOG, Interval, from_replicates
from samplers.errors import BadInput
from studies.quality.gaussians import Array
from studies.quality.shuffling import Role, order

GROUPS = 50
"""Groups of the jackknife, cut after a fixed shuffling."""


def inception_score(posteriors: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """exp of the mean over samples of KL(p(y|x) || p(y)), p(y) the mean posterior: from 1 to the number of classes.

    One estimate over all samples, with a delete-one-group jackknife interval formed on the logarithmic scale. Biased
    upwards by about (classes - 1) / 2n on that scale at most, since p(y) is estimated. The habit of averaging over ten
    splits, each with more of that bias, is not followed; nor is the splits' spread an interval. Probabilities of 0
    count 0 (0 log 0 = 0). Source: Salimans et al. 2016 (arXiv:1606.03498).

    Args:
        posteriors: (n, classes), rows that sum to 1 within 1e-4, n at least ``2 GROUPS``.
        confidence: nominal coverage.

    Raises:
        BadInput: rows that are no distributions, or too few of them.
    """
    rows = require_posteriors(posteriors)
    return from_replicates(*_scores(rows), scale=LOG, confidence=confidence)


def inception_score_ratio(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Inception score of a divided by that of b, sample i of both drawn on the same noise; paired group by group.

    Raises:
        BadInput: as :func:`inception_score`, or sets of different shape.
    """
    first, second = require_posteriors(a), require_posteriors(b)
    if first.shape != second.shape:
        raise BadInput(
            "paired posteriors must have one shape", got=f"{first.shape} and {second.shape}", fix="pair them"
        )
    (x, replicates_x, shares), (y, replicates_y, _) = _scores(first), _scores(second)
    return from_replicates(x / y, replicates_x / replicates_y, shares, scale=LOG, confidence=confidence)


def require_posteriors(posteriors: ArrayLike) -> Array:
    """Posteriors, shuffled, as float64 rows that sum to 1.

    Raises:
        BadInput: not (n, classes) with enough rows, negative or not finite entries, or sums that are not 1.
    """
    rows = np.asarray(posteriors)
    rule = f"posteriors must be (n, classes), n at least {2 * GROUPS}, with rows that sum to 1"
    if rows.ndim != 2 or len(rows) < 2 * GROUPS or rows.dtype.kind != "f":
        raise BadInput(rule, got=f"{rows.dtype} {rows.shape}", fix="draw more samples")
    rows = rows.astype(np.float64)
    totals = rows.sum(1, keepdims=True)
    if not (rows >= 0).all() or not (abs(totals - 1.0) < 1e-4).all():
        raise BadInput(rule, got="negative entries, NaN, or other sums", fix="pass softmax outputs, not logits")
    return (rows / totals)[order(len(rows), Role.GENERATED)]


def _scores(rows: Array) -> tuple[Array, Array, Array]:
    """The score, the score without each group, and the groups' shares of the samples."""
    counts = np.array([len(rows[g::GROUPS]) for g in range(GROUPS)], np.float64)
    mass = np.stack([rows[g::GROUPS].sum(0) for g in range(GROUPS)])
    own = np.array([xlogy(part := rows[g::GROUPS], part).sum() for g in range(GROUPS)])
    n = counts.sum()

    def score(size: Array, total: Array, inner: Array) -> Array:
        mean = total / size[..., None]
        return np.exp(inner / size - xlogy(mean, mean).sum(-1))

    whole = score(n, mass.sum(0), own.sum())
    return whole, score(n - counts, mass.sum(0) - mass, own.sum() - own), counts / n
