"""How a timestep is given to an interval generator: its Fourier code, or itself.

TDQ's eq. 8 prints exponents 0/d to d/d, which is d + 2 entries; a code of d entries ends at (d - 2)/d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.validation import require_int, require_real


@dataclass(frozen=True)
class FourierCode:
    """``sin(t / t_max^(i/d)), cos(t / t_max^(i/d))`` for i = 0, 2, ..., d - 2 (TDQ, eq. 8; d is not stated there).

    Args:
        dimension: d, even and at least 2.
        t_max: above 1.

    Raises:
        BadInput: an argument breaks its rule.
    """

    dimension: int = 64
    t_max: float = 10000.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimension", require_int("dimension", self.dimension, 2))
        object.__setattr__(self, "t_max", require_real("t_max", self.t_max))
        if self.dimension % 2:
            raise BadInput("dimension must be even: sines and cosines come in pairs", got=self.dimension, fix="add 1")
        if self.t_max <= 1:
            raise BadInput("t_max must be above 1", got=self.t_max, fix="use 10000")

    def __call__(self, timestep: Tensor) -> Tensor:
        """Codes (n, d), float64, of timesteps (n,)."""
        exponents = torch.arange(0, self.dimension, 2, dtype=torch.float64) / self.dimension
        angles = timestep.to(torch.float64)[:, None] / self.t_max**exponents
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": "fourier", "dimension": self.dimension, "t_max": self.t_max}


@dataclass(frozen=True)
class DirectCode:
    """``t / unit``: the ablation of TDQ, section 3.4, which finds that the intervals then hardly change.

    Args:
        unit: positive; 1 feeds the training index as it is.

    Raises:
        BadInput: a unit that is not positive.
    """

    unit: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", require_real("unit", self.unit))
        if self.unit <= 0:
            raise BadInput("unit must be positive", got=self.unit, fix="use 1, or the number of training timesteps")

    @property
    def dimension(self) -> int:
        """One entry."""
        return 1

    def __call__(self, timestep: Tensor) -> Tensor:
        """Codes (n, 1), float64, of timesteps (n,)."""
        return timestep.to(torch.float64)[:, None] / self.unit

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": "direct", "unit": self.unit}


TimeCode = FourierCode | DirectCode
