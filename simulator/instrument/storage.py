"""Where a network keeps its numbers: memory that several names, and several sites, may share."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Stored:
    """A tensor, or a view of one, in a network's memory. Complex numbers are two elements.

    Attributes:
        memory: name of the entry of the state dict that begins it; entries that overlap share a memory.
        offset: of its first element in that memory; this and all that follows count elements.
        shape: lengths of its axes.
        stride: steps between neighbours along each.
        item: bytes of an element.
    """

    memory: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    item: int = 4

    @property
    def end(self) -> int:
        """One past its last element."""
        return self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True)) + 1

    @property
    def axes(self) -> tuple[tuple[int, int], ...]:
        """Length and stride of the axes longer than 1: views with equal offsets and axes hold the same elements."""
        return tuple((n, step) for n, step in zip(self.shape, self.stride, strict=True) if n > 1)


class Storage:
    """The state dict of ``module``: parameters and persistent buffers.

    Attributes:
        tensors: its entries; tied ones differ in nothing.
    """

    def __init__(self, module: nn.Module) -> None:
        state = {name: _plain(tensor) for name, tensor in module.state_dict().items() if isinstance(tensor, Tensor)}
        state = {name: tensor for name, tensor in state.items() if tensor.layout == torch.strided and tensor.numel()}
        self._memories: list[tuple[int, int, str]] = []  # first byte, one past the last, name
        for name, tensor in sorted(state.items(), key=lambda item: item[1].data_ptr()):
            first, last = _bytes(tensor)
            if self._memories and first < self._memories[-1][1]:
                first, ends, name = self._memories.pop()
                last = max(last, ends)
            self._memories.append((first, last, name))
        self.tensors: tuple[Stored, ...] = tuple(found for t in state.values() if (found := self.find(t)) is not None)

    def find(self, tensor: Tensor) -> Stored | None:
        """Where ``tensor`` lies; None for one that was computed, or that no checkpoint holds."""
        if tensor.layout != torch.strided or tensor.is_complex() or not tensor.numel():
            return None
        first, last = _bytes(tensor)
        at = bisect_right(self._memories, first, key=lambda memory: memory[0]) - 1
        if at < 0 or last > self._memories[at][1]:
            return None
        begins, _, name = self._memories[at]
        item = tensor.element_size()
        return Stored(name, (first - begins) // item, tuple(tensor.shape), tuple(tensor.stride()), item)


def covered(tensors: Iterable[Stored], length: int) -> np.ndarray:
    """Which of a memory's first ``length`` elements lie in one of ``tensors``."""
    mask: np.ndarray = np.zeros(length, bool)
    for tensor in set(tensors):
        np.lib.stride_tricks.as_strided(mask[tensor.offset :], tensor.shape, tensor.stride)[...] = True
    return mask


def _plain(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _bytes(tensor: Tensor) -> tuple[int, int]:
    """Address of its first byte, and one past its last."""
    elements = Stored("", 0, tuple(tensor.shape), tuple(tensor.stride())).end
    return tensor.data_ptr(), tensor.data_ptr() + elements * tensor.element_size()
