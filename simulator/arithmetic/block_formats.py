"""Block formats as values: element, block size, scale format, and the rule of the shared exponent.

``simulator.arithmetic.blockscale`` says what they compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind
from simulator.arithmetic.float_formats import (
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    E8M0,
    FloatFormat,
    Overflow,
    require_rounding,
)
from simulator.arithmetic.kernels import blockscale as kernels
from simulator.arithmetic.rounding import Rounding, round_exact


class ScaleMode(Enum):
    """``e(amax)``: which power of two stands for the largest magnitude ``amax`` of a block."""

    FLOOR = "floor"
    """``floor(log2 amax)``: OCP's own rule; up to the top binade of elements saturates."""
    CEIL = "ceil"
    """``ceil(log2 amax)``."""
    EVEN = "even"
    """``floor(log2 r)`` with ``r`` = ``amax`` rounded to the element's mantissa bits."""
    RCEIL = "rceil"
    """``ceil(log2(amax / max)) + emax``: the smallest scale with which no element exceeds ``max``."""


@dataclass(frozen=True)
class FixedPoint:
    """MXINT8's element: a two's complement integer times ``2**-6``, range -127..127 in steps."""

    name: str = "INT8"
    bits: int = 8
    mantissa_bits: int = 6
    emax: int = 0
    max: float = 127 / 64

    def encode_exact(self, value: float | Fraction, rounding: Rounding = Rounding.HALF_EVEN) -> int:
        """Code of a finite number, as the unsigned pattern of two's complement."""
        require_rounding(rounding)
        return min(max(round_exact(Fraction(value) * 64, rounding), -127), 127) & 0xFF

    def decode_exact(self, code: int) -> float:
        """Value of a code (0 to 255)."""
        return (code - 256 if code > 127 else code) / 64

    def kernel_form(self) -> tuple[int, ...]:
        """As a float format whose only normal binade starts at 1: its step is the same below and above."""
        return (self.mantissa_bits, 0, 0, 127, 127, -1, self.bits, kernels.TWOS_COMPLEMENT)

    def __str__(self) -> str:
        return self.name


INT8 = FixedPoint()


@dataclass(frozen=True)
class BlockFormat:
    """Elements that share a scale.

    Args:
        name: what tables call it.
        element: format of an element; overflow must saturate.
        size: elements in a block.
        scale: ``E8M0`` (MX) or ``E4M3`` (two-level, with E2M1 elements).

    Raises:
        BadInput: another scale or pairing, a size below 1, or elements that do not saturate.
    """

    name: str
    element: FloatFormat | FixedPoint
    size: int = 32
    scale: FloatFormat = E8M0

    def __post_init__(self) -> None:
        require_kind("element", self.element, (FloatFormat, FixedPoint))
        require_kind("scale", self.scale, FloatFormat)
        if isinstance(self.size, bool) or not (isinstance(self.size, int) and self.size >= 1):
            raise BadInput("block size must be a positive integer", got=repr(self.size), fix="use at least 1")
        if self.scale != E8M0 and (self.scale, self.element) != (E4M3, E2M1):
            raise BadInput(
                "a block scale must be E8M0, or E4M3 over E2M1 elements",
                got=f"{self.scale} over {self.element}",
                fix="use one of the named block formats",
            )
        if isinstance(self.element, FloatFormat) and (
            self.element.overflow is not Overflow.SATURATE or not self.element.signed or self.element.bits > 8
        ):
            raise BadInput(
                "block elements must be signed, at most 8 bits wide and saturating",
                got=self.element,
                fix="use E4M3, E5M2, E3M2, E2M3, E2M1 or INT8",
            )

    @property
    def two_level(self) -> bool:
        """Whether a float32 scale for the whole tensor stands above the block scales."""
        return self.scale != E8M0

    def __str__(self) -> str:
        return self.name


MXINT8 = BlockFormat("MXINT8", INT8)
"""OCP MX: blocks of 32 integers of 8 bits under a power of two."""
MXFP8_E4M3 = BlockFormat("MXFP8_E4M3", E4M3)
"""OCP MX: blocks of 32 E4M3 under a power of two."""
MXFP8_E5M2 = BlockFormat("MXFP8_E5M2", E5M2)
"""OCP MX: blocks of 32 E5M2 under a power of two."""
MXFP6_E3M2 = BlockFormat("MXFP6_E3M2", E3M2)
"""OCP MX: blocks of 32 E3M2 under a power of two."""
MXFP6_E2M3 = BlockFormat("MXFP6_E2M3", E2M3)
"""OCP MX: blocks of 32 E2M3 under a power of two."""
MXFP4 = BlockFormat("MXFP4", E2M1)
"""OCP MX: blocks of 32 E2M1 under a power of two."""
NVFP4 = BlockFormat("NVFP4", E2M1, 16, E4M3)
"""NVIDIA: blocks of 16 E2M1 under an E4M3 scale, and a float32 scale over the tensor."""

MX_FORMATS = (MXINT8, MXFP8_E4M3, MXFP8_E5M2, MXFP6_E3M2, MXFP6_E2M3, MXFP4)
"""Those of OCP MX."""
