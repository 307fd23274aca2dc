"""Layers whose input passes operations without a contraction first, and the replacement of layers in a network.

The new layer stands at the path of the old one, so its site keeps its name.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplers.errors import BadInput


class Divide(nn.Module):
    """``x / divisor`` channel by channel; ``trailing`` axes follow the channels', 2 for images."""

    divisor: Tensor

    def __init__(self, divisor: Tensor, trailing: int) -> None:
        super().__init__()
        self.trailing = trailing
        self.register_buffer("divisor", divisor)

    def forward(self, x: Tensor) -> Tensor:
        """Divide."""
        return x / self.divisor.reshape(-1, *[1] * self.trailing)


class TransformedLinear(nn.Linear):
    """A linear layer whose input passes ``before`` first, and whose output is added to that of ``branch``."""

    before: nn.Sequential
    branch: nn.Sequential | None

    def forward(self, x: Tensor) -> Tensor:
        """``F.linear(before(x)) + branch(before(x))``: the layer's own contraction comes last, as it did alone."""
        x = self.before(x)
        beside = None if self.branch is None else self.branch(x)
        own = F.linear(x, self.weight, self.bias)
        return own if beside is None else own + beside


class TransformedConv2d(nn.Conv2d):
    """A convolution whose input passes ``before`` first, which must leave zeros zero: padding comes after it."""

    before: nn.Sequential

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``before(x)``."""
        return self._conv_forward(self.before(x), self.weight, self.bias)


def transformed_linear(layer: nn.Linear) -> TransformedLinear:
    """The layer with room for operations before it; itself if it has that already. Parameters are shared."""
    if isinstance(layer, TransformedLinear):
        return layer
    with torch.device("meta"):
        new = TransformedLinear(layer.in_features, layer.out_features, layer.bias is not None)
    new.weight, new.bias = layer.weight, layer.bias
    new.before, new.branch = nn.Sequential(), None
    return new


def transformed_conv(layer: nn.Conv2d) -> TransformedConv2d:
    """As :func:`transformed_linear`."""
    if isinstance(layer, TransformedConv2d):
        return layer
    new = convolution_like(TransformedConv2d, layer, layer.in_channels, bias=layer.bias is not None)
    new.weight, new.bias = layer.weight, layer.bias
    new.before = nn.Sequential()
    return new


_Conv = TypeVar("_Conv", bound=nn.Conv2d)


def convolution_like(kind: type[_Conv], layer: nn.Conv2d, channels: int, *, bias: bool) -> _Conv:
    """A convolution with the layer's geometry and output channels, without values."""
    geometry: dict[str, Any] = {
        name: getattr(layer, name)
        for name in ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    }
    with torch.device("meta"):
        return kind(channels, layer.out_channels, **geometry, bias=bias)


def put(module: nn.Module, path: str, new: nn.Module) -> None:
    """Replace the module at ``path``."""
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, new)


def linear_layers(module: nn.Module, patterns: tuple[str, ...]) -> dict[str, nn.Linear]:
    """Linear layers whose paths match a glob, in the network's order.

    Raises:
        BadInput: a pattern without a layer, or layers that another module computes with, unseen by hooks and sites.
    """
    layers = {path: m for path, m in module.named_modules() if type(m) in (nn.Linear, TransformedLinear)}
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in layers):
            raise BadInput(
                "a pattern must name a linear layer", got=repr(pattern),
                fix=f"the network has {', '.join(layers) or 'none'}",
            )  # fmt: skip
    found = {path: m for path, m in layers.items() if any(fnmatchcase(path, pattern) for pattern in patterns)}
    for path in found:
        parent = module.get_submodule(path.rpartition(".")[0])
        if isinstance(parent, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer | nn.MultiheadAttention):
            raise BadInput(
                "a layer must be called by its network to see another input",
                got=f"{path}, whose weight {type(parent).__name__} may read without calling it",
                fix="leave it out, or write the block with plain linear layers",
            )
    return found  # type: ignore[return-value]  # `layers` holds linear ones alone
