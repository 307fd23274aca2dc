"""Collection along the sampler's own full-precision trajectories."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.loop import Denoiser, sample
from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.schedule import require_schedule
from samplers.validation import require_int
from simulator.calibration.collection.calibration_set import CalibrationSet
from simulator.calibration.collection.policy import Collection, Picks
from simulator.calibration.trajectory import PURPOSE
from simulator.instrument.forward import forward
from simulator.instrument.interception import InFloat
from simulator.instrument.sites import watching
from simulator.models.conditioning import Conditioning, call_for, conditioning_config
from simulator.models.registry import Model
from simulator.provenance import model_config

EVALUATE = "evaluate"
"""Purpose of the noise stream of samples that judge something."""


def collect(
    model: Model,
    sampler: Sampler,
    collection: Collection,
    *,
    samples: int = 256,
    seed: int = 0,
    purpose: str = PURPOSE,
    batch_size: int = 64,
    allow_float: tuple[str, ...] = (),
    conditioning: Conditioning | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationSet:
    """Run full-precision trajectories and keep the points that a policy picks.

    The trajectories are those of ``calibrate_ranges`` with the same arguments, bit for bit. Memory: the points, and one
    batch. A batch stops at its last picked point.

    Args:
        model: the network.
        sampler: the sampler that the quantized network will run under; with integer timesteps.
        collection: the policy.
        samples: number of trajectories; how many points each gives is the policy's.
        seed: of the noise stream.
        purpose: of the noise stream, not "evaluate". What the policy draws comes from the stream of purpose
            ``"<purpose> steps"``.
        batch_size: samples per forward pass.
        allow_float: patterns of sites and modules that stay in float, as the quantized network's.
        conditioning: what samples are conditioned on, and guidance.
        progress: called at each point in time of each batch with (done, total).

    Returns:
        The points, in order of loop index and then of member.

    Raises:
        BadInput: a size below 1, the purpose "evaluate", a model without a noise schedule, a sampler with fractional
            timesteps, a policy that does not fit or that picks outside the trajectories, or points that are not finite.
    """
    require_int("samples", samples, 1)
    require_int("batch_size", batch_size, 1)
    require_schedule(model.schedule)
    noise = NoiseStream(seed, purpose)
    if purpose == EVALUATE:
        raise BadInput("samples that fit something must not be those that evaluate it", got=purpose, fix="rename it")
    if isinstance(collection, type) or not isinstance(collection, Collection):
        raise BadInput("collection must be a policy, such as Uniform()", got=repr(collection), fix="pass a value")
    timesteps = _timesteps(sampler)
    picks = collection.picks(len(timesteps), samples, NoiseStream(seed, f"{purpose} steps"))
    picks = _checked(picks, len(timesteps), samples)
    batches = [range(first, min(first + batch_size, samples)) for first in range(0, samples, batch_size)]
    parts = [_Part(picks, members) for members in batches]
    parts = [part for part in parts if len(part.rows)]
    total, done = sum(part.last + 1 for part in parts), 0
    x = torch.empty(len(picks.state), *model.sample_shape)

    def show(part: _Part, state: int, given: Tensor) -> None:
        nonlocal done
        part.keep(x, state, given)
        done += 1
        if progress is not None:
            progress(done, total)

    with torch.no_grad(), watching(model.module):
        for part in parts:
            call = call_for(model, conditioning, part.members)
            network = partial(forward, model.module, InFloat(), call=call, allow_float=allow_float)
            _walk(network, sampler, noise, part.members, model.sample_shape, part.last, partial(show, part))
    source = {
        **model_config(model),
        **conditioning_config(conditioning),
        "collection": collection.config(),
        "samples": samples,
        "seed": noise.seed,
        "purpose": purpose,
        "batch_size": batch_size,
        "sampler": sampler.config(),
    }
    step = torch.from_numpy(picks.step)
    return CalibrationSet(x, torch.from_numpy(timesteps)[step], step, torch.from_numpy(picks.member), source)


class _Enough(Exception):
    """The last picked point of a batch is there."""


def _walk(
    network: Denoiser,
    sampler: Sampler,
    noise: NoiseStream,
    members: range,
    shape: tuple[int, ...],
    last: int,
    show: Callable[[int, Tensor], None],
) -> None:
    """Sample, showing each state as the network is given it, and stop after state ``last``."""
    state = 0

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        nonlocal state
        show(state, x)
        if state == last:
            raise _Enough
        state += 1
        return network(x, timestep)

    with suppress(_Enough):
        end = sample(denoise, sampler, noise, members, shape)
        show(state, end.to(torch.float32))


class _Part:
    """What is picked of one batch of samples.

    Attributes:
        members: the batch.
        rows: int64, its rows among all picks.
        last: its last picked state; -1 where nothing is picked.
    """

    def __init__(self, picks: Picks, members: range) -> None:
        self.members = members
        self.rows = np.flatnonzero((picks.member >= members[0]) & (picks.member <= members[-1]))
        self._state, self._place = picks.state[self.rows], picks.member[self.rows] - members[0]
        self.last = int(self._state.max(initial=-1))

    def keep(self, x: Tensor, state: int, given: Tensor) -> None:
        """Write what is picked of this state (n, *sample_shape) of the batch to its rows."""
        at = self._state == state
        x[torch.from_numpy(self.rows[at])] = given[torch.from_numpy(self._place[at])]


def _timesteps(sampler: Sampler) -> np.ndarray:
    """The training index of each loop index, int64."""
    exact = [float(update.timestep) for update in sampler.updates]
    fractional = [t for t in exact if not t.is_integer()]
    if fractional:
        raise BadInput(
            "a calibration set needs integer timesteps", got=f"{fractional[0]} of {sampler.name}",
            fix="collect with a sampler that visits training timesteps",
        )  # fmt: skip
    return np.array(exact).astype(np.int64)


def _checked(picks: Picks, steps: int, samples: int) -> Picks:
    """The picks in order of loop index, member and state, if they lie within the trajectories."""
    ends = {"state": steps + 1, "step": steps, "member": samples}
    for name, end in ends.items():
        index = getattr(picks, name)
        if index.dtype != np.int64 or index.shape != (len(picks.state),) or not index.size:
            raise BadInput(
                f"a policy must pick int64 indices of one length, got at {name}", got=f"{index.dtype} {index.shape}",
                fix="pick one point at least",
            )  # fmt: skip
        if index.min() < 0 or index.max() >= end:
            raise BadInput(
                f"a policy must pick {name}s in 0..{end - 1}", got=f"{index.min()} to {index.max()}", fix="correct it"
            )
    order = np.lexsort((picks.state, picks.member, picks.step))
    return Picks(picks.state[order], picks.step[order], picks.member[order])
