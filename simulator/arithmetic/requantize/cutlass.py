"""CUTLASS: a fused multiply-add of sum and source, rounded and clamped."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.kernels import requantize as kernels
from simulator.arithmetic.requantize.conversion import nearest_float32, saturate_int32
from simulator.arithmetic.requantize.parameters import as_float32, require_format, require_vector, spread
from simulator.arithmetic.requantize.requantizer import TwoForms

f32 = np.float32


@dataclass(frozen=True, eq=False)
class CutlassRequantizer(TwoForms):
    """CUTLASS LinearCombinationClamp, float32 compute: ``rint(fma(alpha, f32(acc), f32(beta * C)))``.

    The multiply-add rounds once: nvcc contracts ``a * b + c`` by default. No zero point.

    Args:
        alpha: float32 () or (channels,), typically ``x_scale * w_scale / y_scale``; positive.
        beta: float32, finite.
        source: C, codes in the output's dtype, (channels,) (a row that all rows share), or None.
        format: output format.

    Raises:
        BadInput: wrong dtype or shape, alpha not positive and finite, beta not finite or beyond 2^100.
    """

    alpha: np.ndarray | np.float32 | float
    beta: np.float32 | float = 0.0
    source: np.ndarray | None = None
    format: IntFormat = field(default=IntFormat(8))

    def __post_init__(self) -> None:
        require_format(self.format, self.LARGEST_BITS)
        alpha, beta = as_float32("alpha", self.alpha), as_float32("beta", self.beta, positive=False)
        if alpha.ndim > 1 or beta.ndim:
            raise BadInput(
                "alpha must be one number or (channels,), beta one number",
                got=f"{alpha.shape} and {beta.shape}",
                fix="reshape them",
            )
        if not abs(beta) <= 2.0**100:
            raise BadInput("beta must be at most 2^100", got=beta, fix="rescale the source")
        object.__setattr__(self, "alpha", alpha)
        object.__setattr__(self, "beta", beta[()])
        if self.source is not None:
            require_vector("source", self.source, self.format.dtype)
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
        return saturate_int32(nearest_float32(exact))

    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        channels = acc.shape[1]
        source = np.zeros(channels, f32) if self.source is None else self.source.astype(f32)
        alpha, addend = spread(np.asarray(self.alpha, f32), channels), f32(self.beta) * source
        return kernels.linear_combination(acc, alpha, addend, self.format.qmin, self.format.qmax, out)
