"""AdaRound's relaxation of rounding up or down, and what drives it to one of both (Nagel et al. 2020, eq. 23 to 24)."""

from __future__ import annotations

import torch
from torch import Tensor

LOW, HIGH = -0.1, 1.1
"""gamma and zeta: the sigmoid is stretched beyond 0 and 1, so that both are reached."""


def soft_rounding(alpha: Tensor) -> Tensor:
    """``h = clip(sigmoid(alpha) (HIGH - LOW) + LOW, 0, 1)``: the part of a step by which a weight is rounded up.

    The gradient is 0 where h is cut off at 0 or 1.
    """
    return torch.clamp(torch.sigmoid(alpha) * (HIGH - LOW) + LOW, 0.0, 1.0)


def alpha_of(fraction: Tensor) -> Tensor:
    """The alpha with ``soft_rounding(alpha) = fraction``, for fractions in [0, 1]: where reconstruction starts."""
    return -torch.log((HIGH - LOW) / (fraction - LOW) - 1.0)


def hard_rounding(alpha: Tensor) -> Tensor:
    """1 where h is at least 1/2 (alpha at least 0), else 0; in alpha's dtype."""
    return (alpha >= 0).to(alpha.dtype)


def regularizer(h: Tensor, b: float) -> Tensor:
    """``sum(1 - |2 h - 1|**b)``: 0 where every h is 0 or 1, largest at 1/2; a scalar.

    Its gradient is ``-2 b |2 h - 1|**(b - 1) sign(2 h - 1)``.
    """
    return (1.0 - (2.0 * h - 1.0).abs().pow(b)).sum()


def temperature(iteration: int, iterations: int, warm_up: float, b: tuple[float, float]) -> float | None:
    """The exponent b at an iteration (from 0): None during the warm-up, then from the first of ``b`` to the second.

    Linear: ``b_1 + (b_0 - b_1) (1 - (i - w) / (n - w))`` with w = warm_up n.
    """
    start = warm_up * iterations
    if iteration < start:
        return None
    return b[1] + (b[0] - b[1]) * (1.0 - (iteration - start) / (iterations - start))
