"""Requantizers whose scale is one floating-point number: FBGEMM, QNNPACK, oneDNN, ONNX Runtime, XNNPACK, TFLite."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from simulator.arithmetic.fixed_point import INT32_MAX, INT32_MIN, wrap_int32
from simulator.arithmetic.kernels import requantize as kernels
from simulator.arithmetic.requantize.conversion import convert_x86, saturate_int32
from simulator.arithmetic.requantize.parameters import spread
from simulator.arithmetic.requantize.scaled import Scaled
from simulator.arithmetic.rounding import Rounding, round_exact

f32 = np.float32


class FbgemmRequantizer(Scaled):
    """FBGEMM: ``rint(f32(f32(f32(acc) + b) * f32(ats / y_scale))) + zp``, float bias.

    ``b = f32(bias * f32(1 / ats))`` per tensor and ``f32(bias / ats)`` per channel. The conversion is that of x86: a
    value outside int32 becomes INT32_MIN, whatever its sign; then int16 saturation, zero point, clipping. The packing
    through int16 makes 8 bits the widest output.
    """

    BIAS = np.float32
    LARGEST_BITS = 8

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        x_scale, w_scale, y_scale = self._scales(channel)
        ats = x_scale * w_scale
        total = f32(acc)
        if self.bias is not None:
            bias = f32(self.bias[channel])
            total = total + (bias / ats if self.weight_scales.ndim else bias * (f32(1) / ats))
        return convert_x86(total * (ats / y_scale)) + int(self.zero_point)

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels, ats = acc.shape[1], self._ats()
        bias = self._biases(channels)
        shifted = bias / ats if ats.ndim else bias * (f32(1) / ats)
        multiplier = spread(ats / self.y_scale, channels)
        return kernels.float_bias_in_accumulator(acc, shifted, multiplier, *self._edge(), out)


class QnnpackRequantizer(Scaled):
    """QNNPACK: ``rint(f32(f32(acc + b) * f32(ats / y_scale))) + zp``, float bias quantized to int32 first.

    ``b = rint(f32(bias * f32(1 / ats)))``, saturated to int32. Conversion and packing as in FBGEMM.
    """

    BIAS = np.float32
    LARGEST_BITS = 8

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        x_scale, w_scale, y_scale = self._scales(channel)
        ats = x_scale * w_scale
        if self.bias is not None:
            acc = wrap_int32(acc + saturate_int32(f32(self.bias[channel]) * (f32(1) / ats)))
        return convert_x86(f32(acc) * (ats / y_scale)) + int(self.zero_point)

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels, ats = acc.shape[1], self._ats()
        steps = np.rint(self._biases(channels) * (f32(1) / ats)).astype(np.float64)
        bias = np.clip(steps, INT32_MIN, INT32_MAX).astype(np.int32)
        multiplier = spread(ats / self.y_scale, channels)
        return kernels.integer_bias_packed(acc, bias, multiplier, *self._edge(), out)


class OnednnRequantizer(Scaled):
    """oneDNN: ``rint(f32(f32(f32(f32(f32(f32(acc) * x_scale) * w_scale) + bias) * f32(1 / y_scale)) + zp))``.

    Float bias. The two scales multiply the sum one after the other, so ``ats`` plays no part. The zero point is added
    in float32 before rounding: a tie goes to the even code rather than the even step. torch's linear layer on this
    engine hands oneDNN ``f32(1 / f32(1 / w_scale))`` per channel, which can be the neighbouring float32.
    """

    BIAS = np.float32

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        x_scale, w_scale, y_scale = self._scales(channel)
        real = f32(acc) * x_scale * w_scale
        if self.bias is not None:
            real = real + f32(self.bias[channel])
        return saturate_int32(real * (f32(1) / y_scale) + f32(self.zero_point))

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels = acc.shape[1]
        scale, inverse = spread(self.weight_scales, channels), f32(1) / f32(self.y_scale)
        x_scale, bias = f32(self.x_scale), self._biases(channels)
        return kernels.zero_point_before_rounding(acc, x_scale, scale, bias, inverse, *self._edge(), out)


class OnnxRuntimeRequantizer(Scaled):
    """ONNX Runtime QLinear operators: ``rint(f32(f32(acc + bias) * f32(ats / y_scale))) + zp``, int32 bias."""

    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""
        x_scale, w_scale, y_scale = self._scales(channel)
        multiplier = (x_scale * w_scale) / y_scale
        return saturate_int32(f32(self._with_integer_bias(acc, channel)) * multiplier) + int(self.zero_point)

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels = acc.shape[1]
        multiplier = spread(self._ats() / self.y_scale, channels)
        return kernels.integer_bias_saturating(acc, self._biases(channels), multiplier, *self._edge(), out)


class XnnpackRequantizer(OnnxRuntimeRequantizer):
    """XNNPACK under TensorFlow Lite: the same function as ONNX Runtime's, int32 bias.

    It clamps to the output range before it rounds; the bounds are integers, so no code changes.
    """


class TfliteFullyConnectedRequantizer(Scaled):
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
        scale = spread(_double_multipliers(self), channels)
        return kernels.double_half_away(acc, self._biases(channels), scale, *self._edge(), out)


def _double_multipliers(scaled: Scaled) -> np.ndarray:
    return np.float64(scaled.x_scale) * scaled.weight_scales.astype(np.float64) / np.float64(scaled.y_scale)
