"""Bytes of weights: what a file of the quantized network needs.

Codes packed at their bits without padding; a float32 scale for each output channel or group (fewer bits where the
spec's scale is a narrower float), and zero points at the codes' bits where weights are asymmetric; of block formats a
byte for each block, partly filled ones too, and with NVFP4 one float32 per tensor; everything else of the state dict
(biases, norms, embeddings) as it is, in float32. Scales of activations and of requantizers are not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from samplers.errors import BadInput
from simulator.arithmetic.block_formats import BlockFormat
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.scale_formats import FloatScale
from simulator.instrument.storage import Storage, Stored, covered
from simulator.instrument.survey import SiteFacts
from simulator.instrument.treatment import Treatment


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of a network's state dict under a scheme, each memory counted once.

    Attributes:
        codes: of weights.
        scales: and zero points of those.
        rest: of everything that some site reads in float, or that no site reads as a weight.
        baseline: of all of it as it is, in float32.
    """

    codes: int
    scales: int
    rest: int
    baseline: int

    @property
    def total(self) -> int:
        """Codes, scales and the rest."""
        return self.codes + self.scales + self.rest

    @property
    def ratio(self) -> float:
        """Total over float32's; NaN for a network that stores nothing."""
        return self.total / self.baseline if self.baseline else float("nan")


def own_bytes(facts: SiteFacts, treatment: Treatment) -> int | None:
    """Of one site's weight; 0 without one, None where it is computed in each pass."""
    if facts.weight_shape is None:
        return 0
    format = _format(treatment)
    parts = (4 * prod(facts.weight_shape),) if format is None else _bytes(_layout(facts), format)
    return sum(parts) if facts.stored else None


def weight_bytes(storage: Storage, uses: Iterable[tuple[SiteFacts, Treatment]]) -> WeightBytes:
    """Of a network in which each site is treated in each of the ways that ``uses`` lists.

    Raises:
        BadInput: a weight that the network does not hold.
    """
    coded: dict[str, set[Stored]] = defaultdict(set)
    in_float: dict[str, set[Stored]] = defaultdict(set)
    codes: dict[tuple, tuple[int, int]] = {}
    for facts, treatment in uses:
        if facts.stored is None:
            continue
        place, format = facts.stored, _format(treatment)
        (in_float if format is None else coded)[place.memory].add(place)
        if format is not None:
            layout = _layout(facts)
            elements = place.memory, place.offset, place.axes
            codes[elements, layout, _is_transposed(facts), format] = _bytes(layout, format)
    memories: dict[str, list[Stored]] = defaultdict(list)
    for tensor in storage.tensors:
        memories[tensor.memory].append(tensor)
    ends = {name: max(tensor.end for tensor in tensors) for name, tensors in memories.items()}
    for place in set().union(*coded.values(), *in_float.values()):
        if place.end > ends.get(place.memory, 0):
            raise BadInput("a plan must be made on the module's own survey", got=place.memory, fix="survey this module")
    rest = baseline = 0
    for name, tensors in memories.items():
        length, item = ends[name], tensors[0].item
        held = covered(tensors, length)
        replaced = covered(coded[name], length) & ~covered(in_float[name], length)
        baseline += item * int(held.sum())
        rest += item * int((held & ~replaced).sum())
    return WeightBytes(sum(n for n, _ in codes.values()), sum(n for _, n in codes.values()), rest, baseline)


def _format(treatment: Treatment) -> QuantSpec | BlockFormat | None:
    return None if treatment.in_float else treatment.block or treatment.weight


def _layout(facts: SiteFacts) -> tuple[int, int, int]:
    """A weight as (outputs, inputs of each, taps), as its codes are laid out."""
    assert facts.weight_shape is not None
    first, second, *kernel = facts.weight_shape
    if not _is_transposed(facts):
        return first, second, prod(kernel)
    outputs = facts.shapes[-1][1]  # torch has (channels, outputs per group)
    return outputs, first * second // outputs, prod(kernel)


def _is_transposed(facts: SiteFacts) -> bool:
    return facts.key.operation.startswith("conv_transpose")


def _bytes(layout: Sequence[int], format: QuantSpec | BlockFormat) -> tuple[int, int]:
    """Of codes; of scales and zero points."""
    outputs, inputs, taps = layout
    if isinstance(format, BlockFormat):  # blocks lie along the channels of one tap
        blocks = outputs * taps * -(-inputs // format.size)
        scales = _whole(blocks * format.scale.bits) + (4 if format.two_level else 0)
        return _whole(prod(layout) * format.element.bits), scales
    parameters = prod(format.granularity.parameter_shape(tuple(layout)))
    scale_bits = format.scale_format.format.bits if isinstance(format.scale_format, FloatScale) else 32
    zero_bits = 0 if format.symmetric else format.format.bits
    return _whole(prod(layout) * format.format.bits), _whole(parameters * scale_bits) + _whole(parameters * zero_bits)


def _whole(bits: int) -> int:
    return -(-bits // 8)
