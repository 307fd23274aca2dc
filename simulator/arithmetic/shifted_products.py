"""Products with log-sqrt2 codes: sums of shifted integers, exact, rounded once.

A value ``2^(-ceil(q/2)) delta`` (q even) or ``2^(-ceil(q/2)) sqrt2 delta`` (q odd) times an integer v is v shifted, and
the two kinds have one factor each. So a contraction is two sums::

    even_mn = sum over k with q_mk even of v_nk 2^(-q_mk / 2)
    odd_mn  = sum over k with q_mk odd  of v_nk 2^(-(q_mk + 1) / 2)
    y_mn    = R(R(f32(even) f32(delta s_n)) + R(f32(odd) f32(odd_delta s_n)))

with R the group register's rounding (float32 by default) and ``f32(factor s_n)`` formed first. Both sums are dyadic
numbers without any rounding, and each is rounded to float32 once, ties to even. A register that holds them exactly has
``2^(b-1)`` bits after the point: with ``K max|v| < 2^22`` one int64 up to 6 bits of q, for 7 and 8 bits no machine's.
Nothing is dropped here all the same: shifts are cut into bands, each band's sum is an integer below 2^53 (so float64
products are exact in any order), and bands are joined in integers. No bit depends on the bands.
"""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_integers, require_kind
from simulator.arithmetic.group_sums import GroupRegister
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
        BadInput: other dtypes or shapes, no code of ``how``, or integers so large that a product fills a float64.
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
    columns = np.swapaxes(right, -1, -2).astype(np.float64)
    shifts, odd = (codes.astype(np.int64) + 1) // 2, codes % 2 == 1
    real = codes < 2**how.bits  # the code of 0 adds nothing
    even, uneven = (_summed(shifts, kind & real, columns, how.largest_shift, band) for kind in (~odd, odd))
    return even, uneven


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


def _summed(shifts: np.ndarray, kept: np.ndarray, columns: np.ndarray, largest: int, band: int) -> np.ndarray:
    """``sum_k kept 2^(-shift) column`` rounded to float32; ``columns`` float64 (..., depth, columns)."""
    width = band + 1
    digits = []
    for first in range(0, largest + 1, width):
        inside = kept & (shifts >= first) & (shifts < first + width)
        weights = np.where(inside, np.ldexp(1.0, np.where(inside, first + band - shifts, 0)), 0.0)
        digits.append(np.matmul(weights, columns).astype(np.int64))
    return _joined(digits, width)


def _joined(digits: list[np.ndarray], width: int) -> np.ndarray:
    """``sum_j digit_j 2^(1 - (j + 1) width)`` rounded to float32 once; digits are any int64 below 2^53 in magnitude."""
    digits = _carried(digits, width)
    negative = digits[0] < 0  # what lies below the first digit is at least 0 and less than one unit of it
    digits = _carried([np.where(negative, -digit, digit) for digit in digits], width)
    total, places = digits[0], np.full(digits[0].shape, width - 1)
    ended, lost = (np.zeros(total.shape, bool) for _ in range(2))
    for digit in digits[1:]:
        ended = ended | (total >= 2 ** (62 - width))
        lost |= ended & (digit != 0)
        total = np.where(ended, total, (total << width) | digit)
        places = np.where(ended, places, places + width)
    wide = total >= 2**53
    lost |= wide & (total & 1023 != 0)
    total, places = np.where(wide, total >> 10, total), np.where(wide, places - 10, places)
    with np.errstate(under="ignore"):
        magnitude = np.ldexp((total | lost).astype(np.float64), -places).astype(np.float32)  # rounded to odd before
    return np.where(negative, -magnitude, magnitude)


def _carried(digits: list[np.ndarray], width: int) -> list[np.ndarray]:
    """The same number with all digits but the first in ``[0, 2^width)``."""
    carry, found = np.zeros((), np.int64), []
    for digit in reversed(digits[1:]):
        whole = digit + carry
        found.append(whole & (2**width - 1))
        carry = whole >> width
    return [digits[0] + carry, *reversed(found)]
