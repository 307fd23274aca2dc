"""What stands in for a quantizer while it is trained: engine values, or noise, with the gradients of each paper.

All take float tensors; scale and zero point broadcast against x. ``features`` is LSQ's N, the elements that one scale
serves in one sample; the gradients of scale and zero point are multiplied by 1 / sqrt(N Q_p), which changes no value.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from simulator.calibration.rounding_gradient import fake_quantize, gradient_scale, round_through


def learned_step(x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, features: int) -> Tensor:
    """LSQ (Esser et al. 2020): :func:`fake_quantize` under the paper's gradient scale.

    Per element, before that factor: to ``scale`` round(x / s) - x / s inside, qmin - z below and qmax - z above.
    """
    factor = 1.0 / math.sqrt(features * qmax)
    return fake_quantize(x, gradient_scale(scale, factor), gradient_scale(zero_point, factor), qmin, qmax)


def noisy_step(
    x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, features: int, noise: Tensor
) -> Tensor:
    """NIPQ (Shin et al. 2023): clip to the range of the codes, then add ``scale * noise``, noise in [-1/2, 1/2).

    Gradients are those of the formula; only the zero point is rounded, straight through.
    """
    factor = 1.0 / math.sqrt(features * qmax)
    scale, zero = gradient_scale(scale, factor), round_through(gradient_scale(zero_point, factor))
    low, high = (qmin - zero) * scale, (qmax - zero) * scale
    return torch.clamp(x, low, high) + scale * noise


def clipped_step(
    x: Tensor, below: Tensor, above: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int
) -> Tensor:
    """PACT (Choi et al. 2018): engine values, with the gradients of clipping to [-below, above] alone.

    1 to ``x`` strictly inside; to ``above`` 1[x >= above]; to ``below`` -1[x <= -below]. Rounding passes straight
    through, so neither bound sees a rounding error, as LSQ's scale does.
    """
    value = fake_quantize(x.detach(), scale.detach(), zero_point.detach(), qmin, qmax)
    return _WithGradientOf.apply(value, torch.where(x >= above, above, torch.where(x <= -below, -below, x)))


class _WithGradientOf(torch.autograd.Function):
    """value + (carrier - carrier) would round."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, carrier: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]
