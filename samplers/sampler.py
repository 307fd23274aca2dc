"""What the loop, and everything that studies a sampler, may rely on: the two Protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.coefficients import Update
    from samplers.schedule import NoiseSchedule
    from samplers.state import State


@runtime_checkable
class Sampler(Protocol):
    """A one-step linear sampler: n timesteps, n updates, and the step that applies one of them."""

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
    def timesteps(self) -> NDArray[np.int64]:
        """(n,) int64, in loop order."""
        ...

    @property
    def updates(self) -> tuple[Update, ...]:
        """One update per step, in loop order."""
        ...

    def step(self, state: State, index: int, x: Tensor, model_output: Tensor, noise: Tensor | None) -> Tensor:
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
