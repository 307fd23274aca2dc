"""Which elements share a scale.

A scale (and a zero point) has the rank of its tensor, with length 1 on every axis it does not vary along; along a
grouped axis it has one entry per group. :meth:`expand` repeats such a parameter to the tensor's shape. Axes count from
0; a negative, missing or repeated one is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_array, require_integer, require_kind, require_shape


@runtime_checkable
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

    def group_size(self, axis: int) -> int | None:
        """Length of the groups that ``axis`` is cut into, None where it is not grouped."""
        ...


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor."""

    def parameter_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """All ones."""
        _check_lengths(shape)
        return (1,) * len(shape)

    def expand(self, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Broadcast."""
        _check_parameter(parameter, self.parameter_shape(shape))
        return np.broadcast_to(parameter, shape)

    def reduce(self, tensor: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """Reduce over every axis."""
        _check_elements(tensor)
        return np.asarray(ufunc.reduce(tensor, axis=None, keepdims=True))

    def group_size(self, axis: int) -> int | None:
        """No axis is grouped."""
        return None


@dataclass(frozen=True)
class PerAxis:
    """One scale per index along ``axes`` (per channel: one axis; per token, or per batch and head: two).

    Raises:
        BadInput: an axis named twice.
    """

    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_distinct(self.axes)

    def parameter_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The tensor's length along ``axes``, 1 elsewhere."""
        _check_lengths(shape)
        _check_axes(self.axes, len(shape))
        return tuple(n if i in self.axes else 1 for i, n in enumerate(shape))

    def expand(self, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Broadcast."""
        _check_parameter(parameter, self.parameter_shape(shape))
        return np.broadcast_to(parameter, shape)

    def reduce(self, tensor: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """Reduce over every axis not in ``axes``."""
        _check_elements(tensor)
        _check_axes(self.axes, tensor.ndim)
        others = tuple(i for i in range(tensor.ndim) if i not in self.axes)
        return np.asarray(ufunc.reduce(tensor, axis=others, keepdims=True))

    def group_size(self, axis: int) -> int | None:
        """No axis is grouped."""
        return None


@dataclass(frozen=True)
class PerGroup:
    """One scale per ``size`` consecutive indices along ``axis``, and per index along ``axes``.

    The last group may be shorter (ragged).

    Raises:
        BadInput: a size that is no positive integer, an axis named twice, or the grouped axis among the others.
    """

    axis: int
    size: int
    axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not (isinstance(self.size, int) and self.size >= 1):
            raise BadInput(
                "group size must be a positive integer", got=repr(self.size), fix="choose a size of at least 1"
            )
        require_kind("axis", self.axis, (int, np.integer))
        require_integer("axis", self.axis)
        _check_distinct(self.axes)
        if self.axis in self.axes:
            raise BadInput(
                "the grouped axis must not be among the other axes", got=f"{self.axis} in {self.axes}", fix="drop it"
            )

    def starts(self, length: int) -> np.ndarray:
        """First index of each group along an axis of ``length``."""
        return np.arange(0, length, min(self.size, max(length, 1)))

    def parameter_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Number of groups along ``axis``, the tensor's length along ``axes``, 1 elsewhere."""
        _check_lengths(shape)
        _check_axes((self.axis, *self.axes), len(shape))
        return tuple(len(self.starts(n)) if i == self.axis else n if i in self.axes else 1 for i, n in enumerate(shape))

    def expand(self, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Repeat each group's entry over its indices, then broadcast."""
        _check_parameter(parameter, self.parameter_shape(shape))
        length = shape[self.axis]
        group = np.arange(length) // min(self.size, max(length, 1))
        return np.broadcast_to(np.take(parameter, group, axis=self.axis), shape)

    def reduce(self, tensor: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """Reduce inside each group and over every axis not named."""
        _check_elements(tensor)
        _check_axes((self.axis, *self.axes), tensor.ndim)
        grouped = ufunc.reduceat(tensor, self.starts(tensor.shape[self.axis]), axis=self.axis)
        others = tuple(i for i in range(tensor.ndim) if i != self.axis and i not in self.axes)
        return np.asarray(ufunc.reduce(grouped, axis=others, keepdims=True))

    def group_size(self, axis: int) -> int | None:
        """The size along the grouped axis."""
        return self.size if axis == self.axis else None


@dataclass(frozen=True)
class PerBlock:
    """One scale per block of ``sizes[i]`` consecutive indices along every axis ``i`` (128 x 128 weights, say).

    ``None`` is the whole axis, 1 is one scale per index. The last block along an axis may be shorter (ragged).
    ``PerBlock((None, None))`` is ``PerTensor()`` and ``PerBlock((1, 64))`` is ``PerGroup(1, 64, (0,))`` for rank 2.

    Raises:
        BadInput: a size that is no positive integer, or, in use, a tensor of another rank.
    """

    sizes: tuple[int | None, ...]

    def __post_init__(self) -> None:
        require_kind("sizes", self.sizes, tuple)
        if any(
            size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1)
            for size in self.sizes
        ):
            raise BadInput(
                "block sizes must be positive integers or None", got=repr(self.sizes), fix="choose sizes of at least 1"
            )

    def _lengths(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Block length along each axis, at least 1 and at most the axis."""
        if len(shape) != len(self.sizes):
            raise BadInput(
                f"a tensor of rank {len(shape)} needs {len(shape)} block sizes", got=self.sizes, fix="name one per axis"
            )
        return tuple(
            max(n, 1) if size is None else min(size, max(n, 1)) for size, n in zip(self.sizes, shape, strict=True)
        )

    def parameter_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Number of blocks along every axis."""
        _check_lengths(shape)
        return tuple(-(-n // length) for length, n in zip(self._lengths(shape), shape, strict=True))

    def expand(self, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Repeat each block's entry over its indices."""
        _check_parameter(parameter, self.parameter_shape(shape))
        for axis, length in enumerate(self._lengths(shape)):
            parameter = np.take(parameter, np.arange(shape[axis]) // length, axis=axis)
        return parameter

    def reduce(self, tensor: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """Reduce inside each block."""
        _check_elements(tensor)
        for axis, length in enumerate(self._lengths(tensor.shape)):
            tensor = ufunc.reduceat(tensor, np.arange(0, tensor.shape[axis], length), axis=axis)
        return np.asarray(tensor)

    def group_size(self, axis: int) -> int | None:
        """The block's length."""
        _check_axes((axis,), len(self.sizes))
        return self.sizes[axis]


def _check_lengths(shape: tuple[int, ...]) -> None:
    require_kind("shape", shape, tuple)
    for length in shape:
        require_integer("a length", length, 0)


def _check_parameter(parameter: np.ndarray, shape: tuple[int, ...]) -> None:
    require_array("a parameter", parameter)
    require_shape("a parameter", parameter, shape)


def _check_elements(tensor: np.ndarray) -> None:
    require_array("a tensor", tensor)
    if not tensor.size:
        raise BadInput("a tensor must have elements", got=tensor.shape, fix="skip empty tensors")


def _check_distinct(axes: tuple[int, ...]) -> None:
    require_kind("axes", axes, tuple)
    for axis in axes:
        require_kind("an axis", axis, (int, np.integer))
        require_integer("an axis", axis)
    if len(set(axes)) != len(axes):
        raise BadInput("an axis must be named once", got=axes, fix="drop the repetition")


def _check_axes(axes: tuple[int, ...], rank: int) -> None:
    if any(not 0 <= axis < rank for axis in axes):
        raise BadInput(
            f"axes must lie in 0..{rank - 1} for a tensor of rank {rank}", got=axes, fix="name existing axes"
        )
