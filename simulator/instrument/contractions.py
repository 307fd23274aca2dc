"""The contractions of a network as values: operands, float form, and cost.

Four forms are enough: whatever torch calls a contraction is one of these between elementwise operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from simulator.arithmetic.geometry import Geometry

PROBABILITY = "probability"
"""Role of a softmax output: its range is known, so it is never calibrated."""

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class _Weighted:
    """What contractions of one run-time operand with a weight share."""

    input: Tensor
    weight: Tensor

    def activations(self) -> dict[str, Tensor]:
        """Operands that are quantized at run time, by role."""
        return {"input": self.input}

    def operands(self) -> tuple[Tensor, ...]:
        """Every tensor that is multiplied."""
        return self.input, self.weight

    @property
    def contracted(self) -> int:
        """Input channels that an output reads."""
        return self.weight.shape[1]

    @property
    def elements(self) -> int:
        """Elements of the run-time operands."""
        return self.input.numel()


@dataclass(frozen=True)
class Linear(_Weighted):
    """``input @ weight.T + bias``; input (..., inputs), weight (outputs, inputs)."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None

    def float(self) -> Tensor:
        """The operation in torch float."""
        return F.linear(self.input, self.weight, self.bias)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.input.numel() * self.weight.shape[0]


@dataclass(frozen=True)
class Conv(_Weighted):
    """Convolution over 1 to 3 axes, zero padded; input (batch, channel, spatial...), torch's weight layout."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry

    def float(self) -> Tensor:
        """The operation in torch float; unequal padding is added as ``padding="same"`` adds it."""
        g, x = self.geometry, self.input
        if any(before != after for before, after in g.padding):
            x = F.pad(x, [n for before, after in reversed(g.padding) for n in (0, after - before)])
        before = tuple(pair[0] for pair in g.padding)
        return _CONV[g.axes](x, self.weight, self.bias, g.stride, before, g.dilation, g.groups)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padded taps included: output pixels times the weight's elements."""
        size = self.geometry.output_size(tuple(self.input.shape[2:]), tuple(self.weight.shape[2:]))
        return self.input.shape[0] * prod(size) * self.weight.numel()


@dataclass(frozen=True)
class ConvTranspose(_Weighted):
    """Transposed convolution; weight (channels, outputs per group, spatial...).

    ``geometry`` is that of the convolution whose gradient this is, its padding equal on both sides.
    """

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry
    output_padding: tuple[int, ...]

    def float(self) -> Tensor:
        """The operation in torch float."""
        g = self.geometry
        padding = tuple(pair[0] for pair in g.padding)
        return _CONV_TRANSPOSE[g.axes](
            self.input, self.weight, self.bias, g.stride, padding, self.output_padding, g.groups, g.dilation
        )

    @property
    def contracted(self) -> int:
        """Input channels that an output reads."""
        return len(self.weight) // self.geometry.groups

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the scattering form: each input pixel meets its channel's weights once."""
        return self.input.numel() * prod(self.weight.shape[1:])


@dataclass(frozen=True)
class MatMul:
    """``left @ right.T`` over the last two axes, both operands computed at run time.

    left (..., rows, depth) and right (..., columns, depth); leading axes broadcast. ``roles`` names the operands, for
    instance ("query", "key"); a probability (a softmax output) lies in [0, 1].
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
    def shape(self) -> tuple[int, ...]:
        """Of the product."""
        return (*self.leading, self.left.shape[-2], self.right.shape[-2])

    @property
    def leading(self) -> tuple[int, ...]:
        """Leading axes of the output."""
        return tuple(torch.broadcast_shapes(self.left.shape[:-2], self.right.shape[:-2]))

    @property
    def elements(self) -> int:
        """Elements of the run-time operands, broadcast."""
        return prod(self.leading) * (self.left.shape[-2] + self.right.shape[-2]) * self.left.shape[-1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return prod(self.leading) * self.left.shape[-2] * self.right.shape[-2] * self.left.shape[-1]


Weighted = Linear | Conv | ConvTranspose
Contraction = Linear | Conv | ConvTranspose | MatMul
