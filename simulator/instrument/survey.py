"""What a network contracts: one probing forward pass, and the sites it found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.instrument.contractions import Contraction, MatMul
from simulator.instrument.forward import forward
from simulator.instrument.sites import SiteKey
from simulator.models.registry import Model


@dataclass(frozen=True)
class SiteFacts:
    """A site of a network.

    Attributes:
        key: its name.
        roles: operands quantized at run time.
        weight_shape: shape of the weight, None for a matmul of two activations.
        macs: multiply-accumulates per sample.
        edge: whether it is the first weighted layer (it reads the sample itself) or the last.
    """

    key: SiteKey
    roles: tuple[str, ...]
    weight_shape: tuple[int, ...] | None
    macs: int
    edge: bool


def survey(model: Model) -> tuple[SiteFacts, ...]:
    """Sites of ``model`` in execution order, from one audited forward pass of a zero sample.

    Raises:
        UncoveredContraction: a contraction that no site covers.
        BadInput: no contraction at all.
    """
    x = torch.zeros(1, *model.sample_shape)
    seen: list[tuple[SiteKey, Contraction, bool]] = []

    def note(site: SiteKey, contraction: Contraction) -> Tensor:
        reads_sample = any(t.data_ptr() == x.data_ptr() for t in contraction.activations().values())
        seen.append((site, contraction, reads_sample))
        return contraction.float()

    forward(model.module, note, x, torch.zeros(1, dtype=torch.long))
    weighted = [(site, reads) for site, contraction, reads in seen if not isinstance(contraction, MatMul)]
    if not weighted:
        raise BadInput("a model must have at least one weighted layer", got=model.name, fix="check the module")
    first = next((site for site, reads in weighted if reads), weighted[0][0])
    edges = {first, weighted[-1][0]}
    return tuple(
        SiteFacts(
            site,
            tuple(contraction.activations()),
            None if isinstance(contraction, MatMul) else tuple(contraction.weight.shape),
            contraction.macs,
            site in edges,
        )
        for site, contraction, _ in seen
    )
