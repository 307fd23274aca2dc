"""One step of a sampler as numbers: the coefficients of a linear update, and the step they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from samplers.errors import BadInput
from samplers.schedule import NoiseSchedule
from samplers.table_arithmetic import Scalar, square_root
from samplers.validation import require_real

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.state import State


@dataclass(frozen=True)
class Update:
    """Coefficients of one step from x_t to x_{t-1}, in the dtype of the schedule's tables.

    x_{t-1} = x0_coefficient x0 + x_coefficient x_t + epsilon_coefficient epsilon + noise_coefficient z,
    with x0 = (x_t - sqrt(1 - abar) epsilon) / sqrt(abar) and z ~ N(0, I).

    Args:
        timestep: t, the training index the network is called with.
        previous_timestep: the next one in the run, or -1 after the last step.
        alpha_cumprod: abar_t.
        alpha_cumprod_previous: abar at previous_timestep, or the value that ends the run.
        x0_coefficient: weight of the predicted x0.
        x_coefficient: weight of x_t itself.
        epsilon_coefficient: weight of the predicted epsilon.
        noise_coefficient: weight of fresh noise, sigma_t.
    """

    timestep: int
    previous_timestep: int
    alpha_cumprod: Scalar
    alpha_cumprod_previous: Scalar
    x0_coefficient: Scalar
    x_coefficient: Scalar
    epsilon_coefficient: Scalar
    noise_coefficient: Scalar

    @property
    def sqrt_alpha_cumprod(self) -> Scalar:
        """sqrt(abar_t), in the tables' dtype."""
        return square_root(self.alpha_cumprod)

    @property
    def sqrt_one_minus_alpha_cumprod(self) -> Scalar:
        """sqrt(1 - abar_t), in the tables' dtype."""
        return square_root(1 - self.alpha_cumprod)

    @property
    def a(self) -> float:
        """Weight of x_t in x_{t-1} = a x_t + b epsilon + c z: x0_coefficient / sqrt(abar) + x_coefficient, float64."""
        return float(self.x0_coefficient) / float(self.alpha_cumprod) ** 0.5 + float(self.x_coefficient)

    @property
    def b(self) -> float:
        """Weight of epsilon: epsilon_coefficient - x0_coefficient sqrt(1-abar) / sqrt(abar), float64."""
        abar = float(self.alpha_cumprod)
        return float(self.epsilon_coefficient) - float(self.x0_coefficient) * (1 - abar) ** 0.5 / abar**0.5

    @property
    def c(self) -> float:
        """Weight of fresh noise z, float64."""
        return float(self.noise_coefficient)

    def with_noise(self, sigma: SupportsFloat) -> Update:
        """The update of the same mean (a and b unchanged) with noise coefficient ``sigma``, rounded to the dtype.

        Raises:
            BadInput: sigma is negative or not finite.
        """
        number = require_real("sigma", sigma)
        if number < 0:
            raise BadInput("sigma must be at least 0", got=number, fix="pass a standard deviation")
        return dataclasses.replace(self, noise_coefficient=self.noise_coefficient.dtype.type(number))


def advance(
    state: State, update: Update, x: Tensor | None, x0: Tensor | None, epsilon: Tensor | None, noise: Tensor | None
) -> Tensor:
    """x_{t-1} by one ``state.combine`` of x0, x, epsilon and noise, summed in that order.

    The order makes a float32 state bit-equal to diffusers' DDIM (x0, epsilon, noise) and DDPM (x0, x, noise), but for
    the sign of a zero: a term of coefficient 0 is left out here and added as a zero there.

    Args:
        state: the arithmetic.
        update: the step's coefficients.
        x: x_t in the state's dtype.
        x0: the predicted x0, shaped like ``x`` (from :func:`samplers.parameterization.predict`).
        epsilon: the predicted epsilon, shaped like ``x``.
        noise: standard normal, shaped like ``x``. A tensor may be None where its coefficient is 0.

    Raises:
        BadInput: a tensor is missing or has another dtype than the state's.
    """
    return state.combine(
        (update.x0_coefficient, update.x_coefficient, update.epsilon_coefficient, update.noise_coefficient),
        (x0, x, epsilon, noise),
    )


class Transition(NamedTuple):
    """One step of a respaced schedule: its two timesteps and their abar."""

    timestep: int
    previous_timestep: int
    alpha_cumprod: Scalar
    alpha_cumprod_previous: Scalar


def transitions(
    schedule: NoiseSchedule, timesteps: NDArray[np.int64], final_alpha_cumprod: Scalar
) -> Iterator[Transition]:
    """Pair each timestep with the next in the run; after the last come timestep -1 and ``final_alpha_cumprod``.

    Args:
        schedule: read for abar.
        timesteps: (n,) descending, within the schedule.
        final_alpha_cumprod: abar that the last step leads to.
    """
    visited = [int(t) for t in timesteps]
    abar = schedule.alphas_cumprod
    for t, previous in zip(visited, [*visited[1:], -1], strict=True):
        yield Transition(t, previous, abar[t], abar[previous] if previous >= 0 else final_alpha_cumprod)
