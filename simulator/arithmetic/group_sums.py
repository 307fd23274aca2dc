"""Partial sums of groups along k, rescaled and added in a stated order.

With scales that vary over groups of k, a machine forms one exact integer per group and adds the rescaled integers in a
register. ``contract`` does that in float32 and ascending order; here are the other registers and orders, one numpy
operation per rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.arguments import require_array, require_integers, require_kind, require_shape
from simulator.arithmetic.float_codes import decode, encode
from simulator.arithmetic.float_formats import BFLOAT16, FLOAT16, FLOAT32, FloatFormat
from simulator.arithmetic.matmul import Accumulated


class GroupOrder(Enum):
    """In which order rescaled partial sums are added."""

    ASCENDING = "ascending"
    """``((p0 + p1) + p2) + p3``."""
    PAIRWISE = "pairwise"
    """Neighbours first, ``(p0 + p1) + (p2 + p3)``, level by level; an odd last one moves up as it is."""


@dataclass(frozen=True)
class GroupRegister:
    """The register that rescaled partial sums are added in.

    Each product and each sum is computed in float32 and then rounded to ``format``, ties to even.

    Args:
        format: FLOAT32, FLOAT16 or BFLOAT16.
        order: order of addition.

    Raises:
        BadInput: another format.
    """

    format: FloatFormat = FLOAT32
    order: GroupOrder = GroupOrder.ASCENDING

    def __post_init__(self) -> None:
        require_kind("order", self.order, GroupOrder)
        require_kind("format", self.format, FloatFormat)
        if self.format not in (FLOAT32, FLOAT16, BFLOAT16):
            raise BadInput("a register holds float32, float16 or bfloat16", got=self.format, fix="choose one of them")

    def hold(self, values: np.ndarray) -> np.ndarray:
        """float32 values as the register holds them; beyond its range they are infinite."""
        return values if self.format == FLOAT32 else decode(encode(values, self.format), self.format)


def add_groups(
    sums: np.ndarray,
    scale: np.ndarray,
    register: GroupRegister,
    *,
    left_scale: np.ndarray | None = None,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """``p_g = R(f32(sum_g) * f32(left_scale_g * scale_g))``, added as ``R(a + b)``, last ``R(y + bias)``.

    Args:
        sums: integers (groups, ..., outputs), what ``contract.linear_sums`` gives.
        scale: float32 (groups, outputs).
        register: format and order; R rounds to its format.
        left_scale: float32 that broadcasts to (groups, ..., 1), or None for 1.
        bias: float32 (outputs,), or None.

    Returns:
        float32 (..., outputs), each a value of the register's format.

    Raises:
        BadInput: dtypes or shapes that do not fit.
    """
    require_kind("register", register, GroupRegister)
    sums = _check(sums, scale)
    require_array("scale", scale, np.float32)
    groups, outputs = scale.shape
    scale = scale.reshape(groups, *(1,) * (sums.ndim - 2), outputs)
    if left_scale is not None:
        require_array("left_scale", left_scale, np.float32)
        expected = (*sums.shape[:-1], 1)
        pairs = zip(left_scale.shape, expected, strict=False)
        if left_scale.ndim != len(expected) or any(n not in (1, m) for n, m in pairs):
            raise BadInput(f"left_scale must broadcast to {expected}", got=left_scale.shape, fix="reshape it")
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            scale = left_scale * scale
    if bias is not None:
        require_array("bias", bias, np.float32)
        require_shape("bias", bias, (outputs,))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        parts = [register.hold(part.astype(np.float32) * s) for part, s in zip(sums, scale, strict=True)]
        total = _added(parts, lambda a, b: register.hold(a + b), register.order)
        return total if bias is None else register.hold(total + bias)


def add_integer_groups(
    sums: np.ndarray, multiplier: np.ndarray, accumulator: Accumulator, order: GroupOrder = GroupOrder.ASCENDING
) -> Accumulated:
    """``sum_g multiplier_g sum_g`` in a register: integer group scales, rescaled to real numbers once afterwards.

    Of the accumulator ``bits`` and ``overflow`` matter; every product narrows, and every addition, as in
    :func:`add_groups`.

    Args:
        sums: integers (groups, ..., outputs).
        multiplier: integers (groups, outputs), at most 16 bits.
        accumulator: the register.
        order: order of addition.

    Returns:
        int64 (..., outputs), and how many outputs lost something on the way (wrapped: whose exact sum does not fit).

    Raises:
        BadInput: dtypes or shapes that do not fit, or a sum that could exceed int64.
    """
    require_kind("accumulator", accumulator, Accumulator)
    require_kind("order", order, GroupOrder)
    sums = _check(sums, multiplier)
    multiplier = require_integers("multiplier", multiplier)
    groups, outputs = multiplier.shape
    largest = _magnitude(sums) * _magnitude(multiplier)
    if largest * groups >= 2**62:
        raise BadInput("a sum must provably fit int64", got=f"up to {largest * groups}", fix="use smaller multipliers")
    products = sums * multiplier.reshape(groups, *(1,) * (sums.ndim - 2), outputs)
    lost = np.zeros(products.shape[1:], bool)

    def narrow(values: np.ndarray) -> np.ndarray:
        nonlocal lost
        inside = np.clip(values, accumulator.smallest, accumulator.largest)
        lost = lost | (inside != values)
        return inside

    exact = products.sum(axis=0)
    if accumulator.overflow is Overflow.SATURATE:
        total = _added([narrow(product) for product in products], lambda a, b: narrow(a + b), order)
        return Accumulated(total, int(lost.sum()))
    if accumulator.overflow is Overflow.WRAP:
        shift = 64 - accumulator.bits
        wrapped = (exact << shift) >> shift
        return Accumulated(wrapped, int((wrapped != exact).sum()))
    return Accumulated(exact, 0)


def _added(
    parts: list[np.ndarray], add: Callable[[np.ndarray, np.ndarray], np.ndarray], order: GroupOrder
) -> np.ndarray:
    if order is GroupOrder.ASCENDING:
        total = parts[0]
        for part in parts[1:]:
            total = add(total, part)
        return total
    while len(parts) > 1:
        pairs = [add(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[2 * len(pairs) :]
    return parts[0]


def _check(sums: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The sums as int64, if there is one factor for each of their groups and outputs."""
    sums = require_integers("sums", sums)
    if sums.ndim < 2 or not len(sums):
        raise BadInput("sums must be integers (groups, ..., outputs)", got=f"{sums.dtype} {sums.shape}", fix="reshape")
    require_array("factors of the groups", factors)
    require_shape("factors of the groups", factors, (len(sums), sums.shape[-1]))
    return sums


def _magnitude(values: np.ndarray) -> int:
    return int(np.abs(values).max(initial=0))
