"""Networks that are exact: the regression of epsilon, x0 or v on x_t for a data distribution that is known.

With x = sqrt(abar) x0 + sqrt(1 - abar) epsilon, the minimum of every denoising loss is E[epsilon | x] (E[x0 | x],
E[v | x]). For data N(m, s^2) along one direction all three are affine in c = x - sqrt(abar) m, with
V = abar s^2 + 1 - abar the variance of x (Bishop 2006, eq. 2.116):

- epsilon: sqrt(1 - abar) / V c;
- sample: m + sqrt(abar) s^2 / V c;
- v_prediction (v = sqrt(abar) epsilon - sqrt(1 - abar) x0): -sqrt(1 - abar) m + sqrt(abar (1 - abar)) (1 - s^2) / V c.

Each is written as it is, so that none is a small difference of large numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.parameterization import PREDICTION_TYPES
from samplers.schedule import NoiseSchedule
from samplers.validation import require_choice, require_real

ZERO_SNR = 2.0**-24
"""abar in place of 0 where sigma would be infinite (rescale_betas_zero_snr), as in diffusers."""

AlphaCumprod = Callable[[Tensor], Tensor]
"""abar of timesteps: (n,) of any dtype to (n,) float64, within (0, 1)."""


def regression(prediction_type: str, abar: Any, variance: Any) -> tuple[Any, Any]:
    """(gain, offset) of the exact prediction offset m + gain (x - sqrt(abar) m) for data N(m, variance).

    Args:
        prediction_type: epsilon, sample or v_prediction.
        abar: numbers in (0, 1), numpy or torch, which broadcast with ``variance``.
        variance: of the data, at least 0.
    """
    signal, noise = abar**0.5, (1 - abar) ** 0.5
    of_x = abar * variance + (1 - abar)
    if prediction_type == "epsilon":
        return noise / of_x, 0.0
    if prediction_type == "sample":
        return signal * variance / of_x, 1.0
    return signal * noise * (1 - variance) / of_x, -noise


def require_alpha_cumprod(abar: object) -> float:
    """Return ``abar`` as a float in [0, 1], the noise levels of the forward process.

    Raises:
        BadInput: anything else.
    """
    value = require_real("alpha_cumprod", abar)
    if not 0 <= value <= 1:
        raise BadInput("alpha_cumprod must lie in [0, 1]", got=abar, fix="pass abar_t; 1 is the data itself")
    return value


def table_lookup(schedule: NoiseSchedule) -> AlphaCumprod:
    """abar of a schedule's timesteps, widened to float64: the table's own at integers.

    Between two entries sigma = sqrt((1 - abar) / abar) is linear in the timestep, which is how Euler's and Heun's
    ``linspace`` timesteps get their levels. For levels that follow another rule (Karras's, say) pass a function that
    knows it.

    Raises:
        BadInput: when called with a timestep outside 0..T-1.
    """
    table = torch.from_numpy(schedule.alphas_cumprod.astype(np.float64))
    sigmas = ((1 - table) / table.clamp(min=ZERO_SNR)).sqrt()
    last = len(table) - 1

    def alpha_cumprod(timestep: Tensor) -> Tensor:
        t = timestep.double()
        if not bool(((t >= 0) & (t <= last)).all()):
            raise BadInput(
                f"timesteps of this schedule lie from 0 to {last}",
                got=timestep.tolist(),
                fix="give the subject alpha_cumprod, a function of the timesteps",
            )
        below = t.long()
        weight = t - below
        sigma = (1 - weight) * sigmas[below] + weight * sigmas[(below + 1).clamp(max=last)]
        return torch.where(weight == 0, table[below], 1 / (1 + sigma**2))

    return alpha_cumprod


class ExactDenoiser(nn.Module, ABC):
    """A network without weights to learn, called as module(x, timestep).

    It computes in the dtype of x, float32 or float64; coefficients are made in float64. Everything is differentiable in
    x, so that torch's Jacobian products are those of the formula.

    Args:
        alpha_cumprod: a schedule, whose table is then read, or abar as a function of the timestep.
        prediction_type: epsilon, sample or v_prediction.
    """

    def __init__(self, alpha_cumprod: NoiseSchedule | AlphaCumprod, prediction_type: str) -> None:
        super().__init__()
        self.prediction_type = require_choice("prediction_type", prediction_type, PREDICTION_TYPES)
        self.alpha_cumprod: AlphaCumprod = (
            table_lookup(alpha_cumprod) if isinstance(alpha_cumprod, NoiseSchedule) else alpha_cumprod
        )

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """The prediction for x of shape (n, *sample_shape), shaped like x; timestep (n,), of any real dtype."""
        abar = self.alpha_cumprod(timestep)[:, None]
        return self.predict(x.flatten(1), abar).reshape(x.shape)

    @abstractmethod
    def predict(self, x: Tensor, abar: Tensor) -> Tensor:
        """The prediction for rows x (n, d) at abar (n, 1) float64."""
