"""EDA-DM's collection: more points at steps whose features are typical, and at steps whose features differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.validation import require_real
from simulator.calibration.collection.active import require_same, require_scores
from simulator.calibration.collection.order import permutation
from simulator.calibration.collection.policy import Picks, one_each


@dataclass(frozen=True)
class DensityDiversity:
    """One point of each trajectory; of n points, step t gets ``n w_t / sum(w)``, ``w = D' + weight V'``.

    D and V are the density and the diversity of the steps' features
    (:func:`~simulator.calibration.collection.features.feature_scores`), D' and V' the same moved and scaled to 0..1
    (0 where all are equal; equal weights where all w are 0). Shares are rounded half to even. What is then missing goes
    one each to the steps of most points, ties to the noisier; what is too much is taken one each from the least noisy
    steps that have some. A random permutation says which sample gets which step.

    Formula and rounding are those of EDA-DM's released code (temporal distribution-aware calibration); 1024 samples.

    Args:
        density: D of each step, by loop index.
        diversity: V of each step.
        weight: lambda, at least 0; 1.2 for CIFAR-10 and ImageNet, 1 for LSUN, 5 for Stable Diffusion.

    Raises:
        BadInput: an argument breaks its rule; at collection, scores of another number of steps.
    """

    density: tuple[float, ...]
    diversity: tuple[float, ...]
    weight: float = 1.2

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        for name in ("density", "diversity"):
            set_field(self, name, require_scores(name, getattr(self, name)))
        set_field(self, "weight", require_real("weight", self.weight))
        if self.weight < 0:
            raise BadInput("weight must be at least 0", got=self.weight, fix="use 1.2")
        if len(self.density) != len(self.diversity):
            raise BadInput(
                "every step needs density and diversity", got=f"{len(self.density)} and {len(self.diversity)}",
                fix="compute both over the same steps",
            )  # fmt: skip

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {
            "name": "density-diversity", "density": list(self.density), "diversity": list(self.diversity),
            "weight": self.weight,
        }  # fmt: skip

    def counts(self, samples: int) -> np.ndarray:
        """Points of each step, int64, of sum ``samples``."""
        w = _normalized(self.density) + self.weight * _normalized(self.diversity)
        if not w.any():
            w = np.ones(len(w))
        counts = np.rint(w / w.sum() * samples).astype(np.int64)
        missing = samples - int(counts.sum())
        if missing >= 0:
            counts[np.argsort(-counts, kind="stable")[:missing]] += 1
        else:
            counts[np.flatnonzero(counts)[::-1][:-missing]] -= 1
        return counts

    def picks(self, steps: int, samples: int, noise: NoiseStream) -> Picks:
        """One step of each sample."""
        require_same("density and diversity", len(self.density), steps)
        return one_each(np.repeat(np.arange(steps), self.counts(samples))[permutation(noise, samples)])


def _normalized(scores: tuple[float, ...]) -> np.ndarray:
    found = np.array(scores)
    spread = np.ptp(found)
    return (found - found.min()) / spread if spread else np.zeros(len(found))
