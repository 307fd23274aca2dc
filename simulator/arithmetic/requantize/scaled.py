"""Parameters of the formulas that rescale by ``x_scale * w_scale / y_scale``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.fixed_point import wrap_int32
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import require_scale, require_zero_point
from simulator.arithmetic.requantize.parameters import as_float32, require_format, require_vector
from simulator.arithmetic.requantize.requantizer import TwoForms

f32 = np.float32


@dataclass(frozen=True, eq=False)
class Scaled(TwoForms):
    """Parameters of the formulas that rescale by ``x_scale * w_scale / y_scale``.

    Args:
        x_scale: activation scale, float32.
        w_scale: weight scale, float32 () per tensor or (channels,) per channel.
        y_scale: output scale, float32.
        zero_point: output zero point, a code of ``format``.
        format: output format, at most ``LARGEST_BITS`` wide.
        bias: (channels,), float32 in real units or int32 in units of ``x_scale * w_scale``: see each class.

    A Python float is rounded to float32 once. Two instances are equal only if they are the same object.

    Raises:
        BadInput: a scale, a product or a quotient of scales that is not positive and finite, a wrong dtype or shape,
            a format that is too wide, or a zero point outside it.
    """

    x_scale: np.float32 | float
    w_scale: np.ndarray | np.float32 | float
    y_scale: np.float32 | float
    zero_point: int = 0
    format: IntFormat = field(default=IntFormat(8))
    bias: np.ndarray | None = None

    BIAS: ClassVar[type] = np.int32

    def __post_init__(self) -> None:
        require_format(self.format, self.LARGEST_BITS)
        for name in ("x_scale", "w_scale", "y_scale"):
            scale = as_float32(name, getattr(self, name))
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
            require_vector("bias", self.bias, self.BIAS)
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
