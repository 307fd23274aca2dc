"""What every sampling method here shares: its timesteps, how a network's output is read, and one step of it.

A method is its coefficients. A subclass gives ``name`` and ``updates``; the step that applies them is the same for all.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samplers.coefficients import Node, Prediction, Update, advance
from samplers.errors import BadInput
from samplers.parameterization import PREDICTION_TYPES, predict
from samplers.schedule import NoiseSchedule, require_schedule
from samplers.table_arithmetic import Scalar
from samplers.timesteps import timesteps
from samplers.validation import require_bool, require_choice, require_int, require_real

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.clipping import Clipping
    from samplers.state import State

_CLIPPING = ("clip_sample", "clip_sample_range", "thresholding", "dynamic_thresholding_ratio", "sample_max_value")


@dataclass(frozen=True)
class Method(ABC):
    """A sampler whose every update is linear in what the network predicted. Names are diffusers'.

    Args:
        schedule: the training schedule, T timesteps.
        num_inference_steps: n, from 1 to T.
        timestep_spacing: leading, trailing or linspace.
        steps_offset: added to the leading timesteps.
        prediction_type: epsilon, sample or v_prediction.
        clip_sample: clip the predicted x0 to +-clip_sample_range. Off by default, unlike in diffusers.
        clip_sample_range: above 0.
        thresholding: dynamic thresholding of the predicted x0 (:class:`samplers.clipping.DynamicThresholding`).
        dynamic_thresholding_ratio: in (0, 1].
        sample_max_value: at least 1.

    Raises:
        BadInput: an argument breaks its rule, or clip_sample and thresholding are both on.
    """

    schedule: NoiseSchedule
    num_inference_steps: int
    _: KW_ONLY
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    prediction_type: str = "epsilon"
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        require_schedule(self.schedule)
        set_field(self, "num_inference_steps", require_int("num_inference_steps", self.num_inference_steps, 1))
        set_field(self, "steps_offset", require_int("steps_offset", self.steps_offset, 0))
        require_choice("prediction_type", self.prediction_type, PREDICTION_TYPES)
        require_bool("clip_sample", self.clip_sample)
        require_bool("thresholding", self.thresholding)
        for name in ("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"):
            set_field(self, name, require_real(name, getattr(self, name)))
        if self.clip_sample and self.thresholding:
            raise BadInput("x0 is either clipped or thresholded", got="both", fix="drop one of the two")
        if self.clip_sample_range <= 0 or self.sample_max_value < 1 or not 0 < self.dynamic_thresholding_ratio <= 1:
            raise BadInput(
                "clip_sample_range must be above 0, sample_max_value at least 1, dynamic_thresholding_ratio in (0, 1]",
                got=f"{self.clip_sample_range}, {self.sample_max_value} and {self.dynamic_thresholding_ratio}",
                fix="use diffusers' defaults: 1, 1 and 0.995",
            )

    def _require_signal(self) -> None:
        """Refuse epsilon-prediction at abar = 0, where x0 = (x - sqrt(1 - abar) epsilon) / sqrt(abar) divides by 0."""
        if self.prediction_type == "epsilon" and any(update.alpha_cumprod == 0 for update in self.updates):
            raise BadInput(
                "a network that predicts epsilon needs some signal at every timestep",
                got="alphas_cumprod 0 at the first timestep visited (rescale_betas_zero_snr)",
                fix="use a network of prediction_type v_prediction or sample, or timestep_spacing leading",
            )

    def _no_clipping(self, reason: str) -> None:
        if self.clip_sample or self.thresholding:
            raise BadInput(f"{self.name} takes neither clip_sample nor thresholding", got=reason, fix="switch them off")

    @property
    @abstractmethod
    def name(self) -> str:
        """Short lower-case name of the method."""

    @property
    @abstractmethod
    def updates(self) -> tuple[Update, ...]:
        """One :class:`Update` per call of the network, in loop order."""

    @property
    def timesteps(self) -> NDArray[np.int64] | NDArray[np.float64]:
        """(n,) descending, read-only: where the run's steps begin; int64, or float64 where a method takes fractions."""
        return timesteps(
            self.timestep_spacing, self.num_inference_steps, self.schedule.num_train_timesteps, self.steps_offset
        )

    @property
    def clipping(self) -> Clipping | None:
        """What is done to a predicted x0; None where updates are linear."""
        from samplers.clipping import ClipSample, DynamicThresholding

        if self.clip_sample:
            return ClipSample(self.clip_sample_range)
        if self.thresholding:
            return DynamicThresholding(self.dynamic_thresholding_ratio, self.sample_max_value)
        return None

    @property
    def learns_variance(self) -> bool:
        """Whether the weight of fresh noise comes from the network."""
        return False

    @property
    def init_noise_sigma(self) -> float:
        """Scale of the initial noise: x_T = init_noise_sigma z."""
        return 1.0

    def predict(self, state: State, update: Update, x: Tensor, model_output: Tensor) -> Prediction:
        """x0 and epsilon from what the network returned for x; x0 clipped where the method clips it.

        Of a network that predicts its variance too, the output has twice x's channels (axis 1), the variance's last.

        Raises:
            BadInput: the output holds a variance that this method does not use, or lacks one that it needs.
        """
        output, variance = split_variance(x, model_output)
        if variance is not None and not self.learns_variance:
            raise BadInput(
                f"{self.name} takes no variance from the network, so outputs must have their input's shape",
                got=f"{tuple(model_output.shape)} for input {tuple(x.shape)}",
                fix="unwrap the output and drop its second half, or use DDPM with variance_type learned_range",
            )
        prediction = clipped(self.clipping, *predict(state, self.prediction_type, update, x, output))
        if update.learned is None:
            return prediction
        if variance is None:
            raise BadInput(
                "a learned variance needs a network of twice the sample's channels",
                got=f"an output shaped {tuple(model_output.shape)} for {tuple(x.shape)}",
                fix="load a network that predicts it (diffusers: load(folder, variance=True)), or use fixed_small",
            )
        return prediction._replace(sigma=update.learned.sigma(variance))

    def step(
        self,
        state: State,
        index: int,
        x: Tensor,
        model_output: Tensor,
        noise: Tensor | None,
        earlier: Sequence[Prediction] = (),
    ) -> Tensor:
        """x_{t-1} of step ``index``.

        Args:
            state: the arithmetic.
            index: loop index, 0..len(updates)-1.
            x: x_t in the state's dtype, any shape.
            model_output: the network's output for x_t, shaped like ``x``, in the state's dtype.
            noise: standard normal, likewise; None where the step adds none.
            earlier: what :meth:`predict` returned for the steps before, the latest first, where the update uses it.
        """
        update = self.updates[index]
        return advance(state, update, x, self.predict(state, update, x, model_output), noise, earlier)

    def config(self) -> dict[str, Any]:
        """Name and arguments as plain values, the schedule as a nested dict; of clipping only where it is on."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if name not in _CLIPPING}
        clipping = self.clipping
        own = {} if clipping is None else {"clipping": {"name": type(clipping).__name__, **_fields(clipping)}}
        return {"name": self.name, **values, "schedule": self.schedule.config(), **own}


def clipped(clipping: Clipping | None, x0: Tensor, epsilon: Tensor) -> Prediction:
    """A prediction whose x0 went through ``clipping``."""
    if clipping is None:
        return Prediction(x0, epsilon)
    changed = clipping.clip(x0)
    return Prediction(changed, epsilon, int((changed != x0).sum()))


def split_variance(x: Tensor, output: Tensor) -> tuple[Tensor, Tensor | None]:
    """A network's output at x as prediction and variance, None where the output is shaped like x."""
    if output.ndim == x.ndim > 1 and output.shape[1] == 2 * x.shape[1]:
        return output[:, : x.shape[1]], output[:, x.shape[1] :]
    return output, None


def nodes_of(schedule: NoiseSchedule, timesteps: NDArray[Any], final: Scalar) -> tuple[Node, ...]:
    """The nodes of timesteps on a schedule's grid; the last is timestep -1 with abar = ``final``."""
    abar = schedule.alphas_cumprod
    return (*(Node(int(t), abar[t]) for t in timesteps), Node(-1, final))


def _fields(clipping: Clipping) -> dict[str, float]:
    return dict(vars(clipping))
