"""The parts of a network that are reconstructed one after the other: single contractions, or blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind
from simulator.instrument.contractions import Contraction
from simulator.instrument.forward import forward
from simulator.instrument.sites import SiteKey
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.dit import DiT
from simulator.models.registry import Model
from simulator.models.unet import UNet


@dataclass(frozen=True)
class Blocks:
    """The blocks of a network, by module path. What lies in none is reconstructed contraction by contraction.

    Raises:
        BadInput: no tuple of paths, a path twice, or one inside another.
    """

    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        require_kind("paths", self.paths, tuple)
        if not all(isinstance(path, str) and path for path in self.paths):
            raise BadInput("a block is named by its module path", got=self.paths, fix='write ("down.0",)')
        for path in self.paths:
            inside = [other for other in self.paths if f"{path}.".startswith(f"{other}.")]
            if inside != [path]:
                raise BadInput("blocks must be disjoint", got=f"{path} beside {inside}", fix="keep one of them")

    @classmethod
    def of(cls, module: nn.Module) -> Blocks:
        """Residual and attention blocks of this project's UNet and DiT; of others the direct children.

        Lists and dictionaries of modules are no modules that run: their children count.
        """
        if isinstance(module, UNet):
            return cls(tuple(path for path in _children(module) if path.startswith(("down.", "mid.", "up."))))
        if isinstance(module, DiT):
            return cls(tuple(path for path in _children(module) if path.startswith("blocks.")))
        return cls(tuple(_children(module)))


def _children(module: nn.Module, prefix: str = "") -> Iterator[str]:
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _children(child, f"{prefix}{name}.")
        else:
            yield prefix + name


@dataclass(frozen=True, eq=False)
class Unit:
    """A part of a network, and what a pass of two zero samples showed of it.

    Attributes:
        name: its module path, or its site.
        sites: its contractions in the order in which they run.
        contractions: as they ran; of their operands only weights and biases are used.
        module: the module; None for a single contraction.
        structure: of a module's arguments.
        batched: which leaves of its arguments (of a contraction: which run-time operands) have rows for each sample.
    """

    name: str
    sites: tuple[SiteKey, ...]
    contractions: tuple[Contraction, ...]
    module: nn.Module | None
    structure: Any
    batched: tuple[bool, ...]

    def arguments(self, leaves: list[Any]) -> tuple[tuple, dict]:
        """Arguments again."""
        args, kwargs = pytree.tree_unflatten(leaves, self.structure)
        return args, kwargs


class Reached(Exception):
    """What was looked for has run: the pass can end."""


@dataclass(frozen=True)
class _Seen:
    sites: tuple[SiteKey, ...]
    contractions: tuple[Contraction, ...]
    structure: Any
    leaves: tuple[Any, ...]


def partition(
    model: Model,
    blocks: Blocks | None = None,
    *,
    conditioning: Conditioning | None = None,
    allow_float: tuple[str, ...] = (),
) -> tuple[Unit, ...]:
    """Units of a network in the order in which they begin to run.

    A block that runs several times in a pass is reconstructed on its first run; sites of its later runs are in no unit.

    Args:
        model: the network.
        blocks: each must hold a contraction; None takes those of ``Blocks.of`` that do.
        conditioning: without which some networks cannot be called.
        allow_float: patterns of sites that are in no unit.

    Raises:
        BadInput: a block that is no module of the network, or in which no contraction runs.
    """
    modules, given = dict(model.module.named_modules()), blocks
    blocks = Blocks.of(model.module) if blocks is None else blocks
    for path in blocks.paths:
        if path not in modules:
            raise BadInput("a block must be a module of the network", got=repr(path), fix="name one of its modules")
    two, three = (_probe(model, blocks, rows, conditioning, allow_float) for rows in (2, 3))
    units = []
    for name, seen in two.items():
        batched = tuple(_grows(a, b) for a, b in zip(seen.leaves, three[name].leaves, strict=True))
        module = modules[name] if name in blocks.paths else None
        units.append(Unit(name, seen.sites, seen.contractions, module, seen.structure, batched))
    idle = set(blocks.paths) - {unit.name for unit in units if unit.sites}
    if given is not None and idle:
        raise BadInput("a block must hold a contraction that runs", got=min(idle), fix="leave it out")
    return tuple(unit for unit in units if unit.sites)


def one_tensor(output: Any, rows: int) -> Tensor:
    """What a block returns as one tensor: several are laid side by side, flat, with a row for each sample."""
    if isinstance(output, Tensor):
        return output
    leaves = [leaf for leaf in pytree.tree_flatten(output)[0] if isinstance(leaf, Tensor)]
    return torch.cat([leaf.reshape(rows, -1) for leaf in leaves], dim=1)


def _grows(two: Any, three: Any) -> bool:
    if not isinstance(two, Tensor) or not two.ndim:
        return False
    return len(two) != len(three)


def _probe(
    model: Model, blocks: Blocks, rows: int, conditioning: Conditioning | None, allow_float: tuple[str, ...]
) -> dict[str, _Seen]:
    found: dict[str, _Seen] = {}
    runs: dict[str, int] = dict.fromkeys(blocks.paths, 0)
    inside: list[str] = []

    def note(site: SiteKey, contraction: Contraction) -> Tensor:
        if not inside:
            leaves = tuple(contraction.activations().values())
            found[str(site)] = _Seen((site,), (contraction,), None, leaves)
        elif runs[inside[0]] == 1:
            seen = found[inside[0]]
            found[inside[0]] = replace(seen, sites=(*seen.sites, site), contractions=(*seen.contractions, contraction))
        return contraction.float()

    def watch(path: str) -> tuple[Any, Any]:
        def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
            inside.append(path)
            runs[path] += 1
            if runs[path] == 1:
                leaves, structure = pytree.tree_flatten((args, kwargs))
                found[path] = _Seen((), (), structure, tuple(leaves))

        def leave(module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
            inside.pop()

        return enter, leave

    handles = []
    for path in blocks.paths:
        enter, leave = watch(path)
        module = model.module.get_submodule(path)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    x, timestep = torch.zeros(rows, *model.sample_shape), torch.zeros(rows, dtype=torch.long)
    call = call_for(model, conditioning, range(rows))
    try:
        forward(model.module, note, x, timestep, call=call, audit=False, allow_float=allow_float)
    finally:
        for handle in handles:
            handle.remove()
    return found
