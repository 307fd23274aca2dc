"""Quantize rules of real kernels: the same scale and zero point, other codes.

A rule turns a float32 ``x`` into a code of a format, given a float32 ``scale`` and an integer ``zero_point``. Kernels
differ in four places, and a :class:`QuantizeRule` is a value with one field for each: quotient or product with the
reciprocal, where the zero point is added, how large numbers and NaN become integers, and the rounding modes it has.
:meth:`QuantizeRule.code` is the normative scalar form; ``kernels/rules.py`` holds its compiled twin, equal bit for bit.

Notation: ``f32`` rounds to float32 (ties to even, subnormals kept), ``inv = f32(1 / scale)``, ``round`` is the spec's
mode and ``rint`` is ties to even. Every rule clips to ``[qmin, qmax]`` last.

===========================  ==========================================  =============  ==========  ==========
rule                         code before clipping                        NaN            +inf        -inf
===========================  ==========================================  =============  ==========  ==========
``DIVIDE``                   ``round(f32(x / scale)) + zp``              qmin           qmax        qmin
``TORCH_PER_TENSOR``         ``rint(f32(x inv + zp))``, rounded once     qmax           qmax        qmin
``TORCH_PER_CHANNEL``        ``rint(f32(f32(x inv) + zp))``              0              qmax        qmin
``TORCH_FAKE``               ``rint(f32(x inv)) + zp``                   qmin           qmax        qmin
``TORCH_FAKE_PER_CHANNEL``   ``rint(f32(x inv)) + zp``                   qmin           qmin        qmin
``TORCHAO``                  ``rint(f32(x inv)) + zp``                   0              qmax        qmin
``ONNXRUNTIME_BLOCKED``      ``int32(rint(f32(x / scale))) + zp``         BY_ZERO_POINT  as NaN      as NaN
``TFLITE``                   ``int32(half_away(f32(x / scale))) + zp``   BY_ZERO_POINT  as NaN      as NaN
``BREVITAS``                 ``round(f32(f32(x / scale) + zp))``         0              qmax        qmin
===========================  ==========================================  =============  ==========  ==========

(A test holds the special values.) The way back is one formula for all, ``f32(q - zp) * scale`` in float32. torch per
channel and TensorFlow Lite compute ``f32((q - zp) * scale)`` in float64: the same bits, because a difference of 17
bits times 24 bits is exact in float64, and so is rounded once either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.fixed_point import INT32_MAX, INT32_MIN, wrap_int32
from simulator.arithmetic.float_formats import FLOAT32
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.rounding import Rounding, round_exact

f32 = np.float32


class ZeroPoint(Enum):
    """Where the zero point is added. Values are the codes that the kernels switch on."""

    AFTER = 0
    """To the rounded integer, exactly."""
    BEFORE = 1
    """To the float32 quotient, rounded to float32 again."""
    FUSED = 2
    """In one fused multiply-add with the reciprocal: one rounding to float32 for both."""


class Conversion(Enum):
    """What becomes of a rounded number that no machine integer holds. Values are the codes that the kernels switch on.

    It decides the infinities too.
    """

    SATURATE = 0
    """It saturates by its sign: clamped before it is converted, or converted with saturation."""
    INT64 = 1
    """``cvttss2si`` to 64 bits: outside ``[-2**63, 2**63)`` the code is qmin, whatever the sign."""
    INT32 = 2
    """``cvttss2si`` to 32 bits: outside ``[-2**31, 2**31)``, and for NaN, it is ``-2**31``; the zero point is added
    modulo ``2**32``."""


class Special(Enum):
    """The code of a special value. Values are the codes that the kernels switch on."""

    QMIN = 0
    """The format's smallest code."""
    QMAX = 1
    """The format's largest code."""
    ZERO = 2
    """Code 0, whatever the zero point."""
    BY_ZERO_POINT = 3
    """qmin; with a negative zero point the int32 sum wraps, and it is qmax."""


@dataclass(frozen=True)
class QuantizeRule:
    """How a float32 becomes a code (table in the module's docstring).

    Args:
        name: its key in :data:`QUANTIZE_RULES`.
        peer: whose bits it reproduces, and how that is known.
        divides: ``f32(x / scale)`` if true, else a product with ``f32(1 / scale)``.
        zero_point: where the zero point is added.
        conversion: what becomes of numbers that no integer holds.
        nan: the code of NaN.
        roundings: the modes it may be used with.

    Raises:
        BadInput: a fused zero point with a division, a zero point added before an integer conversion, or a NaN that the
            conversion does not give.
    """

    name: str
    peer: str
    divides: bool
    zero_point: ZeroPoint = ZeroPoint.AFTER
    conversion: Conversion = Conversion.SATURATE
    nan: Special = Special.QMIN
    roundings: tuple[Rounding, ...] = (Rounding.HALF_EVEN,)

    def __post_init__(self) -> None:
        if self.divides and self.zero_point is ZeroPoint.FUSED:
            raise BadInput(
                "a fused multiply-add takes the reciprocal", got="divides=True", fix="use ZeroPoint.BEFORE to divide"
            )
        if self.conversion is not Conversion.SATURATE and self.zero_point is not ZeroPoint.AFTER:
            raise BadInput(
                "an integer conversion comes before the zero point", got=self.zero_point, fix="use ZeroPoint.AFTER"
            )
        if (self.conversion is Conversion.INT32) is not (self.nan is Special.BY_ZERO_POINT):
            raise BadInput(
                "NaN is BY_ZERO_POINT exactly where the conversion is to int32",
                got=f"{self.conversion} and {self.nan}",
                fix="make them agree",
            )

    @property
    def positive_infinity(self) -> Special:
        """Code of +inf and of numbers beyond the conversion's range."""
        return {Conversion.SATURATE: Special.QMAX, Conversion.INT64: Special.QMIN}.get(
            self.conversion, Special.BY_ZERO_POINT
        )

    @property
    def negative_infinity(self) -> Special:
        """Code of -inf and of numbers below the conversion's range."""
        return Special.BY_ZERO_POINT if self.conversion is Conversion.INT32 else Special.QMIN

    def code(
        self,
        x: float | np.float32,
        scale: float | np.float32,
        zero_point: int,
        format: IntFormat,
        rounding: Rounding = Rounding.HALF_EVEN,
        word: int = 0,
    ) -> tuple[int, bool]:
        """Code of one float32, and whether it counts as clipped: the normative form.

        Clipped is a result outside ``[qmin, qmax]`` before clipping, NaN included.

        Args:
            x: a float32 number, infinity or NaN.
            scale: positive float32.
            zero_point: a code of ``format``.
            format: the code format.
            rounding: one of the rule's.
            word: 32 random bits, for stochastic rounding.

        >>> TORCH_FAKE.code(1.5, 1.0, 1, IntFormat(8)), TORCH_PER_TENSOR.code(1.5, 1.0, 1, IntFormat(8))
        ((3, False), (2, False))
        """
        real = self._real(f32(x), f32(scale), zero_point)
        zero = zero_point if self.zero_point is ZeroPoint.AFTER else 0
        number = round_exact(Fraction(float(real)), rounding, word) if np.isfinite(real) else None
        if self.conversion is Conversion.INT32:
            fits = number is not None and INT32_MIN <= number <= INT32_MAX
            return _clip(wrap_int32((number if fits and number is not None else INT32_MIN) + zero), format)
        if np.isnan(real):
            return {Special.QMIN: format.qmin, Special.QMAX: format.qmax}.get(self.nan, 0), True
        if self.conversion is Conversion.INT64 and not (number is not None and -(2**63) <= number < 2**63):
            return format.qmin, True
        if number is None:
            return (format.qmax if real > 0 else format.qmin), True
        return _clip(number + zero, format)

    def _real(self, x: np.float32, scale: np.float32, zero_point: int) -> np.float32:
        """The float32 that is rounded to an integer."""
        with np.errstate(all="ignore"):
            inverse = f32(1) / scale
            if self.zero_point is ZeroPoint.FUSED:
                return multiply_add_exact(x, inverse, f32(zero_point))
            quotient = x / scale if self.divides else x * inverse
            return quotient + f32(zero_point) if self.zero_point is ZeroPoint.BEFORE else quotient

    def __str__(self) -> str:
        return self.name


def multiply_add_exact(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """``f32(a b + c)``, the exact rational rounded once; IEEE 754 rules where an operand is not finite."""
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)):
        return f32(float(a) * float(b) + float(c))
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    return f32(FLOAT32.decode_exact(FLOAT32.encode_exact(exact)))


def _clip(code: int, format: IntFormat) -> tuple[int, bool]:
    inside = min(max(code, format.qmin), format.qmax)
    return inside, inside != code


DIVIDE = QuantizeRule(
    "divide",
    "ONNX QuantizeLinear and, but for blocks, ONNX Runtime, with ties to even; the project's own, with any rounding",
    divides=True,
    roundings=tuple(Rounding),
)
"""The default."""
ONNXRUNTIME_BLOCKED = QuantizeRule(
    "onnxruntime_blocked",
    "ONNX Runtime QuantizeLinear on x86, blocked (all types) and along the last axis to 4 bits: not saturating",
    divides=True,
    conversion=Conversion.INT32,
    nan=Special.BY_ZERO_POINT,
)
TORCH_PER_TENSOR = QuantizeRule(
    "torch_per_tensor",
    "torch.quantize_per_tensor to quint8 and qint8 on x86 (FBGEMM)",
    divides=False,
    zero_point=ZeroPoint.FUSED,
    nan=Special.QMAX,
)
TORCH_PER_CHANNEL = QuantizeRule(
    "torch_per_channel",
    "torch.quantize_per_channel to quint8 and qint8 on x86",
    divides=False,
    zero_point=ZeroPoint.BEFORE,
    nan=Special.ZERO,
)
TORCH_FAKE = QuantizeRule("torch_fake", "torch.fake_quantize_per_tensor_affine", divides=False)
TORCH_FAKE_PER_CHANNEL = QuantizeRule(
    "torch_fake_per_channel",
    "torch.fake_quantize_per_channel_affine, which sends +inf and quotients from 2**63 on to qmin",
    divides=False,
    conversion=Conversion.INT64,
)
TORCHAO = QuantizeRule(
    "torchao", "torchao quantize_affine of float32 to int8 and uint8", divides=False, nan=Special.ZERO
)
TFLITE = QuantizeRule(
    "tflite",
    "TensorFlow Lite reference AffineQuantize, compiled for x86 (kernels/internal/reference/quantize.h)",
    divides=True,
    conversion=Conversion.INT32,
    nan=Special.BY_ZERO_POINT,
    roundings=(Rounding.HALF_AWAY,),
)
BREVITAS = QuantizeRule(
    "brevitas",
    "Brevitas IntQuant; its NaN stays NaN until it is cast to an integer, which gives 0 on x86",
    divides=True,
    zero_point=ZeroPoint.BEFORE,
    nan=Special.ZERO,
    roundings=(Rounding.HALF_EVEN, Rounding.FLOOR, Rounding.CEIL, Rounding.TOWARD_ZERO),
)

QUANTIZE_RULES: dict[str, QuantizeRule] = {
    rule.name: rule
    for rule in (
        DIVIDE,
        ONNXRUNTIME_BLOCKED,
        TORCH_PER_TENSOR,
        TORCH_PER_CHANNEL,
        TORCH_FAKE,
        TORCH_FAKE_PER_CHANNEL,
        TORCHAO,
        TFLITE,
        BREVITAS,
    )
}
"""Every named rule."""
