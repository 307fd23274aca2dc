"""A calibration set: points of full-precision trajectories."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.calibration.collection.order import Order, require_order
from simulator.models.digest import tensors_digest


@dataclass(frozen=True, eq=False)
class Batch:
    """Some points of a set, in fresh memory.

    Attributes:
        x: float32 (n, *sample_shape).
        timestep: int64 (n,), training indices.
        step: int64 (n,), loop indices.
        member: int64 (n,), indices of the samples.
    """

    x: Tensor
    timestep: Tensor
    step: Tensor
    member: Tensor

    @property
    def one_step(self) -> int | None:
        """The loop index that all points share, None if they differ."""
        first = int(self.step[0])
        return first if bool((self.step == first).all()) else None


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Inputs of a network at chosen points of full-precision trajectories.

    The tensors are held, not copied, and must not be written to.

    Args:
        x: float32 (n, *sample_shape), what the network is given.
        timestep: int64 (n,), the training index that it is given beside it.
        step: int64 (n,), the sampler's loop index with that timestep, 0 the noisiest: what step sets refer to.
        member: int64 (n,), index of the sample whose trajectory it is; conditions belong to it.
        source: how the set came to be, as plain JSON values.

    Raises:
        BadInput: no points, another dtype, device or length, values that are not finite, negative indices, one loop
            index with two timesteps, or a source that is no JSON.
    """

    x: Tensor
    timestep: Tensor
    step: Tensor
    member: Tensor
    source: Mapping[str, Any]

    def __post_init__(self) -> None:
        dense = isinstance(self.x, Tensor) and self.x.layout == torch.strided and self.x.device.type == "cpu"
        if not dense or self.x.dtype != torch.float32 or self.x.ndim == 0 or not self.x.numel():
            raise BadInput(
                "x must be a dense float32 tensor (n, *sample_shape) on the CPU, n of at least 1",
                got=_told(self.x), fix="convert it with .float().cpu()",
            )  # fmt: skip
        for name in ("timestep", "step", "member"):
            index = getattr(self, name)
            if (
                not isinstance(index, Tensor) or index.dtype != torch.int64 or index.device.type != "cpu"
                or index.shape != (len(self.x),) or index.min() < 0
            ):  # fmt: skip
                raise BadInput(
                    f"{name} must be int64 of shape ({len(self.x)},) on the CPU, none negative",
                    got=_told(index), fix="give one index per point",
                )  # fmt: skip
        if not torch.isfinite(self.x).all():
            raise BadInput("calibration data must be finite", got="NaN or infinity", fix="check model and samples")
        pairs = torch.unique(torch.stack([self.step, self.timestep]), dim=1)
        if pairs.shape[1] != len(torch.unique(pairs[0])):
            raise BadInput(
                "points of one step must have one timestep", got=pairs.T.tolist(), fix="collect with one sampler"
            )
        try:
            json.dumps(dict(self.source), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadInput("source must be plain JSON values", got=error, fix="pass numbers and text") from None

    def __len__(self) -> int:
        """Number of points."""
        return len(self.x)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the four tensors, in hexadecimal; the source is not in it."""
        return tensors_digest({"x": self.x, "timestep": self.timestep, "step": self.step, "member": self.member})

    def config(self) -> dict[str, Any]:
        """Source and digest as plain JSON values: part of the key of whatever is fitted on the set."""
        return {"source": dict(self.source), "points": len(self), "sha256": self.digest}

    def histogram(self, steps: int | None = None) -> np.ndarray:
        """Points at each loop index, int64 (steps,); ``steps`` None ends at the last that has one.

        Raises:
            BadInput: fewer steps than the set has.
        """
        least = int(self.step.max()) + 1
        return np.bincount(self.step.numpy(), minlength=least if steps is None else require_int("steps", steps, least))

    def batches(self, size: int, order: Order | None = None) -> Iterator[Batch]:
        """Every point once, in batches of at most ``size``, in ``order``; :class:`OneStep` by default.

        Raises:
            BadInput: a size below 1, or no order.
        """
        order = require_order(order)
        require_int("size", size, 1)
        return (self._batch(rows) for rows in order.rows(self, size))

    def _batch(self, rows: np.ndarray) -> Batch:
        at = torch.from_numpy(rows)
        return Batch(self.x[at], self.timestep[at], self.step[at], self.member[at])


def _told(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    negative = ", some negative" if value.dtype == torch.int64 and value.numel() and bool((value < 0).any()) else ""
    return f"{value.dtype} {tuple(value.shape)} on {value.device}{negative}"
