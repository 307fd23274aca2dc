"""Requantizers whose scale is a fixed-point number, a multiplier and a shift: TensorFlow Lite and FBGEMM."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from simulator.arithmetic.fixed_point import (
    fbgemm_multiplier,
    multiply_double_rounding,
    multiply_half_up_shift,
    multiply_single_rounding,
    multiply_two_step_half_up,
    quantize_multiplier,
)
from simulator.arithmetic.kernels import requantize as kernels
from simulator.arithmetic.requantize.parameters import spread
from simulator.arithmetic.requantize.scaled import Scaled


class _FixedPoint(Scaled):
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
        return spread(multiplier, channels), spread(shift, channels)

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
