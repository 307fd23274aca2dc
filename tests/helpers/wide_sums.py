"""Limited accumulators over many problems at once: one loop over the products, int64 everywhere, no engine code.

A product is a pair ``(a, b)``: codes (problems, rows) and (problems, outputs), outer-multiplied. Codes have at most 16
bits and there are at most 2**12 products, so every partial sum is below 2**46 and int64 stands for unbounded integers.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from simulator.arithmetic.accumulator import Accumulator, Bias, KOrder, Overflow, ZeroPoint
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing


class Sums(NamedTuple):
    """Values (problems, rows, outputs); whether each lost something, and at how many narrowing adds."""

    values: np.ndarray
    overflowed: np.ndarray
    steps: np.ndarray


def narrowed(value: np.ndarray, machine: Accumulator) -> np.ndarray:
    """What a register of at most 62 bits holds of int64 numbers (a wider one loses nothing here)."""
    if machine.overflow is Overflow.EXACT or machine.bits > 62:
        return value
    low, size = -(2 ** (machine.bits - 1)), 2**machine.bits
    if machine.overflow is Overflow.SATURATE:
        return np.clip(value, low, low + size - 1)
    return np.mod(value - low, size) + low


def accumulate(adds, machine, x_zero, w_zero, bias) -> Sums:
    """The register after the last add.

    Args:
        adds: lists of products; the products of one list are summed exactly before one narrowing add.
        machine: Accumulator, or PairAccumulator.
        x_zero: (problems,).
        w_zero: (problems, outputs).
        bias: likewise.
    """
    adds = [[(a.astype(np.int64), b.astype(np.int64)) for a, b in add] for add in adds]
    everything = [pair for add in adds for pair in add]
    assert len(everything) <= 2**12
    paired = isinstance(machine, PairAccumulator)
    inside = not paired and machine.zero_point is ZeroPoint.INSIDE
    zx, zw, bias = x_zero[:, None], w_zero, bias[:, None, :]
    start = np.zeros((len(bias), everything[0][0].shape[1], bias.shape[2]), np.int64)
    register, exact, lost = start.copy(), start.copy(), start.copy()

    def add(value):
        nonlocal register, exact, lost
        exact = exact + value
        after = narrowed(register + value, machine)
        lost += after != register + value
        register = after

    if not paired and machine.bias is Bias.FIRST:
        add(bias)
    for products in adds:
        total = np.zeros_like(start)
        for a, b in products:
            left, right = (a - zx, b - zw) if inside else (a, b)
            total += left[:, :, None] * right[:, None, :]
        if paired:
            clipped = np.clip(total, -(2**15), 2**15 - 1)
            lost += clipped != total
            register = register + clipped
        else:
            add(total)
    if paired:
        register = register + bias
    elif machine.bias is Bias.LAST:
        add(bias)
    wrapping = not paired and machine.overflow is Overflow.WRAP
    overflowed = register != exact if wrapping else lost > 0
    if not inside:
        for a, b in everything:
            register = register + (zx * zw - zx * b)[:, None, :] - a[:, :, None] * zw[:, None, :]
    return Sums(register, overflowed, lost)


def matmul_adds(x: np.ndarray, w: np.ndarray, machine) -> list:
    """x (problems, rows, depth) and w (problems, outputs, depth) as adds."""
    products = [(x[:, :, k], w[:, :, k]) for k in range(x.shape[-1])]
    return chunks(products, 2 if isinstance(machine, PairAccumulator) else machine.tree)


def chunks(products: list, size: int) -> list:
    return [products[first : first + size] for first in range(0, len(products), size)]


def ordered(taps: list, machine) -> list:
    """``taps[position][channel]``, products of one channel group, as adds in the machine's order."""
    channels = range(len(taps[0]))
    if isinstance(machine, PairAccumulator):
        if machine.pairing is Pairing.CHANNELS:
            return [pair for tap in taps for pair in chunks(tap, 2)]
        return [pair for c in channels for pair in chunks([tap[c] for tap in taps], 2)]
    if machine.k_order is KOrder.ROW_COLUMN_CHANNEL:
        return chunks([one for tap in taps for one in tap], machine.tree)
    return chunks([tap[c] for c in channels for tap in taps], machine.tree)


def convolution(x, w, machine, geometry: Geometry, x_zero, w_zero, bias) -> Sums:
    """x (problems, batch, spatial..., channel), w (problems, outputs, channels per group, spatial...)."""
    size = [
        (n + sum(pads) - d * (k - 1) - 1) // s + 1
        for n, pads, k, d, s in zip(
            x.shape[2:-1], geometry.padding, w.shape[3:], geometry.dilation, geometry.stride, strict=True
        )
    ]

    def sources(tap):
        return [
            np.arange(length) * s + t * d - before
            for t, d, s, (before, _), length in zip(
                tap, geometry.dilation, geometry.stride, geometry.padding, size, strict=True
            )
        ]

    return _taps(x, w, sources, machine, geometry.groups, x_zero, w_zero, bias)


def transposed(x, w, machine, geometry: Geometry, extra, x_zero, w_zero, bias) -> Sums:
    """Output o of a tap t comes from the pixel i with ``i stride = o + padding - t dilation``, if there is one.

    w (problems, channels, outputs per group, spatial...); taps in the order of the flipped kernel.
    """
    size = [
        (n - 1) * s - sum(pads) + d * (k - 1) + e + 1
        for n, s, pads, d, k, e in zip(
            x.shape[2:-1], geometry.stride, geometry.padding, geometry.dilation, w.shape[3:], extra, strict=True
        )
    ]
    flipped = w[(..., *(slice(None, None, -1) for _ in size))]
    parts = np.split(flipped, geometry.groups, axis=1)
    kernel = np.concatenate([np.swapaxes(part, 1, 2) for part in parts], axis=1)

    def sources(tap):
        found = []
        for t, k, d, s, (before, _), length in zip(
            tap, w.shape[3:], geometry.dilation, geometry.stride, geometry.padding, size, strict=True
        ):
            place = np.arange(length) + before - (k - 1 - t) * d
            found.append(np.where(place % s == 0, place // s, -1))
        return found

    return _taps(x, kernel, sources, machine, geometry.groups, x_zero, w_zero, bias)


def _taps(x, w, sources, machine, groups, x_zero, w_zero, bias) -> Sums:
    """``sources(tap)`` names the pixel along each axis that an output sees; outside the image is ``x_zero``."""
    problems, _, *size, _ = x.shape
    outputs, channels = w.shape[1:3]
    share = outputs // groups
    found = []
    for g in range(groups):
        mine = slice(g * share, (g + 1) * share)
        taps = []
        for tap in product(*map(range, w.shape[3:])):
            places = np.ix_(*sources(tap))
            inside = np.ones(np.broadcast_shapes(*(p.shape for p in places)), bool)
            for place, length in zip(places, size, strict=True):
                inside = inside & (place >= 0) & (place < length)
            clipped = tuple(np.clip(p, 0, n - 1) for p, n in zip(places, size, strict=True))
            tap_products = []
            for c in range(channels):
                seen = x[..., g * channels + c].astype(np.int64)[(slice(None), slice(None), *clipped)]
                seen = np.where(inside, seen, x_zero.reshape(-1, *(1,) * (seen.ndim - 1)))
                tap_products.append((seen.reshape(problems, -1), w[(slice(None), mine, c, *tap)]))
            taps.append(tap_products)
        found.append(accumulate(ordered(taps, machine), machine, x_zero, w_zero[:, mine], bias[:, mine]))
    return Sums(*(np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True)))
