"""Full precision's outputs along its trajectory, kept so that many runs walk it without the network.

x_t and the update follow from the outputs and the noise stream bit for bit, so outputs are all that is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.schedule import require_schedule
from samplers.state import FLOAT64, State, state_config
from samplers.validation import require_int
from simulator.instrument.sites import watching
from simulator.models.conditioning import Conditioning, call_for, conditioning_config
from simulator.models.registry import Model
from simulator.provenance import canonical, model_config
from simulator.reference import full_precision


@dataclass(frozen=True, eq=False)
class Recording:
    """The network's outputs in full precision at every step.

    Args:
        outputs: float32 (steps, samples, ...), guidance applied.
        config: all that determines them, as plain JSON values (``recording_config``).

    Raises:
        BadInput: another dtype or fewer axes.
    """

    outputs: np.ndarray
    config: dict[str, Any]

    def __post_init__(self) -> None:
        if self.outputs.dtype != np.float32 or self.outputs.ndim < 2:
            raise BadInput(
                "recorded outputs must be float32 with axes step, sample, ...",
                got=f"{self.outputs.dtype} {self.outputs.shape}", fix="make them with record_outputs",
            )  # fmt: skip

    def at(self, step: int, members: np.ndarray) -> Tensor:
        """Outputs of these samples at a step."""
        return torch.from_numpy(self.outputs[step, members])

    def require(self, config: dict[str, Any]) -> None:
        """Refuse to stand for another trajectory.

        Raises:
            BadInput: it was recorded under another configuration.
        """
        if canonical(config) != canonical(self.config):
            differing = sorted(name for name in {*config, *self.config} if config.get(name) != self.config.get(name))
            raise BadInput(
                "a recording must be of the run's own trajectory", got=f"another {', '.join(differing)}",
                fix="record it with the same arguments",
            )  # fmt: skip


def recording_config(
    model: Model, sampler: Sampler, samples: int, seed: int, purpose: str, batch_size: int, state: State,
    conditioning: Conditioning | None,
) -> dict[str, Any]:  # fmt: skip
    """All that determines full precision's trajectory, as plain JSON values."""
    return {
        **model_config(model),
        **conditioning_config(conditioning),
        "sampler": sampler.config(),
        "state": state_config(state),
        "samples": samples,
        "seed": seed,
        "purpose": purpose,
        "batch_size": batch_size,
    }


@torch.no_grad()
def record_outputs(
    model: Model,
    sampler: Sampler,
    *,
    samples: int = 64,
    seed: int = 0,
    purpose: str = "evaluate",
    batch_size: int = 64,
    state: State = FLOAT64,
    conditioning: Conditioning | None = None,
    allow_float: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Recording:
    """Sample in full precision, as the reference of :func:`simulator.run` does, and keep the network's outputs.

    Memory: 4 bytes per element of every sample at every step. Arguments as in :func:`simulator.run`.

    Raises:
        BadInput: a size below 1, a model without a noise schedule, or conditions that do not fit.
    """
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    require_schedule(model.schedule)
    config = recording_config(model, sampler, samples, seed, purpose, batch_size, state, conditioning)
    noise = NoiseStream(seed, purpose)
    batches = range(0, samples, batch_size)
    steps = len(sampler.updates)
    kept: list[np.ndarray] = []
    with watching(model.module):
        for done, first in enumerate(batches):
            members = np.arange(first, min(first + batch_size, samples))
            outputs = []
            call = call_for(model, conditioning, members)
            for point in full_precision(model, allow_float, sampler, state, noise, members, call):
                outputs.append(point.output.numpy().copy())
                if progress is not None:
                    progress(done * steps + point.step + 1, len(batches) * steps)
            kept.append(np.stack(outputs))
    return Recording(np.concatenate(kept, axis=1), config)
