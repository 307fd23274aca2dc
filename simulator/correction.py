"""What a correction of quantization noise may change: the predicted epsilon, and the update's coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from samplers.coefficients import Update


class Correction(Protocol):
    """Applied to the quantized network at every step: to its input, its output, and the sampler's update.

    Whatever is random is drawn from a stream that is addressed by step and sample, so that batches change nothing.
    """

    @property
    def name(self) -> str:
        """Short name, unique among corrections."""
        ...

    def config(self) -> dict[str, Any]:
        """All that determines the correction, as plain JSON values: part of a run's key."""
        ...

    def check(self, use: dict[str, Any]) -> None:
        """Raise BadInput if the correction was fitted for another model, scheme or sampler than ``use`` names."""
        ...

    def input(self, step: int, x: Tensor) -> Tensor:
        """What the quantized network sees in place of x_t at loop index ``step``; the update keeps x_t."""
        ...

    def epsilon(self, step: int, epsilon: Tensor, members: np.ndarray) -> Tensor:
        """Corrected prediction; (batch, channel, height, width) in the state's dtype, of samples ``members``."""
        ...

    def update(self, step: int, update: Update) -> Update:
        """Coefficients to use in place of the sampler's own."""
        ...


class NoCorrection:
    """The quantized network as it is."""

    name = "none"

    def config(self) -> dict[str, Any]:
        """Only the name."""
        return {"name": self.name}

    def check(self, use: dict[str, Any]) -> None:
        """Fits everything."""

    def input(self, step: int, x: Tensor) -> Tensor:
        """Unchanged."""
        return x

    def epsilon(self, step: int, epsilon: Tensor, members: np.ndarray) -> Tensor:
        """Unchanged."""
        return epsilon

    def update(self, step: int, update: Update) -> Update:
        """Unchanged."""
        return update
