"""Pooled moments of any set of blocks, and of all blocks but one, from the moments stored per block.

Central moments of different blocks do not add, since each is about its own mean. Sums about one common centre do: the
pooled set is their sum, and every delete-one set the sum of the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import comb

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from samplers.errors import BadInput

Array = NDArray[np.float64]
Order = tuple[int, int]
"""(p, q): powers of y and of e."""

STILL = 2.0**-40
"""A standard deviation below this share of the mean is the rounding of a constant (float32 data resolve 2^-24)."""

ROUNDING = 2.0**-46
"""Relative error of a sum over 64 blocks in float64."""


@dataclass(frozen=True)
class Pooled:
    """Joint moments of y and e over a set of elements, one set per entry.

    Args:
        count: number of elements.
        mean_y: mean of y.
        mean_e: mean of e.
        central: (p, q) -> mean of (y - mean_y)^p (e - mean_e)^q, for 2 <= p + q <= the order asked for.
    """

    count: Array
    mean_y: Array
    mean_e: Array
    central: Mapping[Order, Array]

    @property
    def power_y(self) -> Array:
        """Mean of y^2: a sum of two squares, hence without cancellation."""
        return self.central[2, 0] + self.mean_y**2

    @property
    def power_e(self) -> Array:
        """Mean of e^2."""
        return self.central[0, 2] + self.mean_e**2

    @property
    def variance_y(self) -> Array:
        """Variance of y, exactly 0 where y is constant up to rounding."""
        return _varying(self.central[2, 0], self.mean_y)

    @property
    def variance_e(self) -> Array:
        """Variance of e, exactly 0 where e is constant up to rounding."""
        return _varying(self.central[0, 2], self.mean_e)

    @property
    def covariance(self) -> Array:
        """Covariance of y and e."""
        return self.central[1, 1]


@dataclass(frozen=True)
class BlockSums:
    """Sums of (y - centre_y)^p (e - centre_e)^q per block, for every p + q up to ``order``.

    Args:
        dims: names of the kept dimensions, the shape of the centres.
        centre_y: the common centre, the pooled mean of y.
        centre_e: likewise of e.
        sums: (p, q) -> (block, *dims); (0, 0) is the number of elements.
    """

    dims: tuple[str, ...]
    centre_y: Array
    centre_e: Array
    sums: Mapping[Order, Array]

    @property
    def shares(self) -> Array:
        """(block,): each block's share of all elements; that of its samples, since samples are of equal size."""
        count = self.sums[0, 0]
        per_block = count.reshape(len(count), -1).sum(1)
        return per_block / per_block.sum()

    def each(self) -> Pooled:
        """Moments of every block by itself, shape (block, *dims)."""
        return self._pooled(self.sums)

    def total(self) -> Pooled:
        """Moments of all blocks together, shape ``dims``."""
        return self._pooled({order: sums.sum(0) for order, sums in self.sums.items()})

    def without_each(self) -> Pooled:
        """Moments of all blocks but one, shape (block, *dims)."""
        return self._pooled({order: sum_without_each(sums) for order, sums in self.sums.items()})

    def weighted(self, weights: Array) -> Pooled:
        """Moments of resamples, shape (resample, *dims), for weights (resample, block): how often a block counts."""
        return self._pooled({order: np.tensordot(weights, sums, 1) for order, sums in self.sums.items()})

    def expanded(self, dim: str) -> BlockSums:
        """The same sums with a last dimension of length 1."""
        sums = {order: values[..., None] for order, values in self.sums.items()}
        return BlockSums((*self.dims, dim), self.centre_y[..., None], self.centre_e[..., None], sums)

    def _pooled(self, sums: Mapping[Order, Array]) -> Pooled:
        count = sums[0, 0]
        with np.errstate(divide="ignore", invalid="ignore"):  # no element gives NaN
            raw = {order: value / count for order, value in sums.items()}
        shift_y, shift_e = raw[1, 0], raw[0, 1]
        central = {order: _shifted(raw, order, -shift_y, -shift_e) for order in raw if sum(order) >= 2}
        for order in ((2, 0), (0, 2)):
            central[order] = _beyond_rounding(central[order], raw[order])
        mean_y = _beyond_rounding(self.centre_y + shift_y, self.centre_y)
        mean_e = _beyond_rounding(self.centre_e + shift_e, self.centre_e)
        return Pooled(count, mean_y, mean_e, central)


def block_sums(moments: xr.DataArray, count: xr.DataArray, over: tuple[str, ...] = (), *, order: int = 2) -> BlockSums:
    """Additive sums per block about one centre per kept entry.

    The centre is the pooled mean, so that differences of large numbers never form: for mean >> std the result is as
    accurate as the stored means. Only a block whose own mean lies d standard deviations from all others costs the
    delete-one set of those others d^2 rounding errors.

    Args:
        moments: (..., block, moment), as stored in a run.
        count: elements behind each, dimensions among those of ``moments``.
        over: dimensions to pool besides the blocks.
        order: highest p + q to keep, 2 to 4.

    Raises:
        BadInput: a dimension is missing.
    """
    missing = {"block", "moment", *over} - set(moments.dims)
    if missing:
        raise BadInput(
            "moments must have the dimensions block, moment and those pooled over",
            got=f"{moments.dims}, without {', '.join(sorted(map(str, missing)))}",
            fix="pass a moment variable of a run",
        )
    kept = tuple(dim for dim in moments.dims if dim not in {"block", "moment", *over})
    layout: tuple[Hashable, ...] = ("block", *over, *kept)
    pooled_axes = tuple(range(1 + len(over)))

    def entry(name: str) -> Array:
        return moments.sel(moment=name, drop=True).transpose(*layout).to_numpy().astype(np.float64)

    elements = count.broadcast_like(moments.isel(moment=0, drop=True)).transpose(*layout).to_numpy().astype(np.float64)
    means = {"y": entry("mean_y"), "e": entry("mean_e")}
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = {v: (elements * mean).sum(pooled_axes) / elements.sum(pooled_axes) for v, mean in means.items()}
    orders = [(total - q, q) for total in range(order + 1) for q in range(total + 1)]
    own = {(p, q): entry("y" * p + "e" * q) for p, q in orders if p + q >= 2}
    own |= {(0, 0): np.ones_like(elements), (1, 0): np.zeros_like(elements), (0, 1): np.zeros_like(elements)}
    dy, de = means["y"] - centre["y"], means["e"] - centre["e"]
    sums = {at: (elements * _shifted(own, at, dy, de)).sum(pooled_axes[1:]) for at in orders}
    return BlockSums(tuple(map(str, kept)), centre["y"], centre["e"], sums)


def _shifted(moments: Mapping[Order, Array], order: Order, dy: Array, de: Array) -> Array:
    """Mean of (u + dy)^p (v + de)^q from the means of u^i v^j, by the binomial theorem."""
    p, q = order
    total: Array | float = 0.0
    for i in range(p, -1, -1):
        for j in range(q, -1, -1):
            term: Array | float = float(comb(p, i) * comb(q, j))
            for shift, power in ((dy, p - i), (de, q - j)):
                if power:  # a factor of ones costs as much as any other
                    term = term * shift**power
            total = total + term * moments[i, j]
    return np.asarray(total)


def sum_without_each(sums: Array) -> Array:
    """For each block, the sum over all others: those before plus those after, since total minus own would cancel."""
    before, after = np.zeros_like(sums), np.zeros_like(sums)
    np.cumsum(sums[:-1], axis=0, out=before[1:])
    after[:-1] = np.cumsum(sums[:0:-1], axis=0)[::-1]
    return before + after


def _beyond_rounding(difference: Array, size: Array) -> Array:
    """0 where a difference of numbers of this size is within their rounding: the only noisy block leaves no noise."""
    return np.where(np.abs(difference) <= ROUNDING * np.abs(size), 0.0, difference)


def _varying(variance: Array, mean: Array) -> Array:
    return np.where(variance <= (STILL * mean) ** 2, 0.0, variance)
