"""The kernel distance (KID): an unbiased squared maximum mean discrepancy, with an interval.

k(a, b) = (a . b / d + 1)^3 for features of dimension d (Binkowski et al. 2018, arXiv:1801.01401). For m samples x and n
samples y the estimate

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

has the squared discrepancy as its mean, 0 for equal distributions, and is often negative there. It is computed in
``BLOCKS`` disjoint blocks of both sets, whose mean is the value and whose spread gives the interval, by Student's t
with BLOCKS - 1 degrees of freedom: the blocks' values are independent and unbiased whatever the distributions. Over
all samples at once the estimate is up to sqrt(BLOCKS) times more precise near 0; but between 0 and distances far from
it it is skewed and its variance estimate goes with it, so that the normal interval around it covered 88 % of nominal
95 %, the blocks' 94 % (mixture of ten clusters in 16 dimensions, 320 samples of each, 2026-11-21).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from samplers.errors import BadInput
from studies.quality.gaussians import Array, require_pair
from studies.quality.shuffling import Role, order

BLOCKS = 10
"""Disjoint blocks, cut after a fixed shuffling (``shuffling.order``): samples on shared noise share their block."""

LEAST = 20 * BLOCKS
"""Samples of a set below which no value is given: the interval's coverage was not tested there."""


class KernelDistance(NamedTuple):
    """A KID, or a difference of two, and its interval.

    Attributes:
        estimate: unbiased; may be negative.
        standard_error: from the spread of the blocks.
        low: lower end.
        high: upper end.
        x_samples: samples of the first set.
        y_samples: samples of the reference.
    """

    estimate: float
    standard_error: float
    low: float
    high: float
    x_samples: int
    y_samples: int


def kernel_distance(x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95) -> KernelDistance:
    """KID of two independent sets of features.

    Args:
        x: (m, d), at least ``LEAST`` rows.
        y: (n, d), as many or not.
        confidence: nominal coverage.

    Raises:
        BadInput: too few samples, features that are none, or confidence outside (0, 1).
    """
    a, b = _shuffled(x, y)
    return _over_blocks(np.array([_discrepancy(a[i::BLOCKS], b[i::BLOCKS]) for i in range(BLOCKS)]), a, b, confidence)


def kernel_distance_difference(
    x: ArrayLike, baseline: ArrayLike, y: ArrayLike, *, confidence: float = 0.95
) -> KernelDistance:
    """KID(x, y) - KID(baseline, y), where sample i of x and of the baseline were drawn on the same noise.

    Block by block, so that what the two share cancels. For equal sets the difference and its standard error are 0.

    Raises:
        BadInput: as :func:`kernel_distance`, or x and baseline of different shapes.
    """
    if np.shape(x) != np.shape(baseline):
        raise BadInput(
            "paired sets must have one shape",
            got=f"{np.shape(x)} and {np.shape(baseline)}",
            fix="pair their samples",
        )
    a, b = _shuffled(x, y)
    c, _ = _shuffled(baseline, y)
    found = [_discrepancy(a[i::BLOCKS], b[i::BLOCKS]) - _discrepancy(c[i::BLOCKS], b[i::BLOCKS]) for i in range(BLOCKS)]
    return _over_blocks(np.array(found), a, b, confidence)


def squared_discrepancy(x: ArrayLike, y: ArrayLike) -> float:
    """The unbiased estimate over all samples at once, without an interval; at least two of each.

    Raises:
        BadInput: features that are none, or fewer than two.
    """
    return _discrepancy(*require_pair(x, y))


def _discrepancy(x: Array, y: Array) -> float:
    def kernel(a: Array, b: Array) -> Array:
        inner = a @ b.T / a.shape[1] + 1.0
        return inner * inner * inner

    def within(a: Array) -> float:
        values = kernel(a, a)
        return float((values.sum() - np.trace(values)) / (len(a) * (len(a) - 1)))

    return within(x) + within(y) - 2.0 * float(kernel(x, y).mean())


def _shuffled(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    a, b = require_pair(x, y, least=LEAST)
    return a[order(len(a), Role.GENERATED)], b[order(len(b), Role.REFERENCE)]


def _over_blocks(found: Array, x: Array, y: Array, confidence: float) -> KernelDistance:
    if not 0 < confidence < 1:
        raise BadInput("confidence must lie between 0 and 1", got=confidence, fix="use 0.95")
    estimate, error = float(found.mean()), float(found.std(ddof=1) / BLOCKS**0.5)
    half = float(student.ppf((1 + confidence) / 2, BLOCKS - 1)) * error
    return KernelDistance(estimate, error, estimate - half, estimate + half, len(x), len(y))
