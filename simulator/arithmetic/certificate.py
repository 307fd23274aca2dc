"""Certificates: what the codes prove about a contraction, before any data is seen."""

from __future__ import annotations

from dataclasses import dataclass

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Overflow, ZeroPoint


@dataclass(frozen=True)
class Certificate:
    """A proof that every partial sum of ``sum_k (x_k - zx)(w_k - zw)`` stays within ``[-bound, bound]``.

    ``bound = max_n sum_k |w_nk - zw_n| * max |x - zx|`` with the maximum taken over the format of x (the argument of
    A2Q, Colbert et al. 2023): no input can reach further, whatever the order of summation.
    """

    bound: int

    @property
    def accumulator_bits(self) -> int:
        """Smallest two's complement width that holds every partial sum."""
        return self.bound.bit_length() + 1

    def excludes_overflow(self, accumulator: Accumulator, largest_bias: int = 0) -> bool:
        """Whether a register provably loses nothing, whatever x comes: then all its fields give the exact sum.

        Args:
            accumulator: the machine. One that subtracts zero points outside sums raw codes, which this bound is not of.
            largest_bias: largest magnitude of an integer bias.
        """
        if accumulator.overflow is Overflow.EXACT:
            return True
        inside = accumulator.zero_point is ZeroPoint.INSIDE
        return inside and self.bound + abs(int(largest_bias)) <= accumulator.largest

    def require_int32(self) -> None:
        """Raise BadInput unless an int32 accumulator is provably exact."""
        if self.accumulator_bits > 32:
            raise BadInput(
                "a contraction must provably fit an int32 accumulator",
                got=f"a sum of up to {self.bound} ({self.accumulator_bits} bits)",
                fix="use fewer bits, or split the contraction",
            )


def certify(largest_absolute_sum: int, largest: int) -> Certificate:
    """Certificate from ``max_n sum_k |w - zw|`` and ``max |x - zx|``."""
    return Certificate(int(largest_absolute_sum) * int(largest))
