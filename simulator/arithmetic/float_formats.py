"""Small floating-point formats as values, and their conversions.

A finite code with sign ``s``, exponent field ``E`` and mantissa field ``M`` (``m`` bits) is
``(-1)**s * 2**(E - bias) * (1 + M/2**m)``; with ``E = 0`` it is the subnormal ``(-1)**s * 2**(1 - bias) * M/2**m``.
:meth:`FloatFormat.encode_exact` and :meth:`FloatFormat.decode_exact` are the normative scalar form, in exact
rationals; ``float_codes`` has their fast twins on arrays, equal to them bit for bit.

Rounding: the magnitude is divided by the format's step at that magnitude (as if the exponent had no upper end), the
exact quotient is rounded to an integer, and only then compared with the largest value. Ties to even therefore look at
the significand's last bit, also in E8M0, whose significand is always 1: its ties go up (as in ml_dtypes and torch).

Special values: a NaN gives the canonical quiet NaN without its sign, and is an error in a format without NaN; an
infinity, or a rounded magnitude beyond the largest value, follows the format's :class:`Overflow`; zeros keep their
sign. E8M0 has neither sign nor zero: zero and tiny values give its smallest value, negative values its NaN.

Sources: OCP 8-bit Floating Point Specification 1.0; OCP Microscaling Formats Specification 1.0, section 5.3 and 5.4;
IEEE 754-2019. Both OCP overflow rules exist here by name: ``E4M3`` and ``E5M2`` saturate, as elements of blocks do,
``E4M3_NAN`` and ``E5M2_INF`` do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind
from simulator.arithmetic.kernels import blockscale as kernels
from simulator.arithmetic.rounding import Rounding, round_exact

ROUNDINGS = (Rounding.HALF_EVEN, Rounding.HALF_AWAY)
TWO = Fraction(2)


class Overflow(Enum):
    """What a magnitude beyond the largest value, or an infinity, becomes."""

    SATURATE = 0
    """The largest value of its sign."""
    INFINITY = 1
    """The infinity of its sign."""
    NAN = 2
    """NaN (where there is a sign, with that of the value)."""


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format whose values are all float32 values.

    Args:
        name: what messages and tables call it.
        exponent_bits: width of the exponent field, 1 to 8.
        mantissa_bits: width of the mantissa field, 0 to 23.
        bias: subtracted from the exponent field.
        infinities: the top exponent field is kept for infinities and NaNs, as in IEEE 754.
        nans: NaN exists; without infinities it is only the code with all exponent and mantissa bits set.
        overflow: what happens beyond the largest value.
        signed: one sign bit in front.
        subnormals: exponent field 0 means zero and subnormals; otherwise it is one more normal exponent, and the
            format has no zero.

    Raises:
        BadInput: a width out of range, an overflow rule that needs a code the format lacks, infinities without NaN
            or mantissa, or values that float32 does not hold.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    infinities: bool = False
    nans: bool = False
    overflow: Overflow = Overflow.SATURATE
    signed: bool = True
    subnormals: bool = True

    def __post_init__(self) -> None:
        if not (1 <= self.exponent_bits <= 8 and 0 <= self.mantissa_bits <= 23):
            raise BadInput(
                "a float format needs 1 to 8 exponent bits and 0 to 23 mantissa bits",
                got=f"{self.exponent_bits} and {self.mantissa_bits}",
                fix="choose narrower fields",
            )
        missing = (
            (self.infinities and not self.nans)
            or (self.infinities and not self.mantissa_bits)
            or (self.overflow is Overflow.INFINITY and not self.infinities)
            or (self.overflow is Overflow.NAN and not self.nans)
        )
        if missing:
            raise BadInput(
                "a format with infinities has NaN and mantissa bits, and overflow must lead to a code that exists",
                got=f"infinities={self.infinities}, nans={self.nans}, {self.overflow}",
                fix="let it saturate, or give it the codes",
            )
        if self.emin - self.mantissa_bits < -149 or self.largest_code < 1 or self.emax > 127:
            raise BadInput(
                "every value of a float format must be a float32 value, and one must be finite and not 0",
                got=f"exponents {self.emin} to {self.emax}",
                fix="move the bias towards 127, or change the widths",
            )

    @property
    def bits(self) -> int:
        """Width of a code."""
        return int(self.signed) + self.exponent_bits + self.mantissa_bits

    @property
    def dtype(self) -> np.dtype:
        """Storage dtype of codes: uint8, uint16 or uint32."""
        return np.dtype(f"uint{8 if self.bits <= 8 else 16 if self.bits <= 16 else 32}")

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal value."""
        return int(self.subnormals) - self.bias

    @property
    def largest_code(self) -> int:
        """Code of the largest finite value."""
        top = (1 << (self.exponent_bits + self.mantissa_bits)) - 1
        if self.infinities:
            return top - (1 << self.mantissa_bits)
        return top - int(self.nans)

    @property
    def emax(self) -> int:
        """Exponent of the largest finite value."""
        return max(self.largest_code >> self.mantissa_bits, int(self.subnormals)) - self.bias

    @property
    def max(self) -> float:
        """Largest finite value."""
        return self.decode_exact(self.largest_code)

    @property
    def nan_code(self) -> int:
        """The canonical NaN: positive, quiet. BadInput where there is none."""
        if not self.nans:
            raise BadInput(f"{self.name} has no NaN", got="NaN", fix="handle NaN before the conversion")
        return self.largest_code + 1 + (1 << self.mantissa_bits >> 1) * int(self.infinities)

    @property
    def overflow_code(self) -> int:
        """What a positive overflow becomes."""
        if self.overflow is Overflow.NAN:
            return self.nan_code
        return self.largest_code + int(self.overflow is Overflow.INFINITY)

    def encode_exact(self, value: float | Fraction, rounding: Rounding = Rounding.HALF_EVEN) -> int:
        """Code of a real number: the normative form (rules in the module's docstring).

        >>> [hex(E4M3.encode_exact(v)) for v in (448.0, 464.0, -1e9, 2.0**-10)]
        ['0x7e', '0x7e', '0xfe', '0x0']
        """
        require_rounding(rounding)
        value = value if isinstance(value, Fraction) else float(value)
        if isinstance(value, float) and math.isnan(value):
            return self.nan_code
        negative = math.copysign(1, value) < 0 if isinstance(value, float) else value < 0
        if negative and not self.signed:
            return self.encode_exact(0.0) if value == 0 else self.nan_code
        sign = int(negative) << (self.bits - 1)
        if isinstance(value, float) and math.isinf(value):
            return sign | self.overflow_code
        magnitude = abs(Fraction(value))
        exponent = max(floor_log2(magnitude), self.emin) if magnitude else self.emin
        step = TWO ** (exponent - self.mantissa_bits)
        count = round_exact(magnitude / step, rounding)
        if count * step > Fraction(self.max):
            return sign | self.overflow_code
        # count runs from 2**m, the implied bit, in a normal binade: adding it carries into the exponent field
        code = ((exponent - self.emin) << self.mantissa_bits) + count
        return sign | code if self.subnormals else max(code - (1 << self.mantissa_bits), 0)

    def decode_exact(self, code: int) -> float:
        """Value of a code; a Python float holds each one exactly.

        >>> [E2M1.decode_exact(c) for c in range(8)]
        [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
        """
        if not 0 <= code < 1 << self.bits:
            raise BadInput(f"a code of {self.name} lies in 0..{(1 << self.bits) - 1}", got=code, fix="mask it")
        magnitude = code & ((1 << (self.exponent_bits + self.mantissa_bits)) - 1)
        sign = -1.0 if code != magnitude else 1.0
        if magnitude > self.largest_code:
            infinite = self.infinities and magnitude == self.largest_code + 1
            return math.copysign(math.inf if infinite else math.nan, sign)
        field, mantissa = magnitude >> self.mantissa_bits, magnitude & ((1 << self.mantissa_bits) - 1)
        if field or not self.subnormals:
            mantissa += 1 << self.mantissa_bits
        else:
            field = 1
        return sign * float(mantissa * TWO ** (field - self.bias - self.mantissa_bits))

    def kernel_form(self) -> tuple[int, ...]:
        """The integers that ``kernels.blockscale.encode_one`` takes."""
        offset = 0 if self.subnormals else 1 << self.mantissa_bits
        nan = self.nan_code if self.nans else -1
        negative = kernels.SIGN_BIT if self.signed else kernels.NEGATIVE_IS_NAN
        return (self.mantissa_bits, self.emin, offset, self.largest_code, self.overflow_code, nan, self.bits, negative)

    def __str__(self) -> str:
        return self.name


E4M3 = FloatFormat("E4M3", 4, 3, 7, nans=True)
"""OCP FP8 E4M3 (no infinities, largest 448), saturating: infinities too."""
E4M3_NAN = FloatFormat("E4M3_NAN", 4, 3, 7, nans=True, overflow=Overflow.NAN)
"""OCP FP8 E4M3, not saturating: overflow is NaN."""
E5M2 = FloatFormat("E5M2", 5, 2, 15, infinities=True, nans=True)
"""OCP FP8 E5M2 (largest 57344), saturating: infinities too."""
E5M2_INF = FloatFormat("E5M2_INF", 5, 2, 15, infinities=True, nans=True, overflow=Overflow.INFINITY)
"""OCP FP8 E5M2, not saturating: overflow is an infinity."""
E3M2 = FloatFormat("E3M2", 3, 2, 3)
"""OCP FP6 E3M2: every code finite, largest 28."""
E2M3 = FloatFormat("E2M3", 2, 3, 1)
"""OCP FP6 E2M3: every code finite, largest 7.5."""
E2M1 = FloatFormat("E2M1", 2, 1, 1)
"""OCP FP4 E2M1: every code finite, largest 6."""
E8M0 = FloatFormat("E8M0", 8, 0, 127, nans=True, overflow=Overflow.NAN, signed=False, subnormals=False)
"""OCP shared scale: 2**-127 to 2**127, code 255 is NaN."""
FLOAT16 = FloatFormat("float16", 5, 10, 15, infinities=True, nans=True, overflow=Overflow.INFINITY)
"""IEEE 754 binary16."""
BFLOAT16 = FloatFormat("bfloat16", 8, 7, 127, infinities=True, nans=True, overflow=Overflow.INFINITY)
"""The upper half of binary32."""
FLOAT32 = FloatFormat("float32", 8, 23, 127, infinities=True, nans=True, overflow=Overflow.INFINITY)
"""IEEE 754 binary32: exact scalar form only, ``float_codes`` does not take it."""

NARROW_FORMATS = (E4M3, E4M3_NAN, E5M2, E5M2_INF, E3M2, E2M3, E2M1, E8M0, FLOAT16, BFLOAT16)
"""Every named format of at most 16 bits."""


def floor_log2(magnitude: Fraction) -> int:
    """``floor(log2(magnitude))`` of a positive rational.

    >>> [floor_log2(Fraction(v)) for v in (0.25, 0.75, 1, 3, 4)]
    [-2, -1, 0, 1, 2]
    """
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return guess if TWO**guess <= magnitude else guess - 1


def require_rounding(rounding: Rounding) -> None:
    """Raise BadInput unless ties go to even or away from zero."""
    require_kind("rounding", rounding, Rounding)
    if rounding not in ROUNDINGS:
        raise BadInput(
            "float formats round half to even or half away from zero", got=rounding, fix="use one of these two"
        )
