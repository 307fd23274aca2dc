"""Split shortcuts: the two halves of a skip concatenation get quantizers of their own.

A layer that reads ``[x1, x2]`` becomes two, ``W [x1, x2] = W1 x1 + W2 x2``, summed in float: two sites, hence two
activation ranges and two weight scales per output channel. Source: Q-Diffusion (Li et al. 2023, arXiv:2302.04304),
section 4.2, and its code, where the shortcut's convolution alone is split.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from simulator.calibration.transforms.concatenations import Concatenation, concatenations_of
from simulator.calibration.transforms.layers import convolution_like, put
from simulator.models.derived import derive
from simulator.models.registry import Model


class Readers(Enum):
    """Which layers are split."""

    DIRECT = "direct"
    """Those that read the concatenation itself, as the paper and its code: the convolutions of shortcuts."""
    ALL = "all"
    """Also those that read its channels after norm and activation, which make the halves' ranges more alike."""


class SplitLayer(nn.Module):
    """A layer over two groups of input channels, each with a layer of its own; the first has the bias.

    Args:
        layer: linear, or a convolution without groups.
        first: channels of the first half.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, first: int) -> None:
        super().__init__()
        self.axis = -1 if isinstance(layer, nn.Linear) else 1
        self.first = first
        self.trunk = _part(layer, slice(None, first), layer.bias)
        self.skip = _part(layer, slice(first, None), None)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both halves' results."""
        trunk, skip = x.tensor_split([self.first], dim=self.axis)
        return self.trunk(trunk) + self.skip(skip)


@dataclass(frozen=True)
class Split:
    """A network with split layers.

    Attributes:
        model: the network; a layer's two sites lie under ``<layer>.trunk`` and ``<layer>.skip``.
        layers: paths of the layers that were split.
    """

    model: Model
    layers: tuple[str, ...]


def split_shortcuts(
    model: Model, readers: Readers = Readers.DIRECT, *, concatenations: tuple[Concatenation, ...] | None = None
) -> Split:
    """Split the layers that read a skip concatenation.

    The float result differs by rounding alone. The multiply-accumulates stay the same; one addition per output is new.

    Args:
        model: a UNet.
        readers: which layers.
        concatenations: where they are; by default what the network's family knows.

    Raises:
        BadInput: a network without skip concatenations or without layers that read one, or of an unknown family;
            grouped convolutions; a first half that is not smaller than the layer's input.
    """
    places = concatenations_of(model) if concatenations is None else concatenations
    halves = {
        path: place.first
        for place in places
        for path in (*place.direct, *(place.normalized if readers is Readers.ALL else ()))
    }
    if not halves:
        raise BadInput(
            "a split shortcut needs a layer that reads a skip concatenation",
            got=f"none in {type(model.module).__name__}",
            fix="use Readers.ALL, or a network whose shortcuts have a convolution",
        )
    for path, first in halves.items():
        _require_divisible(model.module, path, first)

    def change(module: nn.Module) -> None:
        for path, first in halves.items():
            layer = module.get_submodule(path)
            assert isinstance(layer, nn.Linear | nn.Conv2d)
            put(module, path, SplitLayer(layer, first))

    name = "split" if readers is Readers.DIRECT else "split-all"
    return Split(derive(model, change, name), tuple(halves))


def _require_divisible(module: nn.Module, path: str, first: int) -> None:
    try:
        layer = module.get_submodule(path)
    except AttributeError as error:
        raise BadInput("a split layer must be one of the network's", got=path, fix="correct the path") from error
    if type(layer) not in (nn.Linear, nn.Conv2d) or getattr(layer, "groups", 1) != 1:
        raise BadInput(
            "a split layer must be linear or a plain convolution without groups",
            got=f"{type(layer).__name__} at {path}",
            fix="split first, transform afterwards",
        )
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    last = layer.weight.shape[1] - 1
    if not 0 < first <= last:
        raise BadInput(
            f"the first half must have 1 to {last} channels",
            got=f"{first} at {path}",
            fix="give the channels that come first in the concatenation",
        )


def _part(layer: nn.Linear | nn.Conv2d, channels: slice, bias: Tensor | None) -> nn.Linear | nn.Conv2d:
    weight = layer.weight.detach()[:, channels].clone(memory_format=torch.preserve_format)
    new: nn.Linear | nn.Conv2d
    if isinstance(layer, nn.Conv2d):
        new = convolution_like(nn.Conv2d, layer, weight.shape[1], bias=bias is not None)
    else:
        with torch.device("meta"):
            new = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    new.weight = nn.Parameter(weight, requires_grad=False)
    new.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
    return new
