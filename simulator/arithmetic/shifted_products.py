"""Products with log-sqrt2 codes: sums of shifted integers, exact, rounded once.

A value ``2^(-ceil(q/2)) delta`` (q even) or ``2^(-ceil(q/2)) sqrt2 delta`` (q odd) times an integer v is v shifted, and
the two kinds have one factor each. So a contraction is two sums::

    even_mn = sum over k with q_mk even of v_nk 2^(-q_mk / 2)
    odd_mn  = sum over k with q_mk odd  of v_nk 2^(-(q_mk + 1) / 2)
    y_mn    = R(R(f32(even) f32(delta s_n)) + R(f32(odd) f32(odd_delta s_n)))

with R the group register's rounding (float32 by default) and ``f32(factor s_n)`` formed first. Both sums are dyadic
numbers without any rounding, and each is rounded to float32 once, ties to even. A register that holds them exactly has
``2^(b-1)`` bits after the point: with ``K max|v| < 2^22`` one int64 up to 6 bits of q, for 7 and 8 bits no machine's.
Nothing is dropped here all the same: shifts are cut into bands, each band's sum is an integer below 2^53, and bands
are joined in integers. No bit depends on the bands.
"""

from __future__ import annotations

import math

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_integers, require_kind
from simulator.arithmetic.group_sums import GroupRegister
from simulator.arithmetic.kernels.shifted import sum_shifted
from simulator.arithmetic.log_sqrt2 import LogSqrt2

WIDEST_BAND = 32
"""Shifts of a band: a joined number then keeps 30 leading bits and a sticky one, more than float32 needs."""


def shifted_sums(codes: np.ndarray, right: np.ndarray, how: LogSqrt2) -> tuple[np.ndarray, np.ndarray]:
    """``even`` and ``odd`` of the module's formula, each rounded to float32 once.

    Args:
        codes: integers (..., rows, depth), codes of ``how``.
        right: integers (..., columns, depth), each less its zero point; leading axes broadcast.
        how: the quantizer.

    Returns:
        Two float32 arrays (..., rows, columns).

    Raises:
        BadInput: other dtypes or shapes, no code of ``how``, or integers so large that a sum fills 52 bits.
    """
    require_kind("how", how, LogSqrt2)
    codes, right = require_integers("codes", codes), require_integers("right", right)
    if min(codes.ndim, right.ndim) < 2 or codes.shape[-1] != right.shape[-1]:
        raise BadInput(
            "codes must be (..., rows, depth) and right (..., columns, depth)",
            got=f"{codes.shape} and {right.shape}", fix="transpose right",
        )  # fmt: skip
    if codes.size and not (codes.min() >= 0 and codes.max() < how.levels):
        raise BadInput(
            f"codes lie in [0, {how.levels})", got=f"{codes.min()}..{codes.max()}", fix="quantize with the same value"
        )
    largest = max(int(np.abs(right).max(initial=0)), 1) * max(codes.shape[-1], 1)
    band = min(WIDEST_BAND, 52 - largest.bit_length())
    if band < 0:
        raise BadInput("depth times the largest integer must be below 2^52", got=largest, fix="split the contraction")
    batch = np.broadcast_shapes(codes.shape[:-2], right.shape[:-2])
    rows, columns = (
        np.broadcast_to(each, (*batch, *each.shape[-2:])).reshape(math.prod(batch), *each.shape[-2:])
        for each in (codes, np.swapaxes(right, -1, -2))
    )
    out = np.empty((2, len(rows), rows.shape[1], columns.shape[2]), np.float32)
    bands = how.largest_shift // (band + 1) + 1
    sum_shifted(np.ascontiguousarray(rows), np.ascontiguousarray(columns), 2**how.bits, bands, band + 1, out)
    even, odd = out.reshape(2, *batch, *out.shape[2:])
    return even, odd


def shifted_product(
    codes: np.ndarray,
    right: np.ndarray,
    how: LogSqrt2,
    scale: np.ndarray,
    register: GroupRegister = GroupRegister(),  # noqa: B008 - an immutable value
) -> np.ndarray:
    """``y`` of the module's formula, float32 (..., rows, columns).

    Args:
        codes: as :func:`shifted_sums`.
        right: likewise.
        how: the quantizer.
        scale: float32 that broadcasts to (..., 1, columns).
        register: whose rounding R is; the order of two terms is none.

    Raises:
        BadInput: as :func:`shifted_sums`.
    """
    require_kind("register", register, GroupRegister)
    sums = shifted_sums(codes, right, how)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        even, odd = (
            register.hold(part * (factor * scale))
            for part, factor in zip(sums, (how.delta, how.odd_delta), strict=True)
        )
        return register.hold(even + odd)
