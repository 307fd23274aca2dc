"""Attention as one value, and the parts in which it may be computed, in memory that stays in the cache.

Scores are the largest tensors of a network and live only between two products. A part is some rows of the scores of one
matrix, or all rows of several (samples and heads). Softmax looks at one row at a time, so no bit depends on the parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from simulator.instrument.contractions import PROBABILITY, MatMul

QUERY_KEY, PROBABILITY_VALUE = ("query", "key"), (PROBABILITY, "value")

PART = 1 << 19
"""Scores of one part: they, their probabilities and the codes of these fit the caches (4.5 MiB)."""

Index = tuple[int | slice, ...]
"""A part: one index for each leading axis of the scores, then one for their rows."""


@dataclass(frozen=True)
class Attention:
    """``softmax(scale QK^T + mask) V``; a row that sees no key gives zeros.

    query (..., rows, depth), key (..., keys, depth), value (..., keys, features); leading axes broadcast. ``mask``
    broadcasts to the scores (..., rows, keys): it is added, or says which keys a row sees if it is bool.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    mask: Tensor | None = None

    @property
    def scores(self) -> MatMul:
        """QK^T, not yet scaled."""
        return MatMul(self.query, self.key, QUERY_KEY)

    def mixture(self, weights: Tensor) -> MatMul:
        """P V."""
        return MatMul(weights, self.value.transpose(-1, -2), PROBABILITY_VALUE)

    def weights(self, scores: Tensor) -> Tensor:
        """P of all scores."""
        scores = scores * self.scale
        if self.mask is None:
            return torch.softmax(scores, dim=-1)
        scores = scores.masked_fill(~self.mask, -math.inf) if self.mask.dtype == torch.bool else scores + self.mask
        return torch.softmax(scores, dim=-1).masked_fill((scores == -math.inf).all(-1, keepdim=True), 0.0)

    def weights_of(self, part: Index, scores: Tensor, room: Tensor, out: Tensor) -> Tensor:
        """:meth:`weights` of a part's scores, into ``out``; ``room``, of the same shape, may be ``scores`` itself."""
        torch.mul(scores, self.scale, out=room)
        if self.mask is None:
            return torch.softmax(room, dim=-1, out=out)
        mask = take(self.mask, part, 1)
        if mask.dtype == torch.bool:
            room.masked_fill_(~mask, -math.inf)
        else:
            room.add_(mask)
        torch.softmax(room, dim=-1, out=out)
        return out.masked_fill_((room == -math.inf).all(-1, keepdim=True), 0.0)

    def empty_scores(self) -> Tensor:
        """Memory for all scores."""
        return torch.empty(*self.scores.leading, self.query.shape[-2], self.key.shape[-2])

    @property
    def divisible(self) -> bool:
        """Whether there is more than one part. What is unusual stays whole, for torch to compute or refuse."""
        leading = self.scores.leading
        scores = (*leading, self.query.shape[-2], self.key.shape[-2])
        if prod(scores) <= PART or self.value.shape[-2] != scores[-1]:
            return False
        if self.mask is not None and (
            self.mask.dtype not in (torch.bool, torch.float32)
            or torch.broadcast_shapes(scores, self.mask.shape) != scores
        ):
            return False
        return torch.broadcast_shapes(leading, self.value.shape[:-2]) == leading

    def parts(self, *, rows_apart: bool) -> Iterator[Index]:
        """Parts that make up the whole, in order: at most PART scores, or one matrix (one row with ``rows_apart``)."""
        axes = (*self.scores.leading, self.query.shape[-2])
        cut = len(axes) - (not rows_apart)  # axes before this one may be cut, the others are taken whole
        size = self.key.shape[-2] * prod(axes[cut:])
        while cut and size * axes[cut - 1] <= PART:
            cut -= 1
            size *= axes[cut]
        if not cut:
            yield (slice(None),) * len(axes)
            return
        length, step = axes[cut - 1], max(PART // size, 1)
        for outer in np.ndindex(axes[: cut - 1]):
            for start in range(0, length, step):
                yield (*outer, slice(start, min(start + step, length)), *(slice(None),) * (len(axes) - cut))


def take(operand: Tensor, part: Index, kept: int) -> Tensor:
    """The part of an operand that broadcasts along the axes of ``part``; its ``kept`` last axes are taken whole."""
    own = part[max(len(part) + kept - operand.ndim, 0) :]
    return operand[tuple(_along(index, length) for index, length in zip(own, operand.shape, strict=False))]


def _along(index: int | slice, length: int) -> int | slice:
    """An axis of length 1 serves every index."""
    if length != 1:
        return index
    return 0 if isinstance(index, int) else slice(None)


Multiply = Callable[[Index, Tensor], None]
"""Computes QK^T of a part into a tensor."""
Mix = Callable[[Index, Tensor, Tensor], None]
"""Computes P V of a part from its P into a tensor."""


def in_parts(
    operation: Attention, multiply: Multiply, mix: Mix, *, rows_apart: bool, scores: Tensor | None = None
) -> Tensor:
    """The attention's output, one part after another.

    Args:
        operation: what is computed; divisible.
        multiply: QK^T of a part.
        mix: P V of a part.
        rows_apart: whether a part may be some rows of a matrix: not in float, where a product's bits may depend on it.
        scores: kept QK^T of all parts, written to if given.
    """
    leading, (rows, keys) = operation.scores.leading, (operation.query.shape[-2], operation.key.shape[-2])
    out = torch.empty(*leading, rows, operation.value.shape[-1])
    shapes = torch.empty(0).expand(*leading, rows, 0)
    memory: list[Tensor] = []
    for part in operation.parts(rows_apart=rows_apart):
        shape = (*shapes[part].shape[:-1], keys)
        if not memory:  # the first part is the largest
            memory = [torch.empty(prod(shape)) for _ in range(2)]
        room, weights = (held[: prod(shape)].view(shape) for held in memory)
        found = room if scores is None else scores[part]
        multiply(part, found)
        mix(part, operation.weights_of(part, found, room, weights), out[part])
    return out


def attention_in_float(operation: Attention, kept: Tensor | None = None) -> Tensor:
    """The attention in torch float, in parts where it is large: the bits of the whole.

    ``kept``, for a divisible attention, is where QK^T is written to.
    """
    if not operation.divisible:
        return operation.mixture(operation.weights(operation.scores.float())).float()

    def multiply(part: Index, scores: Tensor) -> None:
        key = take(operation.key, part[:-1], 2)
        torch.matmul(take(operation.query, part, 1), key.transpose(-1, -2), out=scores)

    def mix(part: Index, weights: Tensor, out: Tensor) -> None:
        torch.matmul(weights, take(operation.value, part[:-1], 2), out=out)

    return in_parts(operation, multiply, mix, rows_apart=False, scores=kept)
