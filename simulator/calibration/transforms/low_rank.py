"""A low-rank branch beside a low-bit layer: ``W x = L1 (L2 x) + R x``, where R has lost its largest directions.

Source: SVDQuant (Li et al. 2024, arXiv:2411.05007): rank 32, the branch in 16 bits, R in 4 bits by groups of 64, after
outliers have been moved from activations to weights by smoothing (``balancing.balance`` with ``SmoothQuant``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.calibration.transforms.layers import linear_layers, put, transformed_linear
from simulator.instrument.scheme import Rule, Settings
from simulator.models.derived import derive
from simulator.models.registry import Model

DOWN, UP = "down", "up"
"""The branch's two layers: from the inputs to the rank, and from there to the outputs."""


@dataclass(frozen=True)
class LowRank:
    """Which layers get a branch.

    Args:
        rank: of the branch, at most the smaller side of the weight.
        layers: globs of paths of linear layers.

    Raises:
        BadInput: a rank below 1, or no pattern.
    """

    rank: int = 32
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        require_int("rank", self.rank, 1)
        if not isinstance(self.layers, tuple) or not self.layers:
            raise BadInput("layers must be a tuple of patterns", got=repr(self.layers), fix='write ("*",)')


@dataclass(frozen=True)
class Branched:
    """A network with low-rank branches.

    Attributes:
        model: the network. The residual's site has the name of the layer; the branch's are ``<layer>.branch.down``
            and ``<layer>.branch.up``.
        ranks: of the branches, by the layers' paths.
        explained: share of ||W||^2 (Frobenius) that the branch holds.
    """

    model: Model
    ranks: Mapping[str, int]
    explained: Mapping[str, float]

    def branch_rules(self, bits: int = 16) -> tuple[Rule, ...]:
        """Rules that keep the branches at ``bits``, weights per output channel; put them after a scheme's own."""
        sites = tuple(f"{path}.branch.{part}" for path in self.ranks for part in (DOWN, UP))
        return (Rule(sites, Settings(weight_bits=bits, activation_bits=bits, group_size=0, block="integers")),)

    def residual_rules(self, bits: int = 4, group_size: int = 64) -> tuple[Rule, ...]:
        """Rules for R: weights of ``bits`` in groups along the inputs, the last possibly shorter."""
        sites = tuple(f"{path}:linear" for path in self.ranks)
        return (Rule(sites, Settings(weight_bits=bits, group_size=group_size)),)


def factorize(weight: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """(down, up, residual) float32 with ``up @ down + residual = weight`` to one rounding of the residual.

    The best approximation of that rank (singular value decomposition in float64): down holds right singular vectors
    times singular values, up the left ones, as SVDQuant has it. The residual is taken from the factors as rounded to
    float32, so what rounding takes from them it gets back. Signs: each left vector's largest entry is positive.

    Args:
        weight: (outputs, inputs) float32.
        rank: 1 to the smaller side.
    """
    wide = weight.detach().double()
    left, values, right = torch.linalg.svd(wide, full_matrices=False)
    left, right = left[:, :rank], right[:rank]
    largest = left.abs().argmax(dim=0, keepdim=True)
    signs = torch.where(left.gather(0, largest) < 0, -1.0, 1.0)
    up, down = (left * signs).float(), (right * (values[:rank, None] * signs.T)).float()
    return down, up, (wide - up.double() @ down.double()).float()


def add_low_rank_branches(model: Model, low_rank: LowRank = LowRank()) -> Branched:
    """Split each chosen layer into a branch of two linear layers and a residual.

    Raises:
        BadInput: a pattern without a layer, layers that are not called, or that have a branch already.
    """
    ranks: dict[str, int] = {}
    explained: dict[str, float] = {}

    def change(module: nn.Module) -> None:
        for path, layer in linear_layers(module, low_rank.layers).items():
            new = transformed_linear(layer)
            if new.branch is not None:
                raise BadInput("a layer has one low-rank branch", got=f"one at {path} already", fix="leave it out")
            ranks[path] = min(low_rank.rank, *layer.weight.shape)
            total = layer.weight.double().square().sum()
            down, up, residual = factorize(layer.weight, ranks[path])
            explained[path] = float(1 - residual.double().square().sum() / total) if total else 1.0
            new.branch = nn.Sequential(OrderedDict([(DOWN, _linear(down)), (UP, _linear(up))]))
            new.weight = nn.Parameter(residual, requires_grad=False)
            put(module, path, new)

    derived = derive(model, change, f"lowrank{low_rank.rank}")
    return Branched(derived, ranks, explained)


def _linear(weight: Tensor) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    return layer
