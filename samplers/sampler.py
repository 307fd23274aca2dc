"""What the loop, and everything that studies a sampler, may rely on: the two Protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.clipping import Clipping
    from samplers.coefficients import Prediction, Update
    from samplers.schedule import NoiseSchedule
    from samplers.state import State


@runtime_checkable
class Sampler(Protocol):
    """A linear sampler: one update per call of the network, and the step that applies one of them.

    :class:`samplers.method.Method` is one for every list of updates.
    """

    @property
    def name(self) -> str:
        """Short lower-case name, such as "ddim"."""
        ...

    @property
    def schedule(self) -> NoiseSchedule:
        """The training schedule."""
        ...

    @property
    def prediction_type(self) -> str:
        """What the network predicts: epsilon, sample or v_prediction."""
        ...

    @property
    def updates(self) -> tuple[Update, ...]:
        """One update per call of the network, in loop order."""
        ...

    @property
    def init_noise_sigma(self) -> float:
        """Scale of the initial noise."""
        ...

    @property
    def clipping(self) -> Clipping | None:
        """What is done to a predicted x0; None where updates are linear."""
        ...

    def predict(self, state: State, update: Update, x: Tensor, model_output: Tensor) -> Prediction:
        """x0 and epsilon from what the network returned for x."""
        ...

    def step(
        self,
        state: State,
        index: int,
        x: Tensor,
        model_output: Tensor,
        noise: Tensor | None,
        earlier: Sequence[Prediction] = (),
    ) -> Tensor:
        """x_{t-1} of step ``index``."""
        ...

    def config(self) -> dict[str, object]:
        """Name and every argument as plain values: equal exactly when the samplers are."""
        ...


@runtime_checkable
class NoiseSource(Protocol):
    """Where the loop's noise comes from. :class:`samplers.noise.NoiseStream` is the one for experiments."""

    def initial(self, samples: ArrayLike | range, shape: Sequence[int]) -> Tensor:
        """x_T of these samples, (len(samples), *shape)."""
        ...

    def step(self, step: int, samples: ArrayLike | range, shape: Sequence[int]) -> Tensor:
        """Noise z of these samples at loop index ``step``, (len(samples), *shape)."""
        ...
