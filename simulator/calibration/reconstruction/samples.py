"""The samples that reconstruction is fitted on: x_t and timestep, with step and index where they are known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.calibration.batches import checked_batch
from simulator.models.registry import Model


@runtime_checkable
class Collected(Protocol):
    """What a collector of calibration samples gives: tensors with a row for each sample."""

    @property
    def x(self) -> Tensor:
        """float32 (n, *sample_shape)."""
        ...

    @property
    def timestep(self) -> Tensor:
        """int64 (n,), training indices."""
        ...

    @property
    def step(self) -> Tensor:
        """int64 (n,), loop indices of the sampler."""
        ...

    @property
    def member(self) -> Tensor:
        """int64 (n,), indices of the trajectories."""
        ...


Batch = tuple[Tensor, ...]
"""(x, timestep), or (x, timestep, step)."""


@dataclass(frozen=True, eq=False)
class Samples:
    """All samples.

    Attributes:
        x: float32 (n, *sample_shape).
        timestep: int64 (n,), training indices.
        step: int64 (n,), loop indices; None where they are not known.
        member: int64 (n,): which conditions a sample has.
    """

    x: Tensor
    timestep: Tensor
    step: Tensor | None
    member: Tensor

    @classmethod
    def of(cls, model: Model, source: Collected | Iterable[Batch]) -> Samples:
        """From a collected set, or from batches (x, timestep) or (x, timestep, step).

        Raises:
            BadInput: no sample, batches of other forms, shapes or dtypes, samples that are not finite, or a step that
                is given for some batches only.
        """
        if isinstance(source, Collected):
            x, timestep = checked_batch(model, (source.x, source.timestep), 0)
            steps = _indices("step", source.step, len(x))
            return cls(x.clone(), timestep.clone(), steps, _indices("member", source.member, len(x)))
        xs, timesteps, given = [], [], []
        for index, batch in enumerate(source):
            head, tail = (batch[:2], batch[2:]) if isinstance(batch, tuple | list) else (batch, ())
            if len(tail) > 1:
                raise BadInput("a batch is x, timestep and perhaps step", got=f"{len(batch)} parts", fix="drop others")
            x, timestep = checked_batch(model, head, index)
            xs.append(x)
            timesteps.append(timestep)
            given += [_indices("step", step, len(x)) for step in tail]
        if not xs or len(given) not in (0, len(xs)):
            raise BadInput(
                "reconstruction needs samples, with a step for all or for none",
                got=f"{len(xs)} batches, {len(given)} with steps", fix="an iterator is read only once",
            )  # fmt: skip
        all_x = torch.cat(xs)
        return cls(all_x, torch.cat(timesteps), torch.cat(given) if given else None, torch.arange(len(all_x)))

    def __len__(self) -> int:
        return len(self.x)

    def passes(self, size: int) -> Iterator[Samples]:
        """Consecutive parts of at most ``size`` samples."""
        for first in range(0, len(self), size):
            part = slice(first, first + size)
            step = None if self.step is None else self.step[part]
            yield Samples(self.x[part], self.timestep[part], step, self.member[part])

    def digest(self) -> str:
        """SHA-256 over all of it, in hexadecimal."""
        digest = hashlib.sha256(repr(tuple(self.x.shape)).encode())
        for tensor in (self.x, self.timestep, self.step, self.member):
            digest.update(b"-" if tensor is None else tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def _indices(name: str, indices: object, count: int) -> Tensor:
    fits = isinstance(indices, Tensor) and indices.dtype == torch.int64 and tuple(indices.shape) == (count,)
    if not fits or (count and int(indices.min()) < 0):  # type: ignore[attr-defined]  # `fits` says that it is a Tensor
        raise BadInput(
            f"{name} must be int64 of shape ({count},), 0 or more", got=getattr(indices, "shape", repr(indices)),
            fix="give one index per sample",
        )  # fmt: skip
    assert isinstance(indices, Tensor)
    return indices.clone()
