"""Limited accumulators: what a machine's register does to an integer sum.

The sum over k of ``(x_k - zx)(w_k - zw)`` is formed in a register of ``bits`` bits. Which of its bits come out depends
on how the machine narrows (wrap or saturate) and, when it saturates, on everything else stated here.
:func:`accumulate_exact` is the normative scalar form, in Python's unbounded integers; ``kernels/accumulate.py`` has the
compiled one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind


class Overflow(Enum):
    """What a register does with a sum that does not fit. Values are the codes that the kernels switch on."""

    EXACT = 0
    """Nothing is lost: the mathematical integer."""
    WRAP = 1
    """Two's complement: the low bits. Independent of the order of summation."""
    SATURATE = 2
    """The nearest representable value, at every narrowing add."""


class ZeroPoint(Enum):
    """Where zero points are subtracted."""

    INSIDE = "inside"
    """``(x - zx)(w - zw)`` enters the register."""
    OUTSIDE = "outside"
    """``x w`` enters the register; afterwards ``- zx sum w - zw sum x + K zx zw`` is added in exact integers."""


class Bias(Enum):
    """When an integer bias enters the register."""

    FIRST = "first"
    """The register starts at the narrowed bias."""
    LAST = "last"
    """One more narrowing add after the last product."""


class KOrder(Enum):
    """Order of a convolution's products."""

    ROW_COLUMN_CHANNEL = "row, column, channel"
    """(kernel row, kernel column, input channel), channel fastest."""
    CHANNEL_ROW_COLUMN = "channel, row, column"
    """(input channel, kernel row, kernel column), column fastest."""


class Count(Enum):
    """What is counted of a register's losses. The numbers are the codes that the kernels switch on."""

    NONE = 0
    """Nothing."""
    OUTPUTS = 1
    """Outputs that saturated at least once; for WRAP, outputs whose exact sum does not fit."""
    STEPS = 2
    """Narrowing adds that lost something: that saturated, or at which the running register wrapped."""


@dataclass(frozen=True)
class Accumulator:
    """A machine's accumulator.

    Args:
        bits: width of the two's complement register, 2 to 64; not used by EXACT.
        overflow: what happens to a sum that does not fit.
        tree: how many consecutive products are summed exactly before one narrowing add; the last group may be shorter.
        k_order: order of a convolution's products; a matmul has one order.
        zero_point: where zero points are subtracted.
        bias: when the bias enters.

    Raises:
        BadInput: bits outside 2..64, tree below 1, or a choice that is no member of its enum.
    """

    bits: int = 32
    overflow: Overflow = Overflow.EXACT
    tree: int = 1
    k_order: KOrder = KOrder.ROW_COLUMN_CHANNEL
    zero_point: ZeroPoint = ZeroPoint.INSIDE
    bias: Bias = Bias.FIRST

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not (isinstance(self.bits, int) and 2 <= self.bits <= 64):
            raise BadInput("bits must be an integer from 2 to 64", got=repr(self.bits), fix="choose a width in 2..64")
        if isinstance(self.tree, bool) or not (isinstance(self.tree, int) and self.tree >= 1):
            raise BadInput("tree must be an integer of at least 1", got=repr(self.tree), fix="1 narrows every product")
        for name, kind in (("overflow", Overflow), ("k_order", KOrder), ("zero_point", ZeroPoint), ("bias", Bias)):
            require_kind(name, getattr(self, name), kind)

    @property
    def smallest(self) -> int:
        """Smallest value of the register."""
        return -(1 << (self.bits - 1))

    @property
    def largest(self) -> int:
        """Largest value of the register."""
        return (1 << (self.bits - 1)) - 1

    def narrow(self, value: int) -> int:
        """What the register holds of ``value``."""
        if self.overflow is Overflow.EXACT:
            return value
        if self.overflow is Overflow.SATURATE:
            return min(max(value, self.smallest), self.largest)
        return ((value - self.smallest) & ((1 << self.bits) - 1)) + self.smallest


class ExactSum(NamedTuple):
    """One output and what became of it on the way.

    Attributes:
        value: what the register holds at the end, zero points subtracted.
        overflowed: for WRAP that what entered the register, summed exactly, does not fit; for SATURATE that some
            narrowing add saturated; for EXACT False.
        steps: narrowing adds that lost something.
    """

    value: int
    overflowed: bool
    steps: int


def accumulate_exact(
    x: Sequence[int], w: Sequence[int], accumulator: Accumulator, x_zero: int = 0, w_zero: int = 0, bias: int = 0
) -> ExactSum:
    """One output, in unbounded integers.

    Args:
        x: codes in the order they are multiplied.
        w: likewise.
        accumulator: the machine.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``.
        bias: integer bias.
    """
    inside = accumulator.zero_point is ZeroPoint.INSIDE
    zx, zw = (x_zero, w_zero) if inside else (0, 0)
    products = [(a - zx) * (b - zw) for a, b in zip(x, w, strict=True)]
    entering = [sum(products[i : i + accumulator.tree]) for i in range(0, len(products), accumulator.tree)]
    entering = [bias, *entering] if accumulator.bias is Bias.FIRST else [*entering, bias]
    register, lost = 0, 0
    for step in entering:
        narrowed = accumulator.narrow(register + step)
        lost += narrowed != register + step
        register = narrowed
    overflowed = register != sum(entering) if accumulator.overflow is Overflow.WRAP else lost > 0
    outside = 0 if inside else len(x) * x_zero * w_zero - x_zero * sum(w) - w_zero * sum(x)
    return ExactSum(register + outside, overflowed, lost)
