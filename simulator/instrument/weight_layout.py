"""Where a weight has its output channels, and the engine's layout, in which they come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from simulator.instrument.contractions import ConvTranspose, Weighted

Array = TypeVar("Array", np.ndarray, Tensor)


@dataclass(frozen=True)
class WeightLayout:
    """Layout of a weight as torch holds it.

    Args:
        groups: of a transposed convolution, whose weight is (channels, outputs of one group, spatial...); None for all
            others, whose outputs come first anyway.
    """

    groups: int | None = None

    @classmethod
    def of(cls, operation: Weighted) -> WeightLayout:
        """Of a contraction's weight."""
        return cls(operation.geometry.groups if isinstance(operation, ConvTranspose) else None)

    def outputs_first(self, weight: Array) -> Array:
        """(outputs, inputs of one output, spatial...), which scales and bounds refer to; outputs group after group.

        Its own inverse. Kernels are not flipped.
        """
        if self.groups is None:
            return weight
        channels, outputs, *kernel = weight.shape
        split = weight.reshape(self.groups, channels // self.groups, outputs, *kernel).swapaxes(1, 2)
        return split.reshape(self.groups * outputs, channels // self.groups, *kernel)
