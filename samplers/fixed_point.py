"""A sampler's state in fixed point, as integer hardware without floating point would keep it.

A value is an integer code of ``bits`` bits times 2^-fraction_bits; coefficients are integers times
2^-coefficient_fraction_bits. A combination is the integer sum of code times coefficient, exact, and one rounding of it
back to a code: ties to even, then saturation. A division is folded into the coefficients, which is how a device without
a divider has it.

Codes travel as float64 tensors of their values. That is exact: every code, product and sum here is an integer below
2^53 after scaling by powers of two, which is checked for each combination.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsFloat

import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.validation import require_int

EXACT = 2**53
"""float64 holds every integer up to here."""


@dataclass(frozen=True)
class FixedPointState:
    """Codes -2^(bits-1) .. 2^(bits-1) - 1 in steps of 2^-fraction_bits.

    Saturation is part of the format and no error: what lies outside, infinities included, becomes the nearest end. It
    is not silent: :meth:`saturated` counts elements at the two ends, and a paired run stores that count for every step
    (``state_saturated_accumulated``), of x and of the predicted x0. x0 = (x - sqrt(1 - abar) epsilon) / sqrt(abar) is
    large at the first steps, and needs more integer bits than x: 8 above the sign for sqrt(abar) = 1/160.

    Args:
        bits: of a code, with its sign, from 2 to 52.
        fraction_bits: of them, behind the binary point; may exceed bits.
        coefficient_fraction_bits: of coefficients, which have as many integer bits as they need.

    Raises:
        BadInput: an argument breaks its rule.
    """

    bits: int = 24
    fraction_bits: int = 14
    coefficient_fraction_bits: int = 16

    def __post_init__(self) -> None:
        for name, least in (("bits", 2), ("fraction_bits", 0), ("coefficient_fraction_bits", 0)):
            object.__setattr__(self, name, require_int(name, getattr(self, name), least))
        if max(self.bits, self.fraction_bits, self.coefficient_fraction_bits) > 52:
            raise BadInput(
                "bits and fraction bits must be at most 52, which float64 carries exactly",
                got=f"{self.bits}, {self.fraction_bits} and {self.coefficient_fraction_bits}",
                fix="use fewer",
            )

    @property
    def dtype(self) -> torch.dtype:
        """torch.float64, the carrier."""
        return torch.float64

    @property
    def largest(self) -> float:
        """The largest value; the smallest is one step below its negative."""
        return float(2 ** (self.bits - 1) - 1) / 2.0**self.fraction_bits

    def cast(self, tensor: Tensor) -> Tensor:
        """Round to the nearest code, ties to even, then saturate. Idempotent.

        Raises:
            BadInput: NaN, which has no code.
        """
        return self._rounded(tensor.to(torch.float64), self.fraction_bits)

    def combine(
        self, coefficients: Sequence[SupportsFloat], tensors: Sequence[Tensor | None], divisor: SupportsFloat = 1.0
    ) -> Tensor:
        """(sum_i coefficients[i] * tensors[i]) / divisor with coefficients[i] / divisor rounded, and one rounding.

        Args:
            coefficients: real numbers; each, over the divisor, is rounded to the nearest multiple of
                2^-coefficient_fraction_bits, ties to even.
            tensors: values of this format, float64; None where the coefficient is 0.
            divisor: not 0.

        Raises:
            BadInput: every coefficient is 0, a tensor is missing or has another dtype, or sum_i |coefficient code|
                times 2^(bits-1) exceeds 2^53: the sum might then not be exact.
        """
        unit = 2.0**self.coefficient_fraction_bits
        terms = [(c, t) for c, t in zip(map(float, coefficients), tensors, strict=True) if c != 0]
        if not terms:
            raise BadInput("combine needs a coefficient other than 0", got=list(coefficients), fix="drop the call")
        codes = [round(c / float(divisor) * unit) for c, _ in terms]
        if sum(map(abs, codes)) << (self.bits - 1) > EXACT:
            raise BadInput(
                "a fixed-point combination must be exact: bits and coefficient bits together at most 53",
                got=f"{self.bits} bits and coefficients that add up to {sum(map(abs, codes)) / unit:g} in steps of "
                f"2^-{self.coefficient_fraction_bits}",
                fix="use fewer bits or coefficient_fraction_bits",
            )
        total: Tensor | None = None
        for code, (coefficient, tensor) in zip(codes, terms, strict=True):
            if tensor is None or tensor.dtype != torch.float64:
                raise BadInput(
                    "combine needs a float64 tensor for every coefficient other than 0",
                    got=f"{None if tensor is None else tensor.dtype} for coefficient {coefficient}",
                    fix="pass the tensor through state.cast first; noise may be None only where its coefficient is 0",
                )
            term = float(code) * (tensor * 2.0**self.fraction_bits)
            total = term if total is None else total + term
        assert total is not None
        return self._rounded(total, -self.coefficient_fraction_bits)

    def saturated(self, tensor: Tensor) -> int:
        """Elements of a tensor of this format at the smallest or largest code."""
        smallest = -(2.0 ** (self.bits - 1 - self.fraction_bits))
        return int(((tensor == smallest) | (tensor == self.largest)).sum())

    def _rounded(self, tensor: Tensor, shift: int) -> Tensor:
        """tensor 2^shift to the nearest code, as a value."""
        if bool(tensor.isnan().any()):
            raise BadInput("a fixed-point state holds no NaN", got="NaN", fix="look for what made it, in float64")
        end = 2.0 ** (self.bits - 1)
        return torch.round(tensor * 2.0**shift).clamp(-end, end - 1) / 2.0**self.fraction_bits
