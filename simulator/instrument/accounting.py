"""What a scheme costs on a network: multiply-accumulates, bit operations and bytes of weights.

Bit operations (BOPs) of a site are ``MACs x b_w x b_a``: each product of a b_w-bit and a b_a-bit number counts as
b_w b_a one-bit products, accumulation as nothing. Two run-time operands enter with the bits of each; floats have 32
bits. This is van Baalen et al., "Bayesian Bits" (arXiv 2005.07093), and what tables of quantized diffusion models call
BOPs. Baskin et al., "UNIQ" (arXiv 1804.10969), add a term for the accumulator, which is left out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from torch import nn

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_integer
from simulator.instrument.plan import Plan
from simulator.instrument.sites import SiteKey
from simulator.instrument.storage import Storage
from simulator.instrument.survey import SiteFacts
from simulator.instrument.treatment import Treatment
from simulator.instrument.weight_bytes import WeightBytes, own_bytes, weight_bytes

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
    weights = weight_bytes(Storage(module), [(facts[key], treatment) for key, treatment in known])
    return Account(str(plan.scheme), count, passes, weights)


def _cost(facts: SiteFacts, treatment: Treatment) -> SiteCost:
    own, bits = own_bytes(facts, treatment), treatment.multiplied_bits
    return SiteCost(facts.key, facts.shapes, facts.macs, bits, own, treatment.describe())
