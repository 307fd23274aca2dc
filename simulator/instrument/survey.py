"""What a network contracts: probing forward passes, and the sites they found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.instrument.contractions import Contraction, MatMul
from simulator.instrument.forward import forward
from simulator.instrument.sites import SiteKey
from simulator.instrument.storage import Storage, Stored
from simulator.models.conditioning import Conditioning
from simulator.models.registry import Model


@dataclass(frozen=True)
class SiteFacts:
    """A site of a network.

    Attributes:
        key: its name.
        roles: operands quantized at run time.
        weight_shape: shape of the weight, None for a matmul of two activations.
        macs: multiply-accumulates per sample, both its passes under guidance; of the whole site if it runs once for all
            samples.
        edge: whether it is the first weighted layer (it reads the sample itself) or the last; no site is where no
            layer has a weight.
        operands: elements of the run-time operands per sample; of all of them if the site runs once for all samples.
        batched: whether its output has a part for each sample, or is shared by all samples.
        sample_axis: axis of its output along which the samples lie, in order, each with as many elements.
        shapes: of both operands and of the output, of one sample where they grow with the batch.
        stored: where the weight lies; None where there is none, or where the network computes it in each pass.
        contracted: input channels that a weight's output reads, None without a weight.
    """

    key: SiteKey
    roles: tuple[str, ...]
    weight_shape: tuple[int, ...] | None
    macs: int
    edge: bool
    operands: int
    batched: bool
    sample_axis: int = 0
    shapes: tuple[tuple[int, ...], ...] = ()
    stored: Stored | None = None
    contracted: int | None = None


@dataclass(frozen=True)
class _Visit:
    """One site in one probing pass: numbers alone, since its operands would keep every activation in memory."""

    site: SiteKey
    roles: tuple[str, ...]
    weight_shape: tuple[int, ...] | None
    macs: int
    elements: int
    reads_sample: bool
    shapes: tuple[tuple[int, ...], ...]
    stored: Stored | None
    contracted: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the output."""
        return self.shapes[-1]


def survey(
    model: Model, *, allow_float: tuple[str, ...] = (), conditioning: Conditioning | None = None
) -> tuple[SiteFacts, ...]:
    """Sites of ``model`` in execution order, from audited forward passes of two and of three zero samples.

    ``conditioning`` gives the samples' conditions, without which some networks cannot be called.

    Raises:
        UncoveredContraction: a contraction that no site covers.
        BadInput: operands that are not float32, no site, sites that depend on the batch, or an output that
            neither grows with the batch nor stays the same.
    """
    two, three = (_probe(model, samples, allow_float, conditioning) for samples in (2, 3))
    weighted = [visit for visit in two if visit.weight_shape is not None]
    if not two or [visit.site for visit in two] != [visit.site for visit in three]:
        raise BadInput(
            "a model must have a contraction, and the same sites for every batch",
            got=f"{len(two)} sites for 2 samples, {len(three)} for 3",
            fix="use a module without data-dependent structure",
        )
    reading = [visit for visit in weighted if visit.reads_sample] or weighted
    edges = {visit.site for visit in (*reading[:1], *weighted[-1:])}  # none in attention over fixed keys and values
    return tuple(_facts(*visits, edges) for visits in zip(two, three, strict=True))


def _probe(model: Model, batch: int, allow_float: tuple[str, ...], conditioning: Conditioning | None) -> list[_Visit]:
    x, timestep, call = torch.zeros(batch, *model.sample_shape), torch.zeros(batch, dtype=torch.long), model.call
    if conditioning is not None:  # the rows of its one pass, so that the layer that reads them is seen to do so
        conditioned = conditioning.of(model, range(batch))
        x, timestep, call = conditioned.rows(x), conditioned.rows(timestep), conditioned.network
    visits: list[_Visit] = []
    storage = Storage(model.module)

    def note(site: SiteKey, contraction: Contraction) -> Tensor:
        operands, output = contraction.activations(), contraction.float()
        weight = None if isinstance(contraction, MatMul) else tuple(contraction.weight.shape)
        reads_sample = any(t.data_ptr() == x.data_ptr() for t in operands.values())
        stored = None if isinstance(contraction, MatMul) else storage.find(contraction.weight)
        counts = (contraction.macs, contraction.elements)
        shapes = tuple(tuple(tensor.shape) for tensor in (*contraction.operands(), output))
        contracted = None if isinstance(contraction, MatMul) else contraction.contracted
        visits.append(_Visit(site, tuple(operands), weight, *counts, reads_sample, shapes, stored, contracted))
        return output

    forward(model.module, note, x, timestep, call=call, allow_float=allow_float)
    return visits


def _facts(two: _Visit, three: _Visit, edges: set[SiteKey]) -> SiteFacts:
    batched = three.shape != two.shape
    grows = [axis for axis, (n, m) in enumerate(zip(two.shape, three.shape, strict=False)) if 2 * m == 3 * n > 0]
    others = [n != m for axis, (n, m) in enumerate(zip(two.shape, three.shape, strict=False)) if axis not in grows]
    if batched and (len(grows) != 1 or any(others) or len(two.shape) != len(three.shape)):
        raise BadInput(
            "a site's output must grow with the batch or not depend on it",
            got=f"{two.shape} and {three.shape} for 2 and 3 samples at {two.site}",
            fix="use a module that treats samples independently",
        )
    macs, elements = two.macs, two.elements
    if batched:  # what one more sample adds
        macs, elements = three.macs - macs, three.elements - elements
    shapes = tuple(_of_one_sample(*pair) for pair in zip(two.shapes, three.shapes, strict=True))
    return SiteFacts(
        two.site, two.roles, two.weight_shape, macs, two.site in edges, elements, batched, grows[0] if batched else 0,
        shapes, two.stored, two.contracted,
    )  # fmt: skip


def _of_one_sample(two: tuple[int, ...], three: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(m - n if m > n else n for n, m in zip(two, three, strict=False))
