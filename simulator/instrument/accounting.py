"""What a scheme costs on a network: multiply-accumulates, bit operations and bytes of weights.

Bit operations (BOPs) of a site are ``MACs x b_w x b_a``: each product of a b_w-bit and a b_a-bit number counts as
b_w b_a one-bit products, accumulation as nothing. Two run-time operands enter with the bits of each; floats have 32
bits. This is van Baalen et al., "Bayesian Bits" (arXiv 2005.07093), and what tables of quantized diffusion models call
BOPs. Baskin et al., "UNIQ" (arXiv 1804.10969), add a term for the accumulator, which is left out here.

Bytes of weights are what a file of the quantized network needs: codes packed at their bits without padding; a float32
scale for each output channel or group (fewer bits where the spec's scale is a narrower float), zero points at the
codes' bits where weights are asymmetric; for block formats one byte per block, partly filled ones too, and with NVFP4
one float32 per tensor; everything else of the state dict (biases, norms, embeddings) as it is, in float32. Scales of
activations and requantizers are not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from torch import nn

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_integer
from simulator.arithmetic.block_formats import BlockFormat
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.scale_formats import FloatScale
from simulator.instrument.plan import Plan
from simulator.instrument.sites import SiteKey
from simulator.instrument.storage import Storage, Stored, covered
from simulator.instrument.survey import SiteFacts
from simulator.instrument.treatment import Treatment

FLOAT_BITS = 32


@dataclass(frozen=True)
class SiteCost:
    """One site in one forward pass.

    Attributes:
        site: its name.
        shapes: of both operands and of the output, of one sample.
        macs: multiply-accumulates per sample; of the whole site if it runs once for all samples.
        bits: of the two operands, a weight last.
        weight_bytes: codes and scales, or float32, of its own weight, which another site may share; 0 without a
            weight, None where the network computes it in each pass and stores something else.
        how: what the site gets, in a few words.
    """

    site: SiteKey
    shapes: tuple[tuple[int, ...], ...]
    macs: int
    bits: tuple[int, int]
    weight_bytes: int | None
    how: str

    @property
    def bops(self) -> int:
        """Bit operations per sample."""
        return self.macs * prod(self.bits)


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


@dataclass(frozen=True)
class Account:
    """Costs of a network under a scheme.

    Attributes:
        scheme: its name.
        steps: number of the sampler's steps.
        passes: costs of all sites in execution order, for each step; one entry where all steps are alike.
        weights: bytes.
    """

    scheme: str
    steps: int
    passes: tuple[tuple[SiteCost, ...], ...]
    weights: WeightBytes

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample of one forward pass."""
        return sum(cost.macs for cost in self.passes[0])

    @cached_property
    def bops(self) -> tuple[int, ...]:
        """Bit operations per sample of each of ``passes``."""
        return tuple(sum(cost.bops for cost in costs) for costs in self.passes)

    @property
    def float_bops(self) -> int:
        """Bit operations per sample of one forward pass in float32."""
        return self.macs * FLOAT_BITS**2

    @property
    def total_macs(self) -> int:
        """Multiply-accumulates per sample over all steps."""
        return self.macs * self.steps

    @property
    def total_bops(self) -> int:
        """Bit operations per sample over all steps."""
        return sum(self.bops) * (self.steps // len(self.passes))

    @property
    def bops_ratio(self) -> float:
        """Bit operations over float32's."""
        return self.total_bops / (self.float_bops * self.steps)

    @property
    def computed(self) -> tuple[str, ...]:
        """Sites whose weight is computed in each pass (weight norm, low-rank sums): what it is computed from counts
        in ``weights.rest``, as nothing else is stored. Fold them first to have codes counted."""
        return tuple(str(cost.site) for cost in self.passes[0] if cost.weight_bytes is None)


def account(plan: Plan, module: nn.Module, *, steps: int | None = None) -> Account:
    """Costs of ``module``, on whose survey ``plan`` was made, for one sample. Nothing runs.

    A weight that several sites use, or that is tied under several names, is stored once per distinct spec and layout:
    two sites, or two steps, that give it different bits need both codes. Where one of them leaves it in float, its
    float32 form is stored too. A weight that is read outside contractions as well (a tied embedding) is taken to be
    read from its codes. What ``allow_float`` kept from the survey is no site: its weights count in ``rest``, its
    multiply-accumulates nowhere; ``coverage.cover`` lists it.

    Args:
        plan: the scheme on the network's sites.
        module: the network.
        steps: of the sampler; 1 by default.

    Raises:
        BadInput: rules name steps and no number of steps is given; the plan's weights are not this module's.
    """
    if steps is None and plan.scheme.has_steps:
        raise BadInput("a scheme whose rules name steps needs the number of steps", got="none", fix="give steps=")
    count = 1 if steps is None else require_integer("steps", steps, 1)
    known: dict[tuple[SiteKey, Treatment], SiteCost] = {}

    def cost(facts: SiteFacts, treatment: Treatment) -> SiteCost:
        if (facts.key, treatment) not in known:
            known[facts.key, treatment] = _cost(facts, treatment)
        return known[facts.key, treatment]

    passes = tuple(
        tuple(cost(facts, plan.at(facts.key, step)) for facts in plan.sites)
        for step in (range(count) if plan.scheme.has_steps else (0,))
    )
    facts = {facts.key: facts for facts in plan.sites}
    weights = _weights(Storage(module), [(facts[key], treatment) for key, treatment in known])
    return Account(str(plan.scheme), count, passes, weights)


def _cost(facts: SiteFacts, treatment: Treatment) -> SiteCost:
    own: int | None = 0
    if facts.weight_shape is not None:
        format = _format(treatment)
        parts = (4 * prod(facts.weight_shape),) if format is None else _bytes(_layout(facts), format)
        own = sum(parts) if facts.stored else None
    return SiteCost(facts.key, facts.shapes, facts.macs, treatment.multiplied_bits, own, treatment.describe())


def _weights(storage: Storage, uses: Iterable[tuple[SiteFacts, Treatment]]) -> WeightBytes:
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
    if strange := coded.keys() - memories.keys():
        raise BadInput("a plan must be made on the module's own survey", got=min(strange), fix="survey this module")
    rest = baseline = 0
    for name, tensors in memories.items():
        length, item = max(tensor.end for tensor in tensors), tensors[0].item
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
    scale_bits = format.scale_format.format.bits if isinstance(format.scale_format, FloatScale) else FLOAT_BITS
    zero_bits = 0 if format.symmetric else format.format.bits
    return _whole(prod(layout) * format.format.bits), _whole(parameters * scale_bits) + _whole(parameters * zero_bits)


def _whole(bits: int) -> int:
    return -(-bits // 8)
