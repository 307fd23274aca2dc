"""Number formats as values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind


@dataclass(frozen=True)
class IntFormat:
    """An integer code format.

    Args:
        bits: width, 1 to 16.
        signed: two's complement if true, else unsigned.
        narrow: drop the most negative code of a signed format, so that the range is symmetric
            (``-(2**(bits-1) - 1)`` to ``2**(bits-1) - 1``).

    Raises:
        BadInput: bits outside 1..16, or a narrow format with no code left (unsigned, or 1 bit).
    """

    bits: int
    signed: bool = True
    narrow: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not (isinstance(self.bits, int) and 1 <= self.bits <= 16):
            raise BadInput("bits must be an integer from 1 to 16", got=repr(self.bits), fix="choose a width in 1..16")
        require_kind("signed", self.signed, bool)
        require_kind("narrow", self.narrow, bool)
        if self.narrow and (not self.signed or self.bits == 1):
            raise BadInput(
                "a narrow range needs a signed format of at least 2 bits",
                got=f"bits={self.bits}, signed={self.signed}",
                fix="drop narrow, or use a signed format",
            )

    @property
    def qmin(self) -> int:
        """Smallest code."""
        return -(1 << (self.bits - 1)) + int(self.narrow) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Largest code."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype:
        """Storage dtype of codes: int8/uint8 up to 8 bits, int16/uint16 above."""
        kind = "int" if self.signed else "uint"
        return np.dtype(f"{kind}{8 if self.bits <= 8 else 16}")

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}{'-narrow' if self.narrow else ''}"
