"""Policies that take the same steps of every trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samplers.noise import NoiseStream
from samplers.validation import require_int
from simulator.calibration.collection.policy import Picks, require_steps, same_steps


@dataclass(frozen=True)
class Uniform:
    """Every k-th step of every trajectory: steps 0, k, 2k, ..., k = floor(S / count) (Q-Diffusion).

    The paper takes 20 steps of 256 images. As in its released code the first is the noisiest, and where ``count`` does
    not divide S there are more than ``count``: ceil(S / k), 25 of S = 50.

    Args:
        count: of steps, at least 1.

    Raises:
        BadInput: a count below 1; at collection, a sampler of fewer steps.
    """

    count: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", require_int("count", self.count, 1))

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {"name": "uniform", "count": self.count}

    def picks(self, steps: int, samples: int, noise: NoiseStream) -> Picks:
        """The same steps of every sample."""
        require_steps(f"uniform collection of {self.count} steps needs as many", self.count, steps)
        return same_steps(np.arange(0, steps, steps // self.count), samples)


@dataclass(frozen=True)
class Noisiest:
    """Step 0 of every trajectory, where the noise is strongest (Yang et al., 1-step calibration).

    The network does not run: its input there is the initial noise.
    """

    def config(self) -> dict[str, Any]:
        """Its name."""
        return {"name": "noisiest"}

    def picks(self, steps: int, samples: int, noise: NoiseStream) -> Picks:
        """Step 0 of every sample."""
        return same_steps(np.zeros(1), samples)


@dataclass(frozen=True)
class AllSteps:
    """Every step of every trajectory: S points per sample."""

    def config(self) -> dict[str, Any]:
        """Its name."""
        return {"name": "all-steps"}

    def picks(self, steps: int, samples: int, noise: NoiseStream) -> Picks:
        """All steps of every sample."""
        return same_steps(np.arange(steps), samples)
