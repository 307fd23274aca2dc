"""Saturating sums in vector lanes: when lanes may stand for the register, and how they hold it.

A lane of 16 or 32 bits holds ``(register << shift) | tag``. The licence :func:`lanes_for` proves from the bounds of
the operands that a product, and a group of ``tree`` products, never leave their lane, so that each narrowing add is
that of the register. Saturated outputs are recognised in one of two ways.

Tag: with ``shift >= 2`` the lowest bits start as ``10..0``, and products never touch them. A saturation sets them to
the limit's own, ``11..1`` above and ``00..0`` below, and neither ever becomes ``10..0`` again.

Watch: where no bits are to spare, the exact sum ``t`` modulo the lane runs beside the register ``s``, and both are
compared after every ``run`` products. They are equal until the first saturation. Let it lose an excess upwards,
``s = high`` (downwards is its mirror image); an excess is at most its own product, ``p <= largest``.

- In the same run no excess goes the other way while ``(run - 1) largest < 2^bits``, the way from ``high`` to below
  ``low``.
- So the run's excess lies between 1 and ``run largest``, and differs from 0 modulo the lane while that is below the
  lane's 2^16 or 2^32.

Hence ``s != t`` at the end of the first run that saturates, whatever happens later. One add of a tree is such a run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.arithmetic.accumulator import Accumulator, Bias, Count
from simulator.arithmetic.kernels import saturate as kernels
from simulator.arithmetic.kernels.saturate_tile import columns_of


@dataclass(frozen=True)
class Lanes:
    """How lanes hold a saturating register.

    Attributes:
        dtype: int16 or int32.
        shift: bits below the register.
        clipped: whether limits lie inside the lane; else the lane's own saturation is the register's.
        watched: whether the exact sum runs beside the register.
        run: products between two comparisons; with a tree, its products.
    """

    dtype: np.dtype
    shift: int
    clipped: bool
    watched: bool
    run: int


def lanes_for(accumulator: Accumulator, largest: int, depth: int, count: Count) -> Lanes | None:
    """The fastest lanes for a saturating ``accumulator``, or None where nothing is proved.

    Args:
        accumulator: the machine, with SATURATE.
        largest: bound of every product's magnitude as it enters the register, and of each of its factors.
        depth: products of an output, at least 1.
        count: OUTPUTS or NONE.
    """
    bits, tree = accumulator.bits, min(accumulator.tree, depth)
    step, limit = largest * tree, 1 << (bits - 1)
    dtype: np.dtype
    if bits <= 16 and step << (16 - bits) < 1 << 15:
        dtype, shift, clipped = np.dtype(np.int16), 16 - bits, False
    elif bits <= 16 and step < 1 << 15:
        dtype, shift, clipped = np.dtype(np.int16), 2 if step << 2 < 1 << 15 else 0, True
    elif limit + step < 1 << 31:
        dtype, shift, clipped = np.dtype(np.int32), 2 if (limit + step) << 2 < 1 << 31 else 0, True
    else:
        return None
    watched = count is Count.OUTPUTS and shift < 2
    run = tree if tree > 1 else depth
    if watched and tree == 1:
        modulus = 1 << 8 * dtype.itemsize
        run = min(1 + ((1 << bits) - 1) // largest, (modulus - 1) // (largest << shift))
    return Lanes(dtype, shift, clipped, watched, run)


def saturating_sums(
    x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray, bias: np.ndarray, accumulator: Accumulator,
    lanes: Lanes,
) -> tuple[np.ndarray, int]:  # fmt: skip
    """Registers (rows, outputs) as int64, and how many saturated at least once (if counted).

    Args:
        x: codes (rows, depth); ``x - x_zero`` is what enters the products, so OUTSIDE passes 0.
        w: codes (outputs, depth), likewise with ``w_zero`` (outputs,).
        x_zero: zero point of ``x``.
        w_zero: zero points of ``w``.
        bias: int64 (outputs,).
        accumulator: the machine.
        lanes: licensed by :func:`lanes_for`.
    """
    outputs, depth = w.shape
    shift, columns = lanes.shift, columns_of(lanes.dtype)
    blocks = -(-outputs // columns)
    packed = np.empty((blocks, depth, columns), lanes.dtype)
    kernels.pack(_shifted(w, w_zero[:, None], lanes.dtype) << lanes.dtype.type(shift), packed)
    low, high = accumulator.smallest, accumulator.largest
    first = np.clip(bias, low, high) if accumulator.bias is Bias.FIRST else np.zeros_like(bias)
    start = np.zeros((blocks, columns), lanes.dtype)
    tag = 1 << (shift - 1) if shift > 1 else 0
    start[:] = tag
    start.reshape(-1)[:outputs] = (first << shift) | tag
    last = bias if accumulator.bias is Bias.LAST else np.zeros_like(bias)
    first_lost = ((first != bias) & (accumulator.bias is Bias.FIRST)).astype(np.int64)
    out = np.empty((len(x), outputs), np.int64)
    count = kernels.saturate(
        _shifted(x, np.asarray(x_zero), lanes.dtype), packed, accumulator.tree > 1 and depth > 1, lanes.watched,
        lanes.clipped, lanes.run, (low << shift, (high << shift) | ((1 << shift) - 1)), shift, start, (low, high),
        last, first_lost, out,
    )  # fmt: skip
    return out, int(count)


def _shifted(codes: np.ndarray, zero: np.ndarray, lane: np.dtype) -> np.ndarray:
    """``codes - zero`` in lanes, which hold it: modulo the lane's size no cast on the way matters."""
    moved = np.ascontiguousarray(codes).astype(lane)
    if zero.any():
        moved -= zero.astype(lane)
    return moved
