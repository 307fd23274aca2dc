"""One batch of a conditioned network: its rows, one forward pass, and guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.guidance import combine_outputs
from simulator.instrument.forward import Call


@dataclass(frozen=True)
class ConditionedCall:
    """Calls a network for the samples of one batch with their conditions; a ``Call`` of (module, x, timestep).

    Attributes:
        base: calls the network with conditions by keyword.
        conditions: a row for each row of the forward pass.
        samples: number of samples.
        passes: rows per sample.
        weight: of guidance.
    """

    base: Call
    conditions: Mapping[str, Tensor]
    samples: int
    passes: int
    weight: float

    def rows(self, per_sample: Tensor) -> Tensor:
        """The rows of the forward pass: (n, ...) -> (passes n, ...)."""
        if len(per_sample) != self.samples:
            raise BadInput(
                "a conditioned network takes the samples whose conditions it holds",
                got=f"{len(per_sample)} samples for {self.samples} conditions",
                fix="make one call for each batch",
            )
        return per_sample if self.passes == 1 else torch.cat([per_sample] * self.passes)

    def network(self, module: nn.Module, x: Tensor, timestep: Tensor) -> Tensor:
        """One forward pass over the rows that ``rows`` gives."""
        return self.base(module, x, timestep, **self.conditions)

    def __call__(self, module: nn.Module, x: Tensor, timestep: Tensor) -> Tensor:
        """The prediction for x, after guidance."""
        output = self.network(module, self.rows(x), self.rows(timestep))
        if self.passes == 1:
            return output
        unconditional, conditional = output.chunk(2)
        return combine_outputs(unconditional, conditional, self.weight, x)
