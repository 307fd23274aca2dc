"""What a unit is fed and what it gives over the calibration samples, in full precision or in a rounded network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from samplers.errors import BadInput
from simulator.calibration.reconstruction.rounded_network import RoundedNetwork
from simulator.calibration.reconstruction.samples import Samples
from simulator.calibration.reconstruction.units import Reached, Unit, one_tensor
from simulator.instrument.contractions import Contraction
from simulator.instrument.forward import forward
from simulator.instrument.sites import SiteKey
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Model


@dataclass(frozen=True, eq=False)
class Recorded:
    """A unit's inputs over all samples.

    Attributes:
        leaves: flat arguments (of a contraction: its run-time operands); those with rows for each sample hold all.
        batched: which do.
        step: loop index of each row; None where it is not known.
        rows: samples, counted once for each row of a guided pass; 1 where nothing depends on the sample.
        output: with rows for each sample, where it was asked for.
    """

    leaves: tuple[Any, ...]
    batched: tuple[bool, ...]
    step: Tensor | None
    rows: int
    output: Tensor | None = None

    def batch(self, index: Tensor) -> list[Any]:
        """Arguments of some rows."""
        pairs = zip(self.leaves, self.batched, strict=True)
        return [rows_of(leaf, index, self.rows) if batched else leaf for leaf, batched in pairs]


def rows_of(tensor: Tensor, index: Tensor, rows: int) -> Tensor:
    """The parts of ``tensor`` (rows k, ...) that belong to the rows ``index``."""
    if len(tensor) == rows:
        return tensor[index]
    return tensor.unflatten(0, (rows, -1))[index].flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Passes:
    """How a model runs over its calibration samples.

    Attributes:
        model: the network.
        samples: all of them.
        size: samples of one pass.
        conditioning: their conditions.
        allow_float: sites that stay in float.
    """

    model: Model
    samples: Samples
    size: int
    conditioning: Conditioning | None
    allow_float: tuple[str, ...]


def record(
    passes: Passes, unit: Unit, network: RoundedNetwork | None, *, activations: bool = False, output: bool = False
) -> Recorded:
    """Run the network up to a unit, over all samples.

    Args:
        passes: how it runs.
        unit: what is recorded; the passes end with it.
        network: what is rounded of it; None for full precision.
        activations: whether run-time operands are rounded too.
        output: whether to keep what the unit gives.

    Raises:
        BadInput: an argument without rows for each sample that changes between passes, or values that are not finite.
    """
    found: list[tuple[Sequence[Any], Tensor | None]] = []
    guided = 1 if passes.conditioning is None else passes.conditioning.passes
    for part in passes.samples.passes(passes.size):
        step = None if part.step is None else part.step.repeat(guided)
        rows = len(part) * guided

        def handle(site: SiteKey, contraction: Contraction, step: Tensor | None = step, rows: int = rows) -> Tensor:
            if unit.module is None and site == unit.sites[0]:
                leaves = [tensor.clone() for tensor in contraction.activations().values()]
                found.append((leaves, contraction.float() if output else None))
                raise Reached
            if network is not None:
                contraction = network.rounded(site, contraction, activations=activations, step=step, rows=rows)
            return contraction.float()

        call = call_for(passes.model, passes.conditioning, part.member.numpy())
        with suppress(Reached), _hooked(unit, found, output, rows):
            forward(
                passes.model.module, handle, part.x, part.timestep, call=call, audit=False,
                allow_float=passes.allow_float,
            )  # fmt: skip
    return _joined(passes, unit, found, guided)


@contextmanager
def _hooked(unit: Unit, found: list[tuple[Sequence[Any], Tensor | None]], output: bool, rows: int) -> Iterator[None]:
    """Record a module's first run; copies, since a network may write to its tensors."""
    if unit.module is None:
        yield
        return
    leaves: list[Any] = []

    def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
        flat = pytree.tree_flatten((args, kwargs))[0]
        leaves.extend(leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in flat)
        if not output:
            found.append((leaves, None))
            raise Reached

    def leave(module: nn.Module, args: tuple, kwargs: dict, result: Any) -> None:
        found.append((leaves, one_tensor(result, rows).clone()))
        raise Reached

    handles = [unit.module.register_forward_pre_hook(enter, with_kwargs=True)]
    if output:
        handles.append(unit.module.register_forward_hook(leave, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _joined(passes: Passes, unit: Unit, found: list[tuple[Sequence[Any], Tensor | None]], guided: int) -> Recorded:
    columns = list(zip(*(leaves for leaves, _ in found), strict=True))
    leaves = []
    for column, batched in zip(columns, unit.batched, strict=True):
        if not batched and not all(_same(column[0], other) for other in column[1:]):
            raise BadInput(
                "an argument without rows for each sample must not change between passes",
                got=f"another value in {unit.name}", fix="reconstruct a larger block, or all samples in one pass",
            )  # fmt: skip
        leaves.append(torch.cat(column) if batched else column[0])
    depends = any(unit.batched)
    outputs = [output for _, output in found if output is not None]
    output = None if not outputs else torch.cat(outputs) if depends else outputs[0]
    for tensor in (*leaves, output):
        if isinstance(tensor, Tensor) and not torch.isfinite(tensor).all():
            raise BadInput(
                "calibration data must be finite", got=f"NaN or infinity at {unit.name}", fix="check model and samples"
            )
    step = None
    if depends and passes.samples.step is not None:
        parts = (part.step for part in passes.samples.passes(passes.size))
        step = torch.cat([part.repeat(guided) for part in parts if part is not None])
    rows = len(passes.samples) * guided if depends else 1
    return Recorded(tuple(leaves), unit.batched, step, rows, output)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    return bool(one == other)
