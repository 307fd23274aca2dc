"""Intervals of several statistics of the same blocks at once, by the jackknife or by the bootstrap.

Pooled moments of all blocks, of all but one, and of each resample are formed once and serve every statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from noise_models.inference.bootstrap import RESAMPLES, from_resamples, resample_weights
from noise_models.inference.intervals import PLAIN, Interval, Scale, from_replicates
from noise_models.inference.pooling import Array, BlockSums, sum_without_each
from samplers.validation import require_choice
from simulator.moments import block_count

METHODS = ("jackknife", "bootstrap")

_CHUNK = 2**21
"""Numbers per array that resamples are formed for at a time: 16 MB."""


@dataclass(frozen=True)
class Statistic:
    """A smooth function of pooled moments, and the scale on which its jackknife interval is formed.

    Args:
        of: takes one :class:`~noise_models.inference.pooling.Pooled` per pooling; must treat leading axes alike, since
            it is called on moments of shape (*dims) and (block, *dims).
        scale: of the jackknife; the bootstrap's interval needs none.
    """

    of: Callable[..., Array]
    scale: Scale = PLAIN


def intervals(
    statistics: Mapping[str, Statistic], *blocks: BlockSums, method: str = "jackknife", confidence: float = 0.95
) -> dict[str, Interval]:
    """One interval per statistic, all of the same blocks.

    Args:
        statistics: by name.
        blocks: sums of one run (or of several on the same samples), in one or several poolings.
        method: ``jackknife`` (``noise_models.inference.intervals``) or ``bootstrap`` (``.bootstrap``).
        confidence: nominal coverage, between 0 and 1.

    Raises:
        BadInput: unknown method, or confidence outside (0, 1).
    """
    require_choice("method", method, METHODS)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = [sums.total() for sums in blocks]
        others = [sums.without_each() for sums in blocks]
        estimates = {name: np.asarray(statistic.of(*total)) for name, statistic in statistics.items()}
        replicates = {name: np.asarray(statistic.of(*others)) for name, statistic in statistics.items()}
    shares = blocks[0].shares
    if method == "jackknife":
        return {
            name: from_replicates(estimates[name], replicates[name], shares, scale=one.scale, confidence=confidence)
            for name, one in statistics.items()
        }
    resampled = _resampled(statistics, blocks)
    return {
        name: from_resamples(estimates[name], resampled[name], replicates[name], confidence=confidence)
        for name in statistics
    }


def _resampled(statistics: Mapping[str, Statistic], blocks: tuple[BlockSums, ...]) -> dict[str, Array]:
    weights = resample_weights(len(blocks[0].shares), RESAMPLES)
    size = max(sums.centre_y.size for sums in blocks)
    step = max(1, _CHUNK // max(size, 1))
    parts: dict[str, list[Array]] = {name: [] for name in statistics}
    with np.errstate(divide="ignore", invalid="ignore"):
        for first in range(0, len(weights), step):
            pooled = [sums.weighted(weights[first : first + step]) for sums in blocks]
            for name, statistic in statistics.items():
                parts[name].append(np.asarray(statistic.of(*pooled)))
    return {name: np.concatenate(values) for name, values in parts.items()}


def interval_of_sums(
    statistic: Callable[..., Array], *sums: Array, scale: Scale = PLAIN, confidence: float = 0.95
) -> Interval:
    """Jackknife interval of a statistic of sums over samples.

    Args:
        statistic: of the summed arrays, treating leading axes alike.
        sums: one value per sample, (sample, *shape) each; sample i belongs to replicate block i mod 64.
        scale: where the interval is formed.
        confidence: nominal coverage.
    """
    samples = len(sums[0])
    block = np.arange(samples) % block_count(samples)
    sizes = np.bincount(block).astype(np.float64)
    by_block = []
    for values in sums:
        grouped = np.zeros((len(sizes), *values.shape[1:]))
        np.add.at(grouped, block, values)
        by_block.append(grouped)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = np.asarray(statistic(*(values.sum(0) for values in by_block)))
        replicates = np.asarray(statistic(*(sum_without_each(values) for values in by_block)))
    return from_replicates(estimate, replicates, sizes / samples, scale=scale, confidence=confidence)
