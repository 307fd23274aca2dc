"""Every weight of a network, as one pass over zero samples meets it, and what quantization cuts off of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simulator.arithmetic.quantizer import QuantSpec
from simulator.instrument import emulation
from simulator.instrument.contractions import Contraction, MatMul, Weighted
from simulator.instrument.forward import forward
from simulator.instrument.rungs import Rung
from simulator.instrument.sites import SiteKey
from simulator.instrument.weight_codes import weight_codes
from simulator.models.conditioning import Conditioning
from simulator.models.registry import Model

if TYPE_CHECKING:
    from simulator.instrument.quantized import QuantizedModel


@torch.no_grad()
def visit_weights(
    model: Model,
    look: Callable[[SiteKey, Weighted], None],
    *,
    allow_float: tuple[str, ...] = (),
    conditioning: Conditioning | None = None,
) -> None:
    """Call ``look`` at every site with a weight, in execution order; its operands live no longer than the call."""
    x, timestep, call = torch.zeros(2, *model.sample_shape), torch.zeros(2, dtype=torch.long), model.call
    if conditioning is not None:
        conditioned = conditioning.of(model, range(2))
        x, timestep, call = conditioned.rows(x), conditioned.rows(timestep), conditioned.network

    def handle(site: SiteKey, contraction: Contraction) -> Tensor:
        if not isinstance(contraction, MatMul):
            look(site, contraction)
        return contraction.float()

    forward(model.module, handle, x, timestep, call=call, allow_float=allow_float)


def clipped_weights(network: QuantizedModel, *, step: int | None = None) -> dict[SiteKey, int]:
    """How many elements of each weight lie beyond the range of its codes, in execution order.

    A symmetric weight over its own extremes has none; of an asymmetric one the extremes may be cut off, by one code at
    most, where scale and zero point are both rounded. Sites whose weights are not integers (in float, in block formats,
    or all of them on the rung ACTIVATIONS) are left out.

    Args:
        network: the quantized network; nothing of it runs in integers here.
        step: the sampler's loop index, for schemes that depend on it.

    Raises:
        BadInput: no step given where one is needed.
    """
    return clipped_by_step(network, (step,))[0]


def clipped_by_step(network: QuantizedModel, steps: Sequence[int | None]) -> list[dict[SiteKey, int]]:
    """:func:`clipped_weights` at each of these steps, in one pass."""
    found: list[dict[SiteKey, int]] = [{} for _ in steps]
    if network.rung is Rung.ACTIVATIONS:
        return found

    def look(site: SiteKey, contraction: Weighted) -> None:
        known: dict[QuantSpec, int] = {}
        for step, counts in zip(steps, found, strict=True):
            treatment = network.treatment(site, step)
            spec = treatment.weight
            if spec is None:
                continue
            if spec not in known:
                weight = emulation.array(contraction.weight)
                known[spec] = weight_codes(contraction, weight, spec, treatment.weight_bounds).clipped
            counts[site] = known[spec]

    visit_weights(network.model, look, allow_float=network.allow_float, conditioning=network.conditioning)
    return found
