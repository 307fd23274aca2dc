"""Random steps of every trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samplers.noise import NoiseStream
from samplers.validation import require_int
from simulator.calibration.collection.policy import Picks, require_steps


@dataclass(frozen=True)
class RandomSteps:
    """``count`` different steps of each trajectory, every subset equally likely (TDQ: 20 steps of 256 images).

    A sample's steps depend on its index, not on how many samples there are. ``count = 1`` is the random collection that
    active collection is compared with.

    Args:
        count: of steps per sample, at least 1.

    Raises:
        BadInput: a count below 1; at collection, a sampler of fewer steps.
    """

    count: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", require_int("count", self.count, 1))

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {"name": "random-steps", "count": self.count}

    def picks(self, steps: int, samples: int, noise: NoiseStream) -> Picks:
        """The ``count`` steps with the smallest of S normals of each sample."""
        require_steps(f"{self.count} different steps of each sample need as many", self.count, steps)
        draws = noise.initial(range(samples), (steps,)).numpy()
        step = np.sort(np.argsort(draws, axis=1, kind="stable")[:, : self.count], axis=1).reshape(-1)
        return Picks(step, step, np.repeat(np.arange(samples), self.count))
