"""Rescaling one input's channels exactly: ``X' = X / c - d`` where it is made, ``W' = W c`` and ``b' = b + W' d`` where
it is read.

Everything is computed in float64 and rounded to float32 once. For adaLN, ``X = n (1 + gamma) + beta`` with
``gamma = W_gamma e + b_gamma`` and ``beta = W_beta e + b_beta``, the fold is W_gamma / c, (1 + b_gamma) / c - 1,
W_beta / c and b_beta / c - d (PTQ4DiT, Wu et al. 2024, arXiv:2405.16005, with d = 0).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from simulator.calibration.balancing.graph import AdaptiveNorm, AffineNorm, Graph, Input, Outputs
from simulator.calibration.transforms.layers import (
    Divide,
    TransformedConv2d,
    TransformedLinear,
    put,
    transformed_conv,
    transformed_linear,
)

Layer = nn.Linear | nn.Conv2d


def reader(module: nn.Module, path: str) -> Layer:
    """The layer at a path, if its input channels can be rescaled.

    Raises:
        BadInput: no such layer, another kind of layer, a convolution with groups, or a linear layer with a branch.
    """
    try:
        layer = module.get_submodule(path)
    except AttributeError as error:
        raise BadInput("a graph must name layers of the network", got=path, fix="correct the path") from error
    plain = type(layer) in (nn.Linear, nn.Conv2d, TransformedLinear, TransformedConv2d)
    if not plain or getattr(layer, "groups", 1) != 1 or getattr(layer, "branch", None) is not None:
        raise BadInput(
            "layers to be balanced are linear or convolutions without groups, and without a low-rank branch",
            got=f"{type(layer).__name__} at {path}",
            fix="balance the network before other transforms, and leave this layer out",
        )
    assert isinstance(layer, Layer)
    return layer


def check_graph(module: nn.Module, graph: Graph) -> None:
    """Refuse a graph that does not fit the network.

    Raises:
        BadInput: layers that are absent or of another kind, channels that do not fit, a norm without parameters.
    """
    for found in graph.inputs:
        channels = {reader(module, path).weight.shape[1] for path in found.readers}
        for kind, size in _sizes(module, found):
            channels.add(size)
            if size < 1:
                raise BadInput(f"{kind} must hold a factor", got=f"no parameters at {found.name}", fix="divide instead")
        if len(channels) != 1:
            raise BadInput("an input has one number of channels", got=sorted(channels), fix=f"check {found.name}")


def _sizes(module: nn.Module, found: Input) -> list[tuple[str, int]]:
    """Channels that the source can rescale."""
    match found.source:
        case AdaptiveNorm(modulation, shift, scale):
            rows = reader(module, modulation).weight.shape[0]
            fits = all(0 <= first < end <= rows for first, end in (shift, scale))
            return [("adaLN", end - first if fits else 0) for first, end in (shift, scale)]
        case AffineNorm(norm):
            weight = getattr(module.get_submodule(norm), "weight", None)
            return [("a norm", 0 if weight is None else weight.numel())]
        case Outputs(layers):
            return [("a layer", reader(module, path).weight.shape[0]) for path in layers]
    return []


def salience_of_weight(module: nn.Module, found: Input) -> np.ndarray:
    """``s(W_j) = max |W_j|`` over all readers: float64 (channels,)."""
    return np.max([_columns(reader(module, path).weight).abs().amax(1).numpy() for path in found.readers], axis=0)


def _columns(weight: Tensor) -> Tensor:
    """A weight by input channels: float64 (channels, the rest)."""
    return weight.detach().double().transpose(0, 1).flatten(1)


def fold(module: nn.Module, found: Input, factor: np.ndarray, offset: np.ndarray | None = None) -> None:
    """Rescale an input in place.

    Args:
        module: the network.
        found: which input.
        factor: c, float64 (channels,), positive.
        offset: d, float64 (channels,); None is 0. Only for linear readers and sources that are folded.
    """
    c = torch.from_numpy(np.ascontiguousarray(factor))
    d = None if offset is None else torch.from_numpy(np.ascontiguousarray(offset))
    match found.source:
        case AdaptiveNorm(modulation, shift, scale):
            layer = reader(module, modulation)
            _rescale(layer, slice(*scale), c, added=1.0)
            _rescale(layer, slice(*shift), c, minus=d)
        case AffineNorm(norm):
            affine = module.get_submodule(norm)
            assert isinstance(affine, nn.LayerNorm | nn.GroupNorm)
            _set(affine, "weight", affine.weight.detach().double() / c)
            bias = torch.zeros_like(c) if affine.bias is None else affine.bias.detach().double() / c
            _set(affine, "bias", bias if d is None else bias - d)
        case Outputs(layers):
            for index, path in enumerate(layers):
                _rescale(reader(module, path), slice(None), c, minus=d if index == 0 else None)
        case _:
            assert d is None
            for path in found.readers:
                _divide_first(module, path, c)
    for path in found.readers:
        layer = reader(module, path)
        weight = layer.weight.detach().double() * c.reshape(1, -1, *[1] * (layer.weight.ndim - 2))
        _set(layer, "weight", weight)
        if d is not None:
            _set(layer, "bias", _bias(layer) + layer.weight.detach().double() @ d)


def _rescale(layer: Layer, rows: slice, c: Tensor, *, added: float = 0.0, minus: Tensor | None = None) -> None:
    """Output channels ``rows``: ``(added + y) / c - minus - added`` in place of y."""
    weight, bias = layer.weight.detach().double().clone(), _bias(layer)
    weight[rows] /= c.reshape(-1, *[1] * (weight.ndim - 1))
    bias[rows] = (bias[rows] + added) / c - added - (0.0 if minus is None else minus)
    _set(layer, "weight", weight)
    _set(layer, "bias", bias)


def _bias(layer: Layer) -> Tensor:
    if layer.bias is None:
        return torch.zeros(layer.weight.shape[0], dtype=torch.float64)
    return layer.bias.detach().double().clone()


def _set(layer: nn.Module, name: str, value: Tensor) -> None:
    """Replace a parameter, in the old one's memory layout."""
    old = getattr(layer, name)
    new = value.float()
    if isinstance(old, Tensor) and old.ndim == 4 and old.is_contiguous(memory_format=torch.channels_last):
        new = new.contiguous(memory_format=torch.channels_last)
    setattr(layer, name, nn.Parameter(new, requires_grad=False))


def _divide_first(module: nn.Module, path: str, c: Tensor) -> None:
    layer = reader(module, path)
    new = transformed_conv(layer) if isinstance(layer, nn.Conv2d) else transformed_linear(layer)
    new.before.append(Divide(c.float(), 2 if isinstance(layer, nn.Conv2d) else 0))
    put(module, path, new)
