"""What is minimised: the difference between a unit's output in full precision and with its operands rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from simulator.calibration.differentiable import differentiable
from simulator.calibration.reconstruction.recording import Recorded, rows_of
from simulator.calibration.reconstruction.rounded_network import Keep, RoundedNetwork
from simulator.calibration.reconstruction.units import Unit, one_tensor
from simulator.instrument.contractions import Contraction, MatMul
from simulator.instrument.sites import SiteKey
from simulator.instrument.storage import Stored
from simulator.models.registry import Model

_AT_ONCE = 256

Soft = Mapping[Stored, Tensor]
"""Values of the weights that are being decided."""


class Problem:
    """One unit with its recorded inputs and target.

    Args:
        model: the network.
        unit: of it.
        network: what is decided so far.
        target: inputs in full precision, with the output.
        inputs: what the unit is fed; the target's own, or recorded in the rounded network.
        activations: whether run-time operands are rounded inside the unit.
        dropped: probability that an element, of the inputs or of an operand, stays in full precision; 0 drops nothing.
        p: power of the error.
        variant: what errors are summed over.
    """

    def __init__(
        self, model: Model, unit: Unit, network: RoundedNetwork, target: Recorded, inputs: Recorded, *,
        activations: bool, dropped: float, p: float, variant: str,
    ) -> None:  # fmt: skip
        self._model, self._unit, self._network = model, unit, network
        self._target, self._inputs = target, inputs
        self._activations, self._dropped, self._p, self._variant = activations, dropped, p, variant

    @property
    def rows(self) -> int:
        """Samples."""
        return self._target.rows

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Rows of a batch, without replacement; all in a fixed order if there are no more."""
        if size >= self.rows:
            return torch.arange(self.rows)
        return torch.randperm(self.rows, generator=generator)[:size]

    def error(self, index: Tensor, soft: Soft, generator: torch.Generator | None) -> Tensor:
        """``mean over samples of ||output - rounded output||_p^p`` of some rows, differentiable.

        Args:
            index: the rows.
            soft: values of undecided weights.
            generator: of what is dropped; None drops nothing.
        """
        return self._power(self._output(index, soft, generator) - self._target_of(index), len(index))

    @torch.no_grad()
    def total(self, soft: Soft) -> float:
        """The error over all rows, nothing dropped, summed in float64."""
        total = 0.0
        for index in torch.arange(self.rows).split(_AT_ONCE):
            with torch.no_grad():
                difference = self._output(index, soft, None).double() - self._target_of(index)
                total += float(self._power(difference, len(index))) * len(index)
        return total / self.rows

    def _target_of(self, index: Tensor) -> Tensor:
        output = self._target.output
        assert output is not None
        return rows_of(output, index, self.rows) if any(self._target.batched) else output

    def _power(self, difference: Tensor, rows: int) -> Tensor:
        power = difference.square() if self._p == 2 else difference.abs().pow(self._p)
        if self._variant == "released" and power.ndim > 1:
            return power.sum(1).mean()
        return power.sum() / rows

    def _output(self, index: Tensor, soft: Soft, generator: torch.Generator | None) -> Tensor:
        leaves, keep = self._inputs.batch(index), None
        if self._dropped and generator is not None:
            keep = keeping(self._dropped, generator)
            pairs = zip(leaves, self._target.batch(index), self._inputs.batched, strict=True)
            leaves = [
                torch.where(keep(own), own, rounded) if batched and own.is_floating_point() else rounded
                for rounded, own, batched in pairs
            ]
        step = None if self._inputs.step is None else self._inputs.step[index]
        sites = iter(self._unit.sites)

        def handle(site: SiteKey, contraction: Contraction) -> Tensor:
            return self._network.rounded(
                next(sites), contraction, soft=soft, activations=self._activations, step=step, rows=len(index),
                keep=keep,
            ).float()  # fmt: skip

        if self._unit.module is None:
            return handle(self._unit.sites[0], _fed(self._unit.contractions[0], leaves))
        args, kwargs = self._unit.arguments(leaves)
        module = self._unit.module
        return differentiable(self._model.module, handle, lambda: one_tensor(module(*args, **kwargs), len(index)))


def keeping(dropped: float, generator: torch.Generator) -> Keep:
    """A mask of elements that are each kept in float with probability ``dropped``, on its own."""

    def keep(x: Tensor) -> Tensor:
        return torch.rand(x.shape, generator=generator) < dropped

    return keep


def _fed(contraction: Contraction, operands: list[Tensor]) -> Contraction:
    if isinstance(contraction, MatMul):
        return replace(contraction, left=operands[0], right=operands[1])
    return replace(contraction, input=operands[0])
