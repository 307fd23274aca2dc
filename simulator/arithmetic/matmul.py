"""Integer matmul through a stated accumulator: integer codes in, integer sums out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Count, ZeroPoint
from simulator.arithmetic.arguments import require_integer, require_integers, require_kind, require_shape
from simulator.arithmetic.exact import exact_matmul, require_code_array
from simulator.arithmetic.pair_accumulator import PairAccumulator, pair_sums, require_pairs
from simulator.arithmetic.register import are_codes, register_sums


@dataclass(frozen=True)
class Accumulated:
    """Integer sums and what the register did to them.

    Attributes:
        values: int64, or int32 where the operands or the register prove that it fits (matrices only).
        overflowed: what ``count`` asked for, None for Count.NONE.
    """

    values: np.ndarray
    overflowed: int | None


def integer_matmul(
    x: np.ndarray,
    w: np.ndarray,
    accumulator: Accumulator | PairAccumulator,
    *,
    x_zero: int = 0,
    w_zero: np.ndarray | int = 0,
    bias: np.ndarray | None = None,
    count: Count = Count.OUTPUTS,
) -> Accumulated:
    """``sum_k (x_mk - x_zero)(w_nk - w_zero_n) + bias_n`` in the accumulator.

    Args:
        x: integer codes (batch..., rows, depth), at most 16 bits.
        w: integer codes (batch..., outputs, depth), at most 16 bits; the leading axes of both are broadcast.
        accumulator: the machine; a PairAccumulator takes uint8 ``x`` and int8 ``w`` only.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``, or one per output.
        bias: integers (outputs,), or None.
        count: what is counted of the register's losses. STEPS runs the general kernel.

    Returns:
        Values (batch..., rows, outputs). The EXACT accumulator gives the mathematical integer.

    Raises:
        BadInput: wrong dtypes or shapes, or a sum that could exceed int64.
    """
    require_machine(accumulator, count)
    _check_operands(x, w)
    x_zero, w_zero = require_integer("x_zero", x_zero), require_zero_points(w_zero, w.shape[-2])
    leading = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
    if w.ndim == 2:
        rows = x.reshape(prod(x.shape[:-1]), x.shape[-1])
        found = multiply_rows(rows, w, accumulator, x_zero, w_zero, bias, count, rows.shape[1])
        return replace(found, values=found.values.reshape(*x.shape[:-1], len(w)))
    batches = prod(leading)
    left, right = (np.broadcast_to(a, (*leading, *a.shape[-2:])).reshape(batches, *a.shape[-2:]) for a in (x, w))
    if accumulator == Accumulator() and left.size and right.size and are_codes(left, right, x_zero, w_zero):
        offset = check_bias(bias, w.shape[-2])
        require_int64(left, right, x_zero, w_zero, offset, left.shape[-1])
        left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
        sums = exact_matmul(left, right, x_zero, w_zero) + offset  # of all batches in one call
        return Accumulated(sums.reshape(*leading, *sums.shape[1:]), None if count is Count.NONE else 0)
    parts = [
        multiply_rows(a, b, accumulator, x_zero, w_zero, bias, count, a.shape[1])
        for a, b in zip(left, right, strict=True)
    ]
    values = np.array([part.values for part in parts], np.int64).reshape(*leading, x.shape[-2], w.shape[-2])
    lost = None if count is Count.NONE else sum(part.overflowed or 0 for part in parts)
    return Accumulated(values, lost)


def multiply_rows(
    x: np.ndarray, w: np.ndarray, accumulator: Accumulator | PairAccumulator, x_zero: int,
    w_zero: np.ndarray | int, bias: np.ndarray | None, count: Count, depth: int,
) -> Accumulated:  # fmt: skip
    """:func:`integer_matmul` of operands (rows, k) and (outputs, k) with ``depth`` products, zeros beyond them."""
    zeros = np.broadcast_to(np.asarray(w_zero, np.int64), (len(w),))
    offset = check_bias(bias, len(w))
    require_int64(x, w, x_zero, zeros, offset, x.shape[1])
    if isinstance(accumulator, PairAccumulator):
        require_pairs(x, w)
        values, lost = pair_sums(x, w, count)
        values += offset
        inside = False
    else:
        inside = accumulator.zero_point is ZeroPoint.INSIDE
        entering = (x_zero, zeros) if inside else (0, np.zeros_like(zeros))
        left, right = np.ascontiguousarray(x), np.ascontiguousarray(w)
        values, lost = register_sums(left, right, *entering, offset, accumulator, count)
    if not inside and (x_zero or zeros.any()):
        values = values.astype(np.int64)
        _subtract_zero_points(values, x, w, x_zero, zeros, depth)
    return Accumulated(values, None if count is Count.NONE else lost)


def _subtract_zero_points(
    values: np.ndarray, x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray, depth: int
) -> None:
    """Add ``depth zx zw_n - zx sum_k w_nk - zw_n sum_k x_mk`` in place."""
    values += depth * x_zero * w_zero - x_zero * w.sum(axis=1, dtype=np.int64)
    if w_zero.any():
        values -= np.multiply.outer(x.sum(axis=1, dtype=np.int64), w_zero)


def _check_operands(x: np.ndarray, w: np.ndarray) -> None:
    for name, codes in (("x", x), ("w", w)):
        require_code_array(name, codes)
    pairs = zip(x.shape[-3::-1], w.shape[-3::-1], strict=False)
    if min(x.ndim, w.ndim) < 2 or x.shape[-1] != w.shape[-1] or any(m != n and 1 not in (m, n) for m, n in pairs):
        raise BadInput(
            "x must be (batch..., rows, depth) and w (batch..., outputs, depth)",
            got=f"{x.shape} and {w.shape}",
            fix="transpose w",
        )


def require_machine(accumulator: Accumulator | PairAccumulator, count: Count) -> None:
    """Raise BadInput for another type than an accumulator and what to count."""
    require_kind("accumulator", accumulator, (Accumulator, PairAccumulator))
    require_kind("count", count, Count)


def require_zero_points(w_zero: np.ndarray | int, outputs: int) -> np.ndarray:
    """One zero point per output as int64, () if they are all one.

    Raises:
        BadInput: no integers, or another number of them.
    """
    if not isinstance(w_zero, np.ndarray):
        return np.asarray(require_integer("w_zero", w_zero), np.int64)
    zeros = require_integers("w_zero", w_zero)
    if zeros.ndim:
        require_shape("w_zero", zeros, (outputs,))
    return zeros


def check_bias(bias: np.ndarray | None, outputs: int) -> np.ndarray:
    """The bias as int64 (outputs,), zeros for None.

    Raises:
        BadInput: no integers, or another number of them.
    """
    if bias is None:
        return np.zeros(outputs, np.int64)
    offset = require_integers("bias", bias)
    require_shape("bias", offset, (outputs,))
    return offset


def require_int64(x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray, bias: np.ndarray, depth: int) -> None:
    """Every partial sum of either form fits int64: from the dtypes' ranges, not from the data."""

    def largest(codes: np.ndarray, zero: int) -> int:
        info = np.iinfo(codes.dtype)
        return max(abs(int(info.max)), abs(int(info.min))) + abs(int(zero))

    zero = max((abs(int(z)) for z in w_zero.reshape(-1)), default=0)
    bound = depth * largest(x, x_zero) * largest(w, zero) + max((abs(int(b)) for b in bias), default=0)
    if bound >= 2**62:
        raise BadInput("a sum must provably fit int64", got=f"up to {bound}", fix="split the contraction")
