"""One step of a sampler as numbers: the coefficients of a linear update, and the step they make."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from samplers.errors import BadInput
from samplers.learned_variance import LearnedVariance
from samplers.schedule import NoiseSchedule
from samplers.table_arithmetic import Scalar, square_root
from samplers.validation import require_real

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.state import State


class Prediction(NamedTuple):
    """What one call of the network says: x0 and epsilon, either of which follows from the other and x_t.

    Attributes:
        x0: the predicted x0, clipped where the sampler clips it.
        epsilon: the predicted epsilon, of x0 before clipping.
        clipped: elements of x0 that clipping changed.
        sigma: weight of the step's fresh noise for every element, where the network predicts it (DDPM's variance_type
            ``learned`` and ``learned_range``); None where the update's own noise_coefficient is the weight.
    """

    x0: Tensor
    epsilon: Tensor
    clipped: int = 0
    sigma: Tensor | None = None


@dataclass(frozen=True)
class Earlier:
    """Weights of what an earlier call of the network predicted, in a multistep update."""

    x0_coefficient: Scalar
    epsilon_coefficient: Scalar


@dataclass(frozen=True)
class Update:
    """Coefficients of one step from x_t to x_{t-1}, in the dtype of the schedule's tables.

    x_{t-1} = x0_coefficient x0 + x_coefficient x_t + epsilon_coefficient epsilon + noise_coefficient z
              + sum_j (history[j].x0_coefficient x0^(j) + history[j].epsilon_coefficient epsilon^(j)),
    with x0 = (x_t - sqrt(1 - abar) epsilon) / sqrt(abar), z ~ N(0, I), and x0^(j), epsilon^(j) predicted j + 1 calls
    before. A step is one call of the network: a method of two calls a step (Heun) has two updates for it.

    Args:
        timestep: t, the training index the network is called with; between two of them on a continuous schedule.
        previous_timestep: the next one in the run, or -1 after the last step.
        alpha_cumprod: abar_t.
        alpha_cumprod_previous: abar at previous_timestep, or the value that ends the run.
        x0_coefficient: weight of the predicted x0.
        x_coefficient: weight of x_t itself.
        epsilon_coefficient: weight of the predicted epsilon.
        noise_coefficient: weight of fresh noise, sigma_t.
        history: weights of earlier predictions, the latest first.
        learned: how the network's second half gives each element's own noise weight; noise_coefficient is then its
            upper end, sqrt(beta_t), and only says that the step adds noise. None where all elements share one weight.
    """

    timestep: float
    previous_timestep: float
    alpha_cumprod: Scalar
    alpha_cumprod_previous: Scalar
    x0_coefficient: Scalar
    x_coefficient: Scalar
    epsilon_coefficient: Scalar
    noise_coefficient: Scalar
    history: tuple[Earlier, ...] = ()
    learned: LearnedVariance | None = None

    def timesteps(self, count: int) -> Tensor:
        """The network's argument for ``count`` samples: (count,), int64, or float32 where t is no integer."""
        import torch

        exact = float(self.timestep).is_integer()
        dtype = torch.long if exact else torch.float32
        return torch.full((count,), int(self.timestep) if exact else self.timestep, dtype=dtype)

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
        """Weight of x_t in x_{t-1} = a x_t + b epsilon + c z: x0_coefficient / sqrt(abar) + x_coefficient, float64.

        NaN at abar = 0 (rescale_betas_zero_snr), where x0 does not follow from x_t and epsilon.
        """
        if self.alpha_cumprod == 0 and self.x0_coefficient != 0:
            return math.nan
        return _ratio(self.x0_coefficient, float(self.alpha_cumprod) ** 0.5) + float(self.x_coefficient)

    @property
    def b(self) -> float:
        """Weight of epsilon: epsilon_coefficient - x0_coefficient sqrt(1-abar) / sqrt(abar), float64; NaN as ``a``."""
        if self.alpha_cumprod == 0 and self.x0_coefficient != 0:
            return math.nan
        abar = float(self.alpha_cumprod)
        return float(self.epsilon_coefficient) - _ratio(float(self.x0_coefficient) * (1 - abar) ** 0.5, abar**0.5)

    @property
    def c(self) -> float:
        """Weight of fresh noise z, float64; NaN where the network predicts it, since it differs between elements."""
        return math.nan if self.learned is not None else float(self.noise_coefficient)

    def with_noise(self, sigma: SupportsFloat) -> Update:
        """The update of the same mean (a and b unchanged) with noise coefficient ``sigma``, rounded to the dtype.

        Raises:
            BadInput: sigma is negative or not finite, or the network predicts it for each element.
        """
        if self.learned is not None:
            raise BadInput(
                "a step whose noise the network predicts has no sigma of its own",
                got=f"sigma={sigma} for a learned variance at timestep {self.timestep}",
                fix="take a variance out of every element's with less_noise, or sample with a fixed variance",
            )
        number = require_real("sigma", sigma)
        if number < 0:
            raise BadInput("sigma must be at least 0", got=number, fix="pass a standard deviation")
        return dataclasses.replace(self, noise_coefficient=self.noise_coefficient.dtype.type(number))

    def less_noise(self, variance: SupportsFloat) -> Update:
        """The update of the same mean with ``variance`` taken out of its noise: sigma'^2 = max(sigma^2 - variance, 0).

        Of a learned sigma it is taken out element by element when the network has said it. A step without noise stays.

        Raises:
            BadInput: variance is negative or not finite.
        """
        number = require_real("variance", variance)
        if number < 0:
            raise BadInput("variance must be at least 0", got=number, fix="pass a variance")
        if number == 0 or self.noise_coefficient == 0:
            return self
        if self.learned is not None:
            taken = self.learned.absorbed + number
            return dataclasses.replace(self, learned=dataclasses.replace(self.learned, absorbed=taken))
        return self.with_noise(max(self.c**2 - number, 0.0) ** 0.5)


def _ratio(numerator: SupportsFloat, denominator: float) -> float:
    number = float(numerator)
    return number / denominator if number else 0.0


def advance(
    state: State,
    update: Update,
    x: Tensor | None,
    prediction: Prediction,
    noise: Tensor | None,
    earlier: Sequence[Prediction] = (),
) -> Tensor:
    """x_{t-1} by one ``state.combine`` of x0, x, epsilon, noise and earlier predictions, summed in that order.

    The order makes a float32 state bit-equal to diffusers' DDIM (x0, epsilon, noise) and DDPM (x0, x, noise), but for
    the sign of a zero: a term of coefficient 0 is left out here and added as a zero there.

    Args:
        state: the arithmetic.
        update: the step's coefficients.
        x: x_t in the state's dtype.
        prediction: shaped like ``x``.
        noise: standard normal, shaped like ``x``. A tensor may be None where its coefficient is 0. Where the
            prediction has a sigma of its own, sigma z is rounded to the state before it is added.
        earlier: predictions of the calls before, the latest first, at least as many as the update names.

    Raises:
        BadInput: a tensor is missing or has another dtype than the state's.
    """
    if len(earlier) < len(update.history):
        raise BadInput(
            f"this update combines {len(update.history)} earlier predictions",
            got=len(earlier),
            fix="keep the predictions of the steps before, the latest first",
        )
    own = prediction.sigma
    coefficients = [
        update.x0_coefficient, update.x_coefficient, update.epsilon_coefficient,
        update.noise_coefficient if own is None or noise is None else 1.0,
    ]  # fmt: skip
    tensors = [prediction.x0, x, prediction.epsilon, noise if own is None or noise is None else state.cast(own * noise)]
    for weights, before in zip(update.history, earlier, strict=False):
        coefficients += [weights.x0_coefficient, weights.epsilon_coefficient]
        tensors += [before.x0, before.epsilon]
    return state.combine(coefficients, tensors)


def history_length(updates: Sequence[Update]) -> int:
    """How many earlier predictions a run has to keep."""
    return max((len(update.history) for update in updates), default=0)


class Node(NamedTuple):
    """A point that a run visits: the timestep that the network is called with, and abar there.

    A method turns a list of nodes, the last of which ends the run, into updates. abar falls with the timestep on any
    schedule, one on a grid or a continuous one.
    """

    timestep: float
    alpha_cumprod: Scalar


def timestep_array(updates: Sequence[Update]) -> NDArray[np.int64] | NDArray[np.float64]:
    """(len(updates),): the timestep of every call of the network, int64 where all are integers, else float64."""
    values = np.array([update.timestep for update in updates], np.float64)
    whole = values.astype(np.int64)
    return whole if (whole == values).all() else values


class Transition(NamedTuple):
    """One step of a respaced schedule: its two timesteps and their abar."""

    timestep: int
    previous_timestep: int
    alpha_cumprod: Scalar
    alpha_cumprod_previous: Scalar


def transitions(schedule: NoiseSchedule, timesteps: NDArray[Any], final_alpha_cumprod: Scalar) -> Iterator[Transition]:
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
