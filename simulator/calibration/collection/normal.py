"""PTQ4DM's collection: one step of each trajectory, normal in time (DNTC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.validation import require_choice, require_real
from simulator.calibration.collection.policy import Picks, one_each

_LEAST = 0.01
"""Smallest share of draws inside 0..1 with which redrawing is done."""


@dataclass(frozen=True)
class Normal:
    """One point of each trajectory at a normally distributed time: ``t = floor(S v)``, v ~ N(mean, deviation^2).

    t = 0 is the least noisy of the S sampled timesteps, S - 1 the noisiest: loop index S - 1 - t. With the defaults
    Phi(-1) + Phi(-1.5) = 22.5 % of the draws lie outside 0 <= v < 1. ``clamp``, as released, puts them on the two end
    steps, which then hold 22.6 % of the points at S = 1000 (:meth:`shares`); ``redraw`` draws again.

    ``time_order="released"`` mislabels as the released code does: it numbers states from the noisiest, takes the state
    *after* loop index t, and gives it the timestep of loop index S - 1 - t. ``correct`` gives every state its own
    timestep.

    The paper takes 1024 samples. Its equation 15 has variance T / 2, which is ``deviation = (2 T)**-0.5``; the default
    is the released script's. A sample's draw depends on its index, not on how many samples there are.

    Args:
        mean: of v, in 0..1.
        deviation: standard deviation of v, above 0.
        truncation: "clamp" or "redraw".
        time_order: "correct" or "released".

    Raises:
        BadInput: an argument breaks its rule, or less than 1 % of the draws to be redrawn lies inside.
    """

    mean: float = 0.4
    deviation: float = 0.4
    truncation: str = "clamp"
    time_order: str = "correct"

    def __post_init__(self) -> None:
        for name in ("mean", "deviation"):
            object.__setattr__(self, name, require_real(name, getattr(self, name)))
        if not 0 <= self.mean <= 1:
            raise BadInput("mean must lie in 0..1, a share of the steps", got=self.mean, fix="use 0.4")
        if self.deviation <= 0:
            raise BadInput("deviation must be above 0", got=self.deviation, fix="use 0.4")
        require_choice("truncation", self.truncation, ("clamp", "redraw"))
        require_choice("time_order", self.time_order, ("correct", "released"))
        if self.truncation == "redraw" and self._below(1) - self._below(0) < _LEAST:
            raise BadInput(
                "redrawing needs 1 % of the draws inside 0..1", got=f"deviation {self.deviation}", fix="use clamp"
            )

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {
            "name": "normal", "mean": self.mean, "deviation": self.deviation, "truncation": self.truncation,
            "time_order": self.time_order,
        }  # fmt: skip

    def shares(self, steps: int) -> np.ndarray:
        """Expected share of the points at each loop index, float64 (steps,)."""
        below = np.array([self._below(i / steps) for i in range(steps + 1)])
        if self.truncation == "clamp":
            below[0], below[-1] = 0, 1
        return (np.diff(below) / (below[-1] - below[0]))[::-1]

    def picks(self, steps: int, samples: int, noise: NoiseStream) -> Picks:
        """One step of each sample."""
        time = np.clip(np.floor(steps * self._draws(samples, noise)), 0, steps - 1).astype(np.int64)
        label = steps - 1 - time
        if self.time_order == "correct":
            return one_each(label)
        return Picks(time + 1, label, np.arange(samples))

    def _draws(self, samples: int, noise: NoiseStream) -> np.ndarray:
        """v of each sample: its first draw, or its first inside."""
        if self.truncation == "clamp":
            return self.mean + self.deviation * noise.initial(range(samples), (1,)).numpy()[:, 0]
        width = 16
        while True:  # draws j of a sample stay the same however many are asked for
            v = self.mean + self.deviation * noise.initial(range(samples), (width,)).numpy()
            inside = (v >= 0) & (v < 1)
            if inside.any(axis=1).all():
                return v[np.arange(samples), inside.argmax(axis=1)]
            width *= 2

    def _below(self, v: float) -> float:
        return float(ndtr((v - self.mean) / self.deviation))
