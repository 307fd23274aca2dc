"""How an error of x_t and the errors of predictions make the error of x_{t-1}: the sampler's update, without its noise.

Every update is linear in x_t, in what the network predicted, and in fresh noise that both trajectories share. So their
difference obeys the same update with the noise left out, multistep terms included:

    e_{t-1} = x0_coefficient d(x0) + x_coefficient e_t + epsilon_coefficient d(epsilon) + terms of earlier predictions

where d(x0) and d(epsilon) follow from e_t and the error of the network's output as x0 and epsilon follow from x_t and
the output. Nothing is approximated here; what has to be modelled is the error of the output.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from samplers.coefficients import Prediction, Update, advance, history_length
from samplers.errors import BadInput
from samplers.sampler import Sampler
from samplers.state import FLOAT64


def require_linear(sampler: Sampler) -> None:
    """Refuse a sampler whose update is not linear in x_t and the prediction.

    Raises:
        BadInput: it clips x0, or takes its noise's deviation from the network.
    """
    if sampler.clipping is not None:
        raise BadInput(
            "noise is propagated through linear updates",
            got=f"a {sampler.name} sampler that clips x0",
            fix="drop clip_sample and thresholding",
        )
    if any(update.learned is not None for update in sampler.updates):
        raise BadInput(
            "noise is propagated through updates whose fresh noise is the same on both trajectories",
            got=f"a {sampler.name} sampler whose network predicts the variance",
            fix="use fixed_small or fixed_large",
        )


class ErrorRecursion:
    """The error of one batch of trajectories under way.

    Args:
        sampler: whose updates are followed.
        shape: of the batch.

    Raises:
        BadInput: the sampler's updates are not linear.
    """

    def __init__(self, sampler: Sampler, shape: tuple[int, ...]) -> None:
        require_linear(sampler)
        self._sampler, self._kept = sampler, history_length(sampler.updates)
        self._earlier: tuple[Prediction, ...] = ()
        self.x = torch.zeros(shape, dtype=torch.float64)
        """Error of x_t, float64; 0 before the first step, since the initial noise is shared."""

    def step(self, update: Update, output_error: Tensor) -> None:
        """Advance by one call of the network whose output was off by ``output_error`` (like ``x``)."""
        prediction = self._sampler.predict(FLOAT64, update, self.x, output_error)
        quiet = dataclasses.replace(update, noise_coefficient=0.0 * update.noise_coefficient)
        self.x = advance(FLOAT64, quiet, self.x, prediction, None, self._earlier)
        self._earlier = (prediction, *self._earlier)[: self._kept]
