"""The number format that scales are kept in.

A scale is computed in float32 first and then rounded into its format, as programs that store scales do. The result is
a float32 again, which holds every value of every format here, and it is never 0 and never infinite: a scale below the
format's smallest positive value becomes that value, one above the largest becomes the largest. The former loses
resolution, the latter clips data, which the clip count shows.

Rounding a scale down moves the outermost codes inward, so that data at the ends of the range may be clipped: in int8 at
most by rounding for float16 and bfloat16 (``127 * 2**-9 < 1/2``), by up to a third for a power of two to the nearest.
:class:`PowerOfTwoScale` therefore rounds up unless told otherwise: nothing inside the wanted range saturates, at the
price of up to one bit of resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind
from simulator.arithmetic.fixed_point import quantize_multiplier
from simulator.arithmetic.float_codes import decode, encode
from simulator.arithmetic.float_formats import E8M0, FloatFormat
from simulator.arithmetic.rounding import Rounding

POWER_ROUNDINGS = (Rounding.CEIL, Rounding.FLOOR, Rounding.HALF_EVEN)


@runtime_checkable
class ScaleFormat(Protocol):
    """Rounds scales into a number format."""

    def round(self, scale: np.ndarray) -> np.ndarray:
        """Float32 values of the format nearest to positive, finite float32 scales, by the format's own rule."""
        ...


@dataclass(frozen=True)
class Float32Scale:
    """Scales as they are."""

    def round(self, scale: np.ndarray) -> np.ndarray:
        """The scale itself."""
        return scale


@dataclass(frozen=True)
class FloatScale:
    """Scales in a narrower float format (float16, bfloat16, E4M3), to nearest, ties to even.

    Subnormals of the format are used: below its smallest normal value a scale has fewer bits.

    Raises:
        BadInput: a format of more than 16 bits.
    """

    format: FloatFormat

    def __post_init__(self) -> None:
        require_kind("format", self.format, FloatFormat)
        if self.format.bits > 16:
            raise BadInput("a float scale has at most 16 bits", got=self.format, fix="use Float32Scale()")

    def round(self, scale: np.ndarray) -> np.ndarray:
        """Round to nearest even; what would be 0 or infinite is the smallest or largest positive value."""
        smallest = self.format.decode_exact(0 if not self.format.subnormals else 1)
        nearest = decode(encode(np.asarray(scale, np.float32), self.format), self.format)
        # an overflow is an infinity, a NaN or the largest value already, by the format
        nearest = np.where(np.asarray(scale) > self.format.max, np.float32(self.format.max), nearest)
        nearest = np.where(np.isfinite(nearest), nearest, np.float32(self.format.max))
        return np.maximum(nearest, np.float32(smallest))


@dataclass(frozen=True)
class PowerOfTwoScale:
    """Scales that are powers of two (E8M0): ``2**-126`` to ``2**127``.

    E8M0 goes down to ``2**-127``, but no scale that is rounded here is below float32's smallest normal number.

    Args:
        rounding: CEIL (the smallest power not below: nothing in the range saturates), FLOOR (that of the microscaling
            formats: the finest, may saturate), or HALF_EVEN (nearest in value; a tie, ``1.5 * 2**k``, goes up, as in
            conversions to E8M0).

    Raises:
        BadInput: another rounding.
    """

    rounding: Rounding = Rounding.CEIL

    def __post_init__(self) -> None:
        require_kind("rounding", self.rounding, Rounding)
        if self.rounding not in POWER_ROUNDINGS:
            raise BadInput(
                "a power-of-two scale rounds CEIL, FLOOR or HALF_EVEN", got=self.rounding, fix="use one of these"
            )

    def round(self, scale: np.ndarray) -> np.ndarray:
        """The power of two; above ``2**127`` that, and at least ``2**-126``."""
        fraction, exponent = np.frexp(np.asarray(scale, np.float32))  # scale = fraction * 2**exponent, 1/2 <= fraction
        if self.rounding is Rounding.CEIL:
            up = fraction > 0.5
        elif self.rounding is Rounding.FLOOR:
            up = np.zeros(fraction.shape, bool)
        else:
            up = fraction >= 0.75
        power = np.clip(exponent - 1 + up, -126, E8M0.emax)
        return np.ldexp(np.float32(1), power)


@dataclass(frozen=True)
class FixedPointScale:
    """Scales as ``multiplier * 2**(shift - bits)``: an integer multiplier in ``[2**(bits-1), 2**bits)`` and a shift.

    ``multiplier`` is the 31-bit one of :func:`quantize_multiplier` (exact for a float32), rounded half up to ``bits``.
    ``shift`` lies in -31..29, so scales lie between ``2**-32`` and ``(1 - 2**-bits) * 2**29``.

    Args:
        bits: width of the multiplier without its sign, 1 to 24: what a float32 holds. From 24 on nothing is rounded,
            so TensorFlow Lite's 31 bits are ``bits=24`` here.

    Raises:
        BadInput: bits out of range.
    """

    bits: int = 15

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not (isinstance(self.bits, int) and 1 <= self.bits <= 24):
            raise BadInput("a multiplier has 1 to 24 bits", got=repr(self.bits), fix="24 hold every float32 scale")

    def parts(self, scale: float) -> tuple[int, int]:
        """``(multiplier, shift)`` of one positive, finite float32 scale, limited to the range."""
        limited = min(max(float(scale), 2.0**-32), 2.0**29)
        wide, shift = quantize_multiplier(limited)
        dropped = 31 - self.bits
        multiplier = (wide + (1 << (dropped - 1))) >> dropped
        if multiplier == 1 << self.bits:
            multiplier, shift = multiplier >> 1, shift + 1
        if shift > 29:
            return (1 << self.bits) - 1, 29
        return multiplier, shift

    def round(self, scale: np.ndarray) -> np.ndarray:
        """``multiplier * 2**(shift - bits)`` of each scale."""
        flat = np.asarray(scale, np.float32).reshape(-1)
        parts = [self.parts(s) for s in flat.tolist()]
        values = [math.ldexp(multiplier, shift - self.bits) for multiplier, shift in parts]
        return np.array(values, np.float32).reshape(np.shape(scale))
