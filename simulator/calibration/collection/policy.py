"""What a collection policy is: a frozen value that picks points of trajectories, knowing nothing of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from samplers.errors import BadInput
from samplers.noise import NoiseStream


@dataclass(frozen=True, eq=False)
class Picks:
    """Points of the trajectories of a sampler of S steps.

    State j of a trajectory is what the network is given at loop index j, 0 the initial noise; state S is the sample
    that comes out.

    Attributes:
        state: int64 (n,), 0 to S: which state of its trajectory a point is.
        step: int64 (n,), 0 to S - 1: the loop index whose timestep it is given. Equal to ``state`` but where a policy
            mislabels points on purpose (:class:`~simulator.calibration.collection.normal.Normal`).
        member: int64 (n,), indices of the samples.
    """

    state: np.ndarray
    step: np.ndarray
    member: np.ndarray


@runtime_checkable
class Collection(Protocol):
    """A policy. A new one is a frozen value with these methods."""

    def config(self) -> dict[str, Any]:
        """Name and arguments as plain JSON values: equal exactly when the policies are."""
        ...

    def picks(self, steps: int, samples: int, noise: NoiseStream) -> Picks:
        """Points of trajectories 0 to ``samples - 1`` of a sampler of ``steps`` steps.

        Args:
            steps: the sampler's, at least 1.
            samples: at least 1.
            noise: what a random policy draws from, by sample index.

        Raises:
            BadInput: a policy that does not fit so many steps or samples.
        """
        ...


def same_steps(chosen: np.ndarray, samples: int) -> Picks:
    """The steps ``chosen`` of every sample."""
    step = np.repeat(np.asarray(chosen, np.int64), samples)
    return Picks(step, step, np.tile(np.arange(samples), len(chosen)))


def one_each(step: np.ndarray) -> Picks:
    """One step of each sample: ``step[i]`` of sample i."""
    step = np.asarray(step, np.int64)
    return Picks(step, step, np.arange(len(step)))


def require_steps(rule: str, wanted: int, steps: int) -> None:
    """Check that a sampler has enough steps.

    Raises:
        BadInput: it has fewer than ``wanted``.
    """
    if steps < wanted:
        raise BadInput(rule, got=f"a sampler of {steps} steps", fix=f"sample with {wanted} steps, or pick fewer")
