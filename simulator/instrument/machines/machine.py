"""What every machine of a site is: a weight prepared once, and a call per contraction."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from simulator.instrument.contractions import Contraction, Weighted


@dataclass(frozen=True)
class Emulated:
    """What a site gave.

    Attributes:
        output: float32, as the next operation sees it.
        clipped: elements of run-time operands whose code fell outside its range.
        overflowed: outputs of which the register lost something.
        saturated: output codes that clipping changed.
    """

    output: Tensor
    clipped: int = 0
    overflowed: int = 0
    saturated: int = 0


@dataclass(frozen=True)
class Affine:
    """Scale and zero point of a tensor."""

    scale: np.float32
    zero_point: int


Parameters = Mapping[str, Affine]
"""Calibrated scale and zero point by role, "output" included; dynamic operands have none."""


class Machine(Protocol):
    """Computes the contractions of one site."""

    @property
    def weight_key(self) -> Hashable:
        """Machines with equal keys take each other's prepared weights."""
        ...

    def prepare(self, operation: Weighted, weight: Tensor) -> Any:
        """``weight``, in the layout of ``operation.weight``, as this machine takes it."""
        ...

    def __call__(self, contraction: Contraction, prepared: Any) -> Emulated:
        """The contraction; ``prepared`` is None for two run-time operands."""
        ...
