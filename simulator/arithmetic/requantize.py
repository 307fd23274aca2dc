"""Requantizers: from the exact int32 sum of a contraction to output codes, as real kernels do it.

A sum ``acc`` of code products stands for the real number ``acc * x_scale * w_scale`` (+ bias). The output code is that
number over ``y_scale``, rounded, plus the zero point, clipped. Kernels differ in the order of these operations and in
where they round, so each class below is one kernel family's formula, in two forms: ``one``, plain Python with every
rounding written out (normative), and a call on an array, compiled, equal to it bit for bit.

Notation: ``f32`` rounds to float32; ``rint`` to the nearest integer, ties to even; ``ats = f32(x_scale * w_scale)``;
``zp`` is the zero point. ``w_scale`` of shape () is per tensor, of shape (channels,) per output channel. An integer
bias is in units of ``x_scale * w_scale``; ``acc + bias`` keeps the low 32 bits, as the int32 registers of kernels do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Protocol

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    fbgemm_multiplier,
    multiply_double_rounding,
    multiply_half_up_shift,
    multiply_single_rounding,
    multiply_two_step_half_up,
    quantize_multiplier,
    wrap_int32,
)
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.kernels import requantize as kernels
from simulator.arithmetic.quantizer import require_scale, require_zero_point
from simulator.arithmetic.rounding import Rounding, round_exact

f32 = np.float32


@dataclass(frozen=True)
class Requantized:
    """Output codes.

    Attributes:
        codes: in the format's dtype, the shape of the sums.
        saturated: how many codes clipping changed.
    """

    codes: np.ndarray
    saturated: int


class Requantizer(Protocol):
    """Turns int32 sums into codes of ``format``."""

    format: IntFormat

    def one(self, acc: int, channel: int = 0) -> tuple[int, bool]:
        """Code of one sum, and whether clipping changed it: the normative form."""
        ...

    def __call__(self, acc: np.ndarray) -> Requantized:
        """Codes of int32 sums (..., channels)."""
        ...


class _TwoForms(ABC):
    """What all formulas share: clip, count, and check the array of sums."""

    format: IntFormat

    @property
    @abstractmethod
    def channels(self) -> int | None:
        """Channels that the parameters fix, None if any number will do."""

    @abstractmethod
    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""

    @abstractmethod
    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        """Fill ``out`` from ``acc``, both (rows, channels); return the number of saturated codes."""

    def one(self, acc: int, channel: int = 0) -> tuple[int, bool]:
        """Code of one int32 sum, and whether clipping changed it: the normative form.

        Raises:
            BadInput: not an integer that fits int32, or no such channel.
        """
        if not (isinstance(acc, int | np.integer) and INT32_MIN <= acc <= INT32_MAX):
            raise BadInput(
                "acc must be an integer that fits int32", got=repr(acc), fix="keep the exact sum inside int32"
            )
        if channel < 0 or (self.channels is not None and channel >= self.channels):
            raise BadInput("channel must exist", got=channel, fix=f"this requantizer has {self.channels} channels")
        with np.errstate(over="ignore", under="ignore"):
            code = self.code(int(acc), channel)
        clipped = min(max(code, self.format.qmin), self.format.qmax)
        return clipped, clipped != code

    def __call__(self, acc: np.ndarray) -> Requantized:
        """Codes of sums, compiled; equal to ``one`` on every element.

        Args:
            acc: int32 (..., channels).

        Raises:
            BadInput: another dtype, no axis, or another number of channels than the scales and bias have.
        """
        if not isinstance(acc, np.ndarray) or acc.dtype != np.int32 or acc.ndim == 0:
            got = f"{acc.dtype} {acc.shape}" if isinstance(acc, np.ndarray) else type(acc).__name__
            raise BadInput("acc must be an int32 array (..., channels)", got=got, fix="accumulate in int32")
        if self.channels not in (None, acc.shape[-1]):
            raise BadInput(f"acc must have {self.channels} channels last", got=acc.shape, fix="move the channel axis")
        out = np.empty(acc.shape, self.format.dtype)
        if not acc.size:
            return Requantized(out, 0)
        rows = (-1, acc.shape[-1])
        with np.errstate(over="ignore", under="ignore"):
            saturated = self._run(np.ascontiguousarray(acc).reshape(rows), out.reshape(rows))
        return Requantized(out, int(saturated))


@dataclass(frozen=True, eq=False)
class _Scaled(_TwoForms):
    """Parameters of the formulas that rescale by ``x_scale * w_scale / y_scale``.

    Args:
        x_scale: activation scale, float32.
        w_scale: weight scale, float32 () per tensor or (channels,) per channel.
        y_scale: output scale, float32.
        zero_point: output zero point, a code of ``format``.
        format: output format, at most 8 bits.
        bias: (channels,), float32 in real units or int32 in units of ``x_scale * w_scale``: see each class.

    A Python float is rounded to float32 once. Two instances are equal only if they are the same object.

    Raises:
        BadInput: a scale, a product or a quotient of scales that is not positive and finite, a wrong dtype or shape,
            a format of more than 8 bits, or a zero point outside it.
    """

    x_scale: np.float32 | float
    w_scale: np.ndarray | np.float32 | float
    y_scale: np.float32 | float
    zero_point: int = 0
    format: IntFormat = field(default=IntFormat(8))
    bias: np.ndarray | None = None

    BIAS: ClassVar[type] = np.int32

    def __post_init__(self) -> None:
        _require_narrow(self.format)
        for name in ("x_scale", "w_scale", "y_scale"):
            scale = _as_float32(name, getattr(self, name))
            if scale.ndim > (name == "w_scale"):
                raise BadInput(
                    "x_scale and y_scale must be numbers, w_scale one number or (channels,)",
                    got=f"{name} of shape {scale.shape}",
                    fix="use one weight scale per output channel at most",
                )
            object.__setattr__(self, name, scale if name == "w_scale" else scale[()])
        zero = self.zero_point
        if isinstance(zero, bool) or not isinstance(zero, int | np.integer):
            raise BadInput("zero_point must be an integer", got=repr(zero), fix="give one code of the format")
        require_zero_point(int(zero), self.format)
        if self.bias is not None:
            _require_vector("bias", self.bias, self.BIAS)
            if self.weight_scales.ndim and self.bias.shape != self.weight_scales.shape:
                raise BadInput(
                    f"bias must have shape {self.weight_scales.shape}", got=self.bias.shape, fix="one value per channel"
                )
        with np.errstate(all="ignore"):
            ats = self._ats()
            derived = np.concatenate([np.atleast_1d(v) for v in (ats, f32(1) / ats, ats / self.y_scale)])
        require_scale(derived)
        require_scale(f32(1) / f32(self.y_scale))
        self._require_multipliers()

    @property
    def weight_scales(self) -> np.ndarray:
        """``w_scale`` as a float32 array."""
        return np.asarray(self.w_scale, f32)

    @property
    def channels(self) -> int | None:
        """Number of channels that scales or bias fix."""
        if self.weight_scales.ndim:
            return self.weight_scales.size
        return None if self.bias is None else self.bias.size

    def _require_multipliers(self) -> None:
        """Further conditions of one formula."""

    def _ats(self) -> np.ndarray:
        return f32(self.x_scale) * self.weight_scales

    def _scales(self, channel: int) -> tuple[np.float32, np.float32, np.float32]:
        """Scales of one channel, as float32 scalars."""
        w_scale = self.weight_scales
        return f32(self.x_scale), f32(w_scale[channel] if w_scale.ndim else w_scale), f32(self.y_scale)

    def _with_integer_bias(self, acc: int, channel: int) -> int:
        return acc if self.bias is None else wrap_int32(acc + int(self.bias[channel]))

    def _biases(self, channels: int) -> np.ndarray:
        return np.zeros(channels, self.BIAS) if self.bias is None else np.ascontiguousarray(self.bias)

    def _edge(self) -> tuple[int, int, int]:
        return int(self.zero_point), self.format.qmin, self.format.qmax


class FbgemmRequantizer(_Scaled):
    """FBGEMM: ``rint(f32(f32(f32(acc) + b) * f32(ats / y_scale))) + zp``, float bias.

    ``b = f32(bias * f32(1 / ats))`` per tensor and ``f32(bias / ats)`` per channel. The conversion is that of x86: a
    value outside int32 becomes INT32_MIN, whatever its sign; then int16 saturation, zero point, clipping.
    """

    BIAS = np.float32

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        x_scale, w_scale, y_scale = self._scales(channel)
        ats = x_scale * w_scale
        total = f32(acc)
        if self.bias is not None:
            bias = f32(self.bias[channel])
            total = total + (bias / ats if self.weight_scales.ndim else bias * (f32(1) / ats))
        return _convert_x86(total * (ats / y_scale)) + int(self.zero_point)

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels, ats = acc.shape[1], self._ats()
        bias = self._biases(channels)
        shifted = bias / ats if ats.ndim else bias * (f32(1) / ats)
        multiplier = _spread(ats / self.y_scale, channels)
        return kernels.float_bias_in_accumulator(acc, shifted, multiplier, *self._edge(), out)


class QnnpackRequantizer(_Scaled):
    """QNNPACK: ``rint(f32(f32(acc + b) * f32(ats / y_scale))) + zp``, float bias quantized to int32 first.

    ``b = rint(f32(bias * f32(1 / ats)))``, saturated to int32. Conversion and packing as in FBGEMM.
    """

    BIAS = np.float32

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        x_scale, w_scale, y_scale = self._scales(channel)
        ats = x_scale * w_scale
        if self.bias is not None:
            acc = wrap_int32(acc + _saturate_int32(f32(self.bias[channel]) * (f32(1) / ats)))
        return _convert_x86(f32(acc) * (ats / y_scale)) + int(self.zero_point)

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels, ats = acc.shape[1], self._ats()
        steps = np.rint(self._biases(channels) * (f32(1) / ats)).astype(np.float64)
        bias = np.clip(steps, INT32_MIN, INT32_MAX).astype(np.int32)
        multiplier = _spread(ats / self.y_scale, channels)
        return kernels.integer_bias_packed(acc, bias, multiplier, *self._edge(), out)


class OnednnRequantizer(_Scaled):
    """oneDNN: ``rint(f32(f32(f32(f32(f32(acc) * ats) + bias) * f32(1 / y_scale)) + zp))``, float bias.

    The zero point is added in float32 before rounding, so a tie goes to the even code rather than the even step.
    """

    BIAS = np.float32

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        x_scale, w_scale, y_scale = self._scales(channel)
        real = f32(acc) * (x_scale * w_scale)
        if self.bias is not None:
            real = real + f32(self.bias[channel])
        return _saturate_int32(real * (f32(1) / y_scale) + f32(self.zero_point))

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels = acc.shape[1]
        scale, inverse = _spread(self._ats(), channels), f32(1) / f32(self.y_scale)
        return kernels.zero_point_before_rounding(acc, scale, self._biases(channels), inverse, *self._edge(), out)


class OnnxRuntimeRequantizer(_Scaled):
    """ONNX Runtime QLinear operators: ``rint(f32(f32(acc + bias) * f32(ats / y_scale))) + zp``, int32 bias."""

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        x_scale, w_scale, y_scale = self._scales(channel)
        multiplier = (x_scale * w_scale) / y_scale
        return _saturate_int32(f32(self._with_integer_bias(acc, channel)) * multiplier) + int(self.zero_point)

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels = acc.shape[1]
        multiplier = _spread(self._ats() / self.y_scale, channels)
        return kernels.integer_bias_saturating(acc, self._biases(channels), multiplier, *self._edge(), out)


class XnnpackRequantizer(OnnxRuntimeRequantizer):
    """XNNPACK under TensorFlow Lite: the same function as ONNX Runtime's, int32 bias.

    It clamps to the output range before it rounds; the bounds are integers, so no code changes.
    """


class TfliteFullyConnectedRequantizer(_Scaled):
    """TensorFlow Lite's reference FULLY_CONNECTED: ``round_half_away(f64(acc + bias) * m) + zp``, int32 bias.

    ``m = f64(f64(x_scale * w_scale) / y_scale)``; the product of two float32 is exact in float64. A value outside int32
    is undefined in the C source and saturates here.
    Source: LiteRT ``kernels/internal/reference/integer_ops/fully_connected.h``, the overload that takes scales.
    """

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        x_scale, w_scale, y_scale = (float(scale) for scale in self._scales(channel))
        value = float(self._with_integer_bias(acc, channel)) * (x_scale * w_scale / y_scale)
        return round_exact(Fraction(value), Rounding.HALF_AWAY) + int(self.zero_point)

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels = acc.shape[1]
        scale = _spread(_double_multipliers(self), channels)
        return kernels.double_half_away(acc, self._biases(channels), scale, *self._edge(), out)


class _FixedPoint(_Scaled):
    """A multiplier and a shift per channel; int32 bias. ``m`` is that of :class:`TfliteFullyConnectedRequantizer`."""

    _kernel: ClassVar[Any]

    def _require_multipliers(self) -> None:
        self._multipliers(self.weight_scales.size)

    def _multiplier(self, channel: int) -> tuple[int, int]:
        x_scale, w_scale, y_scale = (float(scale) for scale in self._scales(channel))
        return quantize_multiplier(x_scale * w_scale / y_scale)

    def _multipliers(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        one_each = [self._multiplier(channel) for channel in range(self.weight_scales.size)]
        multiplier, shift = np.array(one_each, np.int64).reshape(-1, 2).T
        return _spread(multiplier, channels), _spread(shift, channels)

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels = acc.shape[1]
        multiplier, shift = self._multipliers(channels)
        return type(self)._kernel(acc, self._biases(channels), multiplier, shift, *self._edge(), out)


class GemmlowpRequantizer(_FixedPoint):
    """TensorFlow Lite's reference CONV_2D, gemmlowp's double rounding.

    ``multiply_double_rounding(acc + bias, *quantize_multiplier(m)) + zp``.
    """

    _kernel = staticmethod(kernels.fixed_point_double)

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        total = self._with_integer_bias(acc, channel)
        return multiply_double_rounding(total, *self._multiplier(channel)) + int(self.zero_point)


class RuyRequantizer(_FixedPoint):
    """TensorFlow Lite without delegates on x86 (ruy): two half-up roundings.

    ``multiply_two_step_half_up(acc + bias, *quantize_multiplier(m)) + zp``.
    """

    _kernel = staticmethod(kernels.fixed_point_two_step)

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        total = self._with_integer_bias(acc, channel)
        return multiply_two_step_half_up(total, *self._multiplier(channel)) + int(self.zero_point)


class SingleRoundingRequantizer(_FixedPoint):
    """TensorFlow Lite built with ``TFLITE_SINGLE_ROUNDING``.

    ``multiply_single_rounding(acc + bias, *quantize_multiplier(m)) + zp``.
    """

    _kernel = staticmethod(kernels.fixed_point_once)

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        total = self._with_integer_bias(acc, channel)
        return multiply_single_rounding(total, *self._multiplier(channel)) + int(self.zero_point)

    def _multipliers(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        multiplier, shift = super()._multipliers(channels)
        return multiplier, 31 - shift


class FbgemmFixedPointRequantizer(_FixedPoint):
    """FBGEMM's fixed-point path: one half-up rounding in 64 bits of a float32 multiplier.

    ``multiply_half_up_shift(acc + bias, *fbgemm_multiplier(f32(ats / y_scale))) + zp``.
    """

    _kernel = staticmethod(kernels.fixed_point_once)

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        total = self._with_integer_bias(acc, channel)
        return multiply_half_up_shift(total, *self._multiplier(channel)) + int(self.zero_point)

    def _multiplier(self, channel: int) -> tuple[int, int]:
        x_scale, w_scale, y_scale = self._scales(channel)
        return fbgemm_multiplier(float((x_scale * w_scale) / y_scale))


@dataclass(frozen=True, eq=False)
class CutlassRequantizer(_TwoForms):
    """CUTLASS LinearCombinationClamp, float32 compute: ``rint(fma(alpha, f32(acc), f32(beta * C)))``.

    The multiply-add rounds once: nvcc contracts ``a * b + c`` by default. No zero point.

    Args:
        alpha: float32 () or (channels,), typically ``x_scale * w_scale / y_scale``; positive.
        beta: float32, finite.
        source: C, codes in the output's dtype, (channels,) (a row that all rows share), or None.
        format: output format, at most 8 bits.

    Raises:
        BadInput: wrong dtype or shape, alpha not positive and finite, beta not finite, a format of more than 8 bits.
    """

    alpha: np.ndarray | np.float32 | float
    beta: np.float32 | float = 0.0
    source: np.ndarray | None = None
    format: IntFormat = field(default=IntFormat(8))

    def __post_init__(self) -> None:
        _require_narrow(self.format)
        alpha, beta = _as_float32("alpha", self.alpha), _as_float32("beta", self.beta)
        if alpha.ndim > 1 or beta.ndim:
            raise BadInput(
                "alpha must be one number or (channels,), beta one number",
                got=f"{alpha.shape} and {beta.shape}",
                fix="reshape them",
            )
        require_scale(alpha)
        if not abs(beta) <= 2.0**100:
            raise BadInput("beta must be finite and at most 2^100", got=beta, fix="rescale the source")
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "beta", beta[()])
        if self.source is not None:
            _require_vector("source", self.source, self.format.dtype)
            if alpha.ndim and self.source.shape != alpha.shape:
                raise BadInput(f"source must have shape {alpha.shape}", got=self.source.shape, fix="one per channel")

    @property
    def channels(self) -> int | None:
        """Number of channels that alpha or the source fix."""
        sized = [a.size for a in (np.asarray(self.alpha), self.source) if a is not None and a.ndim]
        return sized[0] if sized else None

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        alphas = np.asarray(self.alpha, f32)
        alpha = f32(alphas[channel] if alphas.ndim else alphas)
        addend = f32(0) if self.source is None else f32(self.beta) * f32(self.source[channel])
        exact = Fraction(float(alpha)) * Fraction(float(f32(acc))) + Fraction(float(addend))
        return _saturate_int32(nearest_float32(exact))

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels = acc.shape[1]
        source = np.zeros(channels, f32) if self.source is None else self.source.astype(f32)
        alpha, addend = _spread(np.asarray(self.alpha, f32), channels), f32(self.beta) * source
        return kernels.linear_combination(acc, alpha, addend, self.format.qmin, self.format.qmax, out)


REQUANTIZERS: dict[str, type[_Scaled] | type[CutlassRequantizer]] = {
    "fbgemm": FbgemmRequantizer,
    "fbgemm-fixed-point": FbgemmFixedPointRequantizer,
    "qnnpack": QnnpackRequantizer,
    "onednn": OnednnRequantizer,
    "onnxruntime": OnnxRuntimeRequantizer,
    "tflite-conv": GemmlowpRequantizer,
    "tflite-fully-connected": TfliteFullyConnectedRequantizer,
    "tflite-ruy": RuyRequantizer,
    "tflite-single-rounding": SingleRoundingRequantizer,
    "tflite-xnnpack": XnnpackRequantizer,
    "cutlass": CutlassRequantizer,
}
"""Every requantizer by name."""


def nearest_float32(value: Fraction) -> np.float32:
    """The float32 nearest to an exact rational, ties to even; infinity beyond the largest."""
    if not value:
        return f32(0)
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent
    step = Fraction(2) ** max(exponent - 23, -149)
    return f32(float(round(value / step) * step))


def _convert_x86(value: np.float32) -> int:
    """``cvtps2dq`` (nearest even, INT32_MIN for what does not fit), then saturated to int16."""
    code = round(float(value)) if -(2.0**31) <= np.rint(value) < 2.0**31 else INT32_MIN
    return min(max(code, -(1 << 15)), (1 << 15) - 1)


def _saturate_int32(value: np.float32) -> int:
    """Nearest even, saturated to int32."""
    return round(min(max(float(value), float(INT32_MIN)), float(INT32_MAX)))


def _double_multipliers(scaled: _Scaled) -> np.ndarray:
    return np.float64(scaled.x_scale) * scaled.weight_scales.astype(np.float64) / np.float64(scaled.y_scale)


def _spread(values: np.ndarray, channels: int) -> np.ndarray:
    """One value per channel, contiguous."""
    return np.ascontiguousarray(np.broadcast_to(values, (channels,)))


def _as_float32(name: str, value: object) -> np.ndarray:
    """A Python number rounded to float32, or a float32 array as it is; positive and finite unless it is beta."""
    if isinstance(value, int | float) and not isinstance(value, bool | np.floating):
        with np.errstate(over="ignore"):
            value = f32(value)
    if not isinstance(value, np.ndarray | np.float32) or value.dtype != f32:
        got = value.dtype if isinstance(value, np.ndarray | np.generic) else type(value).__name__
        raise BadInput(
            f"{name} must be float32 or a Python number", got=got, fix="convert it, so the rounding is yours"
        )
    if value.ndim and not value.size:
        raise BadInput(f"{name} must hold at least one value", got=value.shape, fix="give one per channel")
    if name != "beta":
        require_scale(value)
    return np.ascontiguousarray(value) if value.ndim else np.asarray(value)


def _require_vector(name: str, value: object, dtype: np.dtype | type) -> None:
    wanted = np.dtype(dtype)
    if not isinstance(value, np.ndarray) or value.dtype != wanted or value.ndim != 1 or not value.size:
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise BadInput(f"{name} must be a {wanted} array (channels,)", got=got, fix="one value per output channel")
    if wanted.kind == "f" and not np.all(np.isfinite(value)):
        raise BadInput(f"{name} must be finite", got=value[~np.isfinite(value)][0], fix="check it for NaN or inf")


def _require_narrow(format: object) -> None:
    if not isinstance(format, IntFormat) or format.bits > 8:
        raise BadInput("format must be an IntFormat of at most 8 bits", got=format, fix="requantize to 8 bits or fewer")
