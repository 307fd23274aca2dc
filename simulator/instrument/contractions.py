"""The contractions of a network as values: operands, float form, and cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Linear:
    """``input @ weight.T + bias``; input (..., inputs), weight (outputs, inputs)."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None

    def activations(self) -> dict[str, Tensor]:
        """Operands that are quantized at run time, by role."""
        return {"input": self.input}

    def operands(self) -> tuple[Tensor, ...]:
        """Every tensor that is multiplied."""
        return self.input, self.weight

    def float(self) -> Tensor:
        """The operation in torch float."""
        return F.linear(self.input, self.weight, self.bias)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.input.numel() * self.weight.shape[0]


@dataclass(frozen=True)
class Conv2d:
    """2-D convolution without dilation or groups, zero padded; input (batch, channel, height, width)."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]

    def activations(self) -> dict[str, Tensor]:
        """Operands that are quantized at run time, by role."""
        return {"input": self.input}

    def operands(self) -> tuple[Tensor, ...]:
        """Every tensor that is multiplied."""
        return self.input, self.weight

    def float(self) -> Tensor:
        """The operation in torch float."""
        return F.conv2d(self.input, self.weight, self.bias, self.stride, self.padding)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padded taps included."""
        height, width = (
            (n + 2 * p - k) // s + 1
            for n, p, k, s in zip(self.input.shape[2:], self.padding, self.weight.shape[2:], self.stride, strict=True)
        )
        return self.input.shape[0] * height * width * self.weight.numel()


@dataclass(frozen=True)
class MatMul:
    """``left @ right.T`` over the last two axes, both operands computed at run time.

    left (..., rows, depth) and right (..., columns, depth) have equal leading axes. ``roles`` names them, for instance
    ("query", "key"); a probability (a softmax output) lies in [0, 1].
    """

    left: Tensor
    right: Tensor
    roles: tuple[str, str]

    def activations(self) -> dict[str, Tensor]:
        """Operands that are quantized at run time, by role."""
        return dict(zip(self.roles, (self.left, self.right), strict=True))

    def operands(self) -> tuple[Tensor, ...]:
        """Every tensor that is multiplied."""
        return self.left, self.right

    def float(self) -> Tensor:
        """The operation in torch float."""
        return torch.matmul(self.left, self.right.transpose(-1, -2))

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.left.numel() * self.right.shape[-2]


Contraction = Linear | Conv2d | MatMul
