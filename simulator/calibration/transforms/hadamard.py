"""Hadamard rotation: every linear layer sees a rotated input through rotated weights, and outliers spread out.

``W x = (W H^T)(H x)`` for orthogonal H. ``H x`` is a fast Walsh-Hadamard transform: additions and one scaling, so it is
no contraction and no site. Source: QuaRot (Ashkboos et al. 2024, arXiv:2404.00456), whose rotations are folded into
neighbouring layers where it can; here each layer transforms its own input, which holds for any network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.calibration.transforms.layers import linear_layers, put, transformed_linear
from simulator.models.derived import derive
from simulator.models.registry import Model


def block_size(length: int) -> int:
    """The largest power of two that divides ``length``: size of the blocks of its rotation."""
    return length & -length


def hadamard(x: Tensor, size: int) -> Tensor:
    """Multiply the last axis by the orthonormal, block-diagonal Hadamard matrix with blocks of ``size``.

    Each block is H_n / sqrt(n) with H_2n = [[H_n, H_n], [H_n, -H_n]] (Sylvester), which is symmetric and its own
    inverse. It costs log2(n) additions and one product per element.

    Args:
        x: (..., length) floats.
        size: a power of two that divides the length.
    """
    blocks, half = x.unflatten(-1, (-1, size)), 1
    while half < size:
        pairs = blocks.unflatten(-1, (-1, 2, half))
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        blocks = torch.stack((first + second, first - second), dim=-2).flatten(-3)
        half *= 2
    return (blocks * size**-0.5).flatten(-2)


class Hadamard(nn.Module):
    """``H (signs * x)`` over the last axis; without signs ``H x``."""

    signs: Tensor | None

    def __init__(self, size: int, signs: Tensor | None = None) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("signs", signs)

    def forward(self, x: Tensor) -> Tensor:
        """Rotate."""
        return hadamard(x if self.signs is None else x * self.signs, self.size)

    def extra_repr(self) -> str:
        """The blocks' size."""
        return f"size={self.size}, signs={self.signs is not None}"


@dataclass(frozen=True)
class Rotation:
    """Which layers are rotated, and how.

    Args:
        layers: globs of paths of linear layers.
        seed: of random signs before the transform, drawn for each layer in the network's order; None for none. Without
            signs a constant input becomes one spike of sqrt(n) times its value.

    Raises:
        BadInput: no pattern, or a negative seed.
    """

    layers: tuple[str, ...] = ("*",)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple) or not self.layers:
            raise BadInput("layers must be a tuple of patterns", got=repr(self.layers), fix='write ("*",)')
        if self.seed is not None:
            require_int("seed", self.seed, 0)

    @property
    def name(self) -> str:
        """What is appended to a model's name."""
        return "hadamard" if self.seed is None else f"hadamard-signs{self.seed}"


@dataclass(frozen=True)
class Rotated:
    """A rotated network.

    Attributes:
        model: the network; its sites have the names they had.
        blocks: size of the blocks of each chosen layer's rotation, by path; 1 for odd lengths, which stay as they are.
        additions: per token (row of the layer's input), by path: length * log2(block).
    """

    model: Model
    blocks: Mapping[str, int]
    additions: Mapping[str, int]


def rotate(model: Model, rotation: Rotation = Rotation()) -> Rotated:
    """Rotate the input of linear layers, their weights in float64 with one rounding.

    Raises:
        BadInput: a pattern without a layer, layers that are not called, or none of even length.
    """
    chosen = linear_layers(model.module, rotation.layers)
    blocks = {path: block_size(layer.in_features) for path, layer in chosen.items()}
    if not any(size > 1 for size in blocks.values()):
        raise BadInput(
            "a rotation needs a linear layer with an even number of inputs", got=f"{len(blocks)} layers, none of them",
            fix="choose other layers",
        )  # fmt: skip
    generator = None if rotation.seed is None else torch.Generator().manual_seed(rotation.seed)

    def change(module: nn.Module) -> None:
        for path, layer in linear_layers(module, rotation.layers).items():
            signs = None
            if generator is not None:
                signs = 2.0 * torch.randint(0, 2, (layer.in_features,), generator=generator) - 1.0
            if blocks[path] == 1:
                continue
            operation = Hadamard(blocks[path], signs)
            new = transformed_linear(layer)
            if new.branch is not None:
                raise BadInput(
                    "a rotation comes before a low-rank branch", got=f"a branch at {path}", fix="rotate the model first"
                )
            new.weight = nn.Parameter(operation(layer.weight.detach().double()).float(), requires_grad=False)
            new.before.append(operation)
            put(module, path, new)

    lengths = {path: layer.in_features for path, layer in chosen.items()}
    additions = {path: lengths[path] * (size.bit_length() - 1) for path, size in blocks.items()}
    return Rotated(derive(model, change, rotation.name), blocks, additions)
