"""Samples are added until an SQNR is certain enough: powers per sample, their ratio, and the loop.

One rule serves measurement and prediction: schemes whose SQNR is not yet as certain as asked for are sampled again,
with the next seed, and no scheme takes more than allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from noise_models.inference.intervals import Interval, from_replicates
from noise_models.inference.pooling import Array, sum_without_each
from simulator.moments import BLOCKS

CHUNK = 1024
"""Samples that are added at a time."""

Powers = np.ndarray
"""(2, sample): mean square of the reference and of its error, over the elements of each final sample."""

NONE: Powers = np.empty((2, 0))
"""Of no samples."""

Drawn = Callable[[Sequence[int], int, int], Sequence[Powers]]
"""Called with (indices of schemes, samples, number of the chunk): the powers of each of these schemes."""


def until_certain(have: Sequence[Powers], draw: Drawn, *, standard_error: float, most_samples: int) -> list[Powers]:
    """Powers of every scheme with as many samples added as it takes, in whole chunks.

    Args:
        have: what there is already, of no samples at first.
        draw: makes a chunk; the first has number 0, and what was drawn earlier counts.
        standard_error: in dB, at which a scheme needs no more.
        most_samples: where to stop in any case.
    """
    found = list(have)

    def wants_more(powers: Powers) -> bool:
        count = powers.shape[1]
        return not count or (count < most_samples and bool(ratio_db(powers).standard_error > standard_error))

    while open_ := [index for index, powers in enumerate(found) if wants_more(powers)]:
        least = min(found[index].shape[1] for index in open_)
        next_ = [index for index in open_ if found[index].shape[1] == least]
        for index, powers in zip(next_, draw(next_, min(CHUNK, most_samples), -(-least // CHUNK)), strict=True):
            found[index] = np.concatenate([found[index], powers], 1)
    return found


def final_powers(dataset: xr.Dataset, variable: str) -> Powers:
    """Of the last step, from moments per sample."""
    moments = dataset[variable].isel(step=-1)
    return np.stack(
        [
            (moments.sel(moment=square) + moments.sel(moment=mean) ** 2).mean("channel").values
            for mean, square in (("mean_y", "yy"), ("mean_e", "ee"))
        ]
    )


def ratio_db(powers: Powers) -> Interval:
    """Pooled SQNR, 10 log10(sum y^2 / sum e^2), with its block jackknife; sample i is in block i mod 64."""
    return _over_blocks(powers, _db)


def change_db(powers: Powers, other: Powers) -> Interval:
    """SQNR of ``powers`` minus that of ``other`` in dB, both of the same samples, with its block jackknife."""
    return _over_blocks(np.concatenate([powers, other]), lambda sums: _db(sums[..., :2]) - _db(sums[..., 2:]))


def _over_blocks(powers: np.ndarray, statistic: Callable[[Array], Array]) -> Interval:
    block = np.arange(powers.shape[1]) % BLOCKS
    sums = np.zeros((BLOCKS, len(powers)))
    np.add.at(sums, block, powers.T)
    sizes = np.bincount(block)
    return from_replicates(statistic(sums.sum(0)), statistic(sum_without_each(sums)), sizes / sizes.sum())


def _db(pair: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(pair[..., 0] / pair[..., 1]))
