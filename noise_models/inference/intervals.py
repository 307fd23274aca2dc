"""Intervals by the block jackknife: delete one replicate block at a time, and see how far the statistic moves.

The block (a group of samples) is the unit of replication. Pixels, channels and steps of one sample depend on each other
and never count as replicates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from noise_models.inference.pooling import Array, BlockSums
from samplers.errors import BadInput

REASONS = (
    "defined",
    "fewer_than_2_blocks",
    "estimate_not_finite",
    "not_finite_without_a_block",
    "not_finite_in_a_resample",
    "every_operand_clipped",
)
"""Why an interval is NaN, by code."""


class Interval(NamedTuple):
    """A statistic and its uncertainty, arrays of one shape.

    Attributes:
        estimate: the statistic of all blocks, not corrected for its bias of order 1/blocks.
        standard_error: of the estimate, in its own unit.
        low: lower end.
        high: upper end; ends and standard error are NaN where ``reason`` is not 0.
        reason: int8 code into ``REASONS``.
    """

    estimate: Array
    standard_error: Array
    low: Array
    high: Array
    reason: NDArray[np.int8]


@dataclass(frozen=True)
class Scale:
    """The increasing transformation on which an interval is formed, as estimate +- t times standard error."""

    name: str
    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]


PLAIN = Scale("its own", lambda value: value, lambda value: value)
LOG = Scale("logarithmic", np.log, np.exp)
"""For positive quantities whose error is proportional to them: both ends stay positive."""
ARCTANH = Scale("arctanh", np.arctanh, np.tanh)
"""For correlations (Fisher's z): both ends stay within [-1, 1]."""


def jackknife(
    statistic: Callable[..., Array], *blocks: BlockSums, scale: Scale = PLAIN, confidence: float = 0.95
) -> Interval:
    """Interval of a smooth statistic of pooled moments.

    Args:
        statistic: of one :class:`~noise_models.inference.pooling.Pooled` per argument in ``blocks``. It must treat
            leading axes alike: it is called once on moments of shape (*dims) and once on (block, *dims).
        blocks: sums of one run, in one or several poolings of its channels.
        scale: where the interval is formed.
        confidence: nominal coverage, between 0 and 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = statistic(*(sums.total() for sums in blocks))
        replicates = statistic(*(sums.without_each() for sums in blocks))
    return from_replicates(estimate, replicates, blocks[0].shares, scale=scale, confidence=confidence)


def from_replicates(
    estimate: Array, replicates: Array, shares: Array, *, scale: Scale = PLAIN, confidence: float = 0.95
) -> Interval:
    """Interval from the delete-one values of a statistic, by Student's t with blocks - 1 degrees of freedom.

    Variance for blocks of unequal size m_j of n (Busing, Meijer and van der Leeden 1999, the delete-m_j jackknife):
    with h_j = n / m_j and pseudo-values u_j = h_j T - (h_j - 1) T_(j), the mean over j of (u_j - u)^2 / (h_j - 1),
    where u = blocks T - sum_j (1 - m_j / n) T_(j). For equal blocks it is the usual (B-1)/B sum (T_(j) - mean)^2.

    Args:
        estimate: T, of any shape.
        replicates: T without block j, (block, *shape).
        shares: m_j / n, (block,).
        scale: where the interval is formed.
        confidence: nominal coverage.

    Raises:
        BadInput: confidence outside (0, 1).
    """
    require_confidence(confidence)
    estimate = np.asarray(estimate, np.float64)
    count = len(shares)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scaled, scaled_replicates = scale.forward(estimate), scale.forward(replicates)
        reason = np.where(np.isfinite(scaled_replicates).all(0), 0, 3)
        reason = np.where(np.isfinite(scaled), reason, 2)
        if count < 2:
            reason = np.full_like(reason, 1)
        undefined = reason != 0
        error = np.where(undefined, np.nan, _standard_error(estimate, replicates, shares))
        half = student.ppf((1 + confidence) / 2, max(count - 1, 1)) * _standard_error(scaled, scaled_replicates, shares)
        low = np.where(undefined, np.nan, scale.inverse(scaled - half))
        high = np.where(undefined, np.nan, scale.inverse(scaled + half))
    return Interval(estimate, error, low, high, reason.astype(np.int8))


def require_confidence(confidence: float) -> None:
    """Refuse a nominal coverage outside (0, 1).

    Raises:
        BadInput: it is none.
    """
    if not 0 < confidence < 1:
        raise BadInput("confidence must lie between 0 and 1", got=confidence, fix="use 0.95")


def _standard_error(estimate: Array, replicates: Array, shares: Array) -> Array:
    share = shares.reshape(-1, *[1] * estimate.ndim)
    # Pseudo-values relative to T, so that T itself, which may be large against its error, cancels exactly.
    moved = replicates - estimate
    pseudo = -(1 / share - 1) * moved
    centre = -((1 - share) * moved).sum(0)
    return np.sqrt(((pseudo - centre) ** 2 / (1 / share - 1)).mean(0))
