"""APQ-DM's active collection: the step whose assignment to groups is least certain, and not yet taken too often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.validation import require_int, require_real
from simulator.calibration.collection.policy import Picks, one_each


@dataclass(frozen=True)
class Active:
    """Rounds of samples, each at one step: ``t = argmax over t >= skip of entropies[t] - weight count[t]``.

    count[t] is the number of earlier rounds at t; ties go to the latest step (the least noisy). Sample i is of round
    ``i // per_round`` and is collected at that round's step. The paper takes 1024 samples of 100 steps in rounds of 16.

    PTQ-AttnDM (a dissertation, known to us by its author's summary) also calibrates by "active timestep sampling" and
    gives no formula: it is this policy.

    The released code trains the assignments between two rounds, so its entropies move; here they are what is given
    (:mod:`simulator.calibration.collection.entropies` computes them from an observed range pass).

    Args:
        entropies: of each step, by loop index, the sum over layers; finite.
        weight: of the count, at least 0.
        skip: the first steps, never taken; the released 30 is of 100 steps.
        per_round: samples of a round, at least 1.

    Raises:
        BadInput: an argument breaks its rule; at collection, entropies of another number of steps.
    """

    entropies: tuple[float, ...]
    weight: float = 2.0
    skip: int = 30
    per_round: int = 16

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "entropies", require_scores("entropies", self.entropies))
        set_field(self, "weight", require_real("weight", self.weight))
        if self.weight < 0:
            raise BadInput("weight must be at least 0", got=self.weight, fix="use 2")
        set_field(self, "skip", require_int("skip", self.skip, 0))
        set_field(self, "per_round", require_int("per_round", self.per_round, 1))
        if self.skip >= len(self.entropies):
            raise BadInput(
                f"skip must leave one of the {len(self.entropies)} steps", got=self.skip,
                fix="skip as large a share as the paper's 30 of 100",
            )  # fmt: skip

    def config(self) -> dict[str, Any]:
        """Name and arguments."""
        return {
            "name": "active", "entropies": list(self.entropies), "weight": self.weight, "skip": self.skip,
            "per_round": self.per_round,
        }  # fmt: skip

    def rounds(self, count: int) -> list[int]:
        """Steps of the first ``count`` rounds."""
        score = np.array(self.entropies[self.skip :])
        taken = np.zeros(len(score))
        chosen = []
        for _ in range(require_int("count", count, 0)):
            now = score - self.weight * taken
            best = int(np.flatnonzero(now == now.max())[-1])
            taken[best] += 1
            chosen.append(self.skip + best)
        return chosen

    def picks(self, steps: int, samples: int, noise: NoiseStream) -> Picks:
        """The step of its round for each sample."""
        require_same("entropies", len(self.entropies), steps)
        rounds = self.rounds(-(-samples // self.per_round))
        return one_each(np.repeat(rounds, self.per_round)[:samples])


def require_scores(name: str, values: Sequence[float]) -> tuple[float, ...]:
    """A number for each step.

    Raises:
        BadInput: none, or one that is not finite.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray) or not len(values):
        raise BadInput(f"{name} must be a sequence of numbers, one per step", got=repr(values), fix="pass a tuple")
    return tuple(require_real(f"{name}[{i}]", value) for i, value in enumerate(values))


def require_same(name: str, count: int, steps: int) -> None:
    """Check that there is one score for each step.

    Raises:
        BadInput: more or fewer.
    """
    if count != steps:
        raise BadInput(
            f"{name} must be those of the sampler's {steps} steps", got=f"{count} of them",
            fix="compute them with this sampler",
        )  # fmt: skip
