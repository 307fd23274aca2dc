"""Which elements of a run-time operand share bounds, whatever its rank: all, a channel's, or a group of channels'.

The channel axis is the one that a contraction sums over: the last axis of the operands of linear layers and matrix
products, axis 1 of images. Of an output it is the axis of output channels, at the same place.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.arithmetic.granularity import Granularity, PerAxis, PerGroup, PerTensor
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose


@dataclass(frozen=True)
class PerChannel:
    """One range per channel."""


@dataclass(frozen=True)
class PerChannelGroup:
    """One range per ``size`` consecutive channels; the last group may be shorter.

    Raises:
        BadInput: a size below 1.
    """

    size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", require_int("size", self.size, 1))


@dataclass(frozen=True)
class PerHeadChannel:
    """One range per head and channel of query, key and value, whose channels are the columns of P V; elsewhere, and
    where attention has no axis of heads, as :class:`PerChannel`."""


OperandGranularity = PerTensor | PerChannel | PerChannelGroup | PerHeadChannel


@dataclass(frozen=True)
class Observed:
    """One operand of one forward pass, as observers see it.

    Attributes:
        values: float32 (outer, channel, inner), C-contiguous and finite, in memory order and not to be written to; per
            tensor (1, 1, elements).
        size: consecutive channels that share bounds, the last group possibly fewer.
        low: float64 (groups,), smallest value of each group.
        high: float64 (groups,), largest.
    """

    values: np.ndarray
    size: int
    low: np.ndarray
    high: np.ndarray


def channel_axis(contraction: Contraction, rank: int) -> int:
    """Axis of the channels of an operand, or of the output, of that rank."""
    return 1 if isinstance(contraction, Conv | ConvTranspose) else rank - 1


def parameter_shape(granularity: OperandGranularity, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Shape of the bounds of an operand: () per tensor, else the operand's rank."""
    if isinstance(granularity, PerTensor):
        return ()
    along: Granularity = PerAxis((axis,))
    if isinstance(granularity, PerChannelGroup):
        along = PerGroup(axis, granularity.size)
    return along.parameter_shape(shape)


def granularity_config(granularity: OperandGranularity) -> dict[str, Any]:
    """Plain JSON values."""
    match granularity:
        case PerTensor():
            return {"name": "per-tensor"}
        case PerChannel():
            return {"name": "per-channel"}
        case PerChannelGroup(size):
            return {"name": "per-channel-group", "size": size}
        case PerHeadChannel():
            return {"name": "per-head-channel"}
    raise BadInput(
        "granularity must be PerTensor(), PerChannel(), PerChannelGroup(size) or PerHeadChannel()",
        got=granularity,
        fix="choose one",
    )


def heads_and_channels(role: str, rank: int) -> tuple[int, int] | None:
    """Axes of heads and channels of an operand of attention of that rank; None for other roles, or without heads."""
    if role not in ("query", "key", "value") or rank < 4:
        return None
    return rank - 3, rank - 2 if role == "value" else rank - 1


def observe(operand: Tensor, granularity: OperandGranularity, axis: int, where: str) -> Observed:
    """View a float32 operand as its groups of channels, with their extremes; copied only if its memory has gaps.

    Raises:
        BadInput: no elements, NaN or infinity.
    """
    if not operand.numel():
        raise BadInput("an operand must have elements", got=f"{tuple(operand.shape)} at {where}", fix="check the model")
    # in numpy, and in memory order: under an audit each torch call passes through Python, and reductions of permuted
    # tensors take several times as long
    order = sorted(range(operand.ndim), key=operand.stride, reverse=True)
    dense = np.ascontiguousarray(operand.numpy(force=True).transpose(order))
    if isinstance(granularity, PerTensor):
        flat = dense.reshape(1, 1, -1)
        low, high = (np.array([bound], np.float64) for bound in (flat.min(), flat.max()))
        _require_finite(low, high, where)
        return Observed(flat, 1, low, high)
    place = order.index(axis)
    values = dense.reshape(prod(dense.shape[:place]), dense.shape[place], prod(dense.shape[place + 1 :]))
    shared = torch.from_numpy(values)  # torch reduces all axes but the last several times faster
    low, high = (bound(shared, dim=(0, 2)).numpy().astype(np.float64) for bound in (torch.amin, torch.amax))
    _require_finite(low, high, where)
    size = 1
    if isinstance(granularity, PerChannelGroup):
        size = min(granularity.size, len(low))
        starts = np.arange(0, len(low), size)
        low, high = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    return Observed(values, size, low, high)


def _require_finite(low: np.ndarray, high: np.ndarray, where: str) -> None:
    if not (np.isfinite(low).all() and np.isfinite(high).all()):  # minima and maxima pass NaN on
        raise BadInput(
            "calibration data must be finite", got=f"[{low.min()}, {high.max()}] at {where}",
            fix="check model and samples",
        )  # fmt: skip
