"""Rounding with a gradient: the straight-through estimator, and a quantizer whose scale is learned (LSQ).

Forward values are those of the engine's quantize rule, ``clip(round(x / scale) + zero_point, qmin, qmax)`` in float32,
back to real values by one float32 product; so what is trained here quantizes to the same codes there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _RoundThrough(torch.autograd.Function):
    """x + (round(x) - x) would round twice, and miss the integer by an ulp for large x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def round_through(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes as if nothing had been rounded (Bengio et al. 2013)."""
    return _RoundThrough.apply(x)  # type: ignore[no-any-return]  # apply has no types


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
    """Real values of the codes of ``x``.

    Gradients: 1 to ``x`` where its code was not clipped, 0 elsewhere; to ``scale`` round(v) - v with v = x / scale
    inside, and the end's code minus the zero point outside (LSQ, Esser et al. 2020, eq. 3); to ``zero_point`` 0 inside
    and -scale outside. No gradient is scaled here.

    Args:
        x: float32.
        scale: float32, positive, broadcast against x.
        zero_point: float32, broadcast against x; rounded with a gradient of 1, so it may be learned.
        qmin: lowest code.
        qmax: highest code.
    """
    zero = round_through(zero_point)
    codes = torch.clamp(round_through(x / scale) + zero, qmin, qmax)
    return (codes - zero) * scale


def gradient_scale(x: Tensor, factor: float) -> Tensor:
    """``x`` itself to the bit, with its gradient multiplied by ``factor``."""
    return _ScaleGradient.apply(x, factor)  # type: ignore[no-any-return]  # apply has no types
