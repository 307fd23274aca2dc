"""What a correction of quantization noise may change: the predicted epsilon, and the update's coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.coefficients import Update


class Correction(Protocol):
    """Applied to the quantized network's output at every step, before the sampler's update."""

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

    def epsilon(self, step: int, epsilon: Tensor) -> Tensor:
        """Corrected prediction; float64 (batch, channel, height, width), loop index ``step``."""
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

    def epsilon(self, step: int, epsilon: Tensor) -> Tensor:
        """Unchanged."""
        return epsilon

    def update(self, step: int, update: Update) -> Update:
        """Unchanged."""
        return update
