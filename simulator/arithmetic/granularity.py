"""Which elements share a scale.

A scale (and a zero point) has the rank of its tensor, with length 1 on every axis it does not vary along; along a
grouped axis it has one entry per group. :meth:`expand` repeats such a parameter to the tensor's shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from samplers.errors import BadInput


class Granularity(Protocol):
    """How scales are shared."""

    def parameter_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of scale and zero point for a tensor of ``shape``."""
        ...

    def expand(self, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """``parameter`` repeated to ``shape`` (a read-only view where possible)."""
        ...

    def reduce(self, tensor: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """``ufunc.reduce`` over the elements that share a scale; the result has :meth:`parameter_shape`."""
        ...


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor."""

    def parameter_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """All ones."""
        return (1,) * len(shape)

    def expand(self, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Broadcast."""
        return np.broadcast_to(parameter, shape)

    def reduce(self, tensor: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """Reduce over every axis."""
        return np.asarray(ufunc.reduce(tensor, axis=None, keepdims=True))


@dataclass(frozen=True)
class PerAxis:
    """One scale per index along ``axes`` (per channel: one axis; per token: two)."""

    axes: tuple[int, ...]

    def parameter_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The tensor's length along ``axes``, 1 elsewhere."""
        _check_axes(self.axes, len(shape))
        return tuple(n if i in self.axes else 1 for i, n in enumerate(shape))

    def expand(self, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Broadcast."""
        return np.broadcast_to(parameter, shape)

    def reduce(self, tensor: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """Reduce over every axis not in ``axes``."""
        _check_axes(self.axes, tensor.ndim)
        others = tuple(i for i in range(tensor.ndim) if i not in self.axes)
        return np.asarray(ufunc.reduce(tensor, axis=others, keepdims=True))


@dataclass(frozen=True)
class PerGroup:
    """One scale per ``size`` consecutive indices along ``axis``, and per index along ``axes``.

    The last group may be shorter (ragged).
    """

    axis: int
    size: int
    axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.size, int) and self.size >= 1):
            raise BadInput(
                "group size must be a positive integer", got=repr(self.size), fix="choose a size of at least 1"
            )
        if self.axis in self.axes:
            raise BadInput(
                "the grouped axis must not be among the other axes", got=f"{self.axis} in {self.axes}", fix="drop it"
            )

    def starts(self, length: int) -> np.ndarray:
        """First index of each group along an axis of ``length``."""
        return np.arange(0, length, self.size)

    def parameter_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Number of groups along ``axis``, the tensor's length along ``axes``, 1 elsewhere."""
        _check_axes((self.axis, *self.axes), len(shape))
        return tuple(len(self.starts(n)) if i == self.axis else n if i in self.axes else 1 for i, n in enumerate(shape))

    def expand(self, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Repeat each group's entry over its indices, then broadcast."""
        repeated = np.repeat(parameter, self.size, axis=self.axis)
        return np.broadcast_to(np.take(repeated, np.arange(shape[self.axis]), axis=self.axis), shape)

    def reduce(self, tensor: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """Reduce inside each group and over every axis not named."""
        _check_axes((self.axis, *self.axes), tensor.ndim)
        grouped = ufunc.reduceat(tensor, self.starts(tensor.shape[self.axis]), axis=self.axis)
        others = tuple(i for i in range(tensor.ndim) if i != self.axis and i not in self.axes)
        return np.asarray(ufunc.reduce(grouped, axis=others, keepdims=True))


def _check_axes(axes: tuple[int, ...], rank: int) -> None:
    if any(not 0 <= axis < rank for axis in axes):
        raise BadInput(
            f"axes must lie in 0..{rank - 1} for a tensor of rank {rank}", got=axes, fix="name existing axes"
        )
