"""What a scheme has learned at each site, or the error that says why it cannot be."""

from __future__ import annotations

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.rounding import Rounding
from simulator.arithmetic.rules import DIVIDE
from simulator.arithmetic.scale_formats import Float32Scale
from simulator.instrument.plan import Plan
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts
from simulator.instrument.treatment import Treatment


def treatments(scheme: Scheme, sites: tuple[SiteFacts, ...]) -> dict[SiteKey, Treatment]:
    """The treatment of each site that is not left in float.

    Registers are as the scheme has them and play no part in training, whose sums are torch's.

    Raises:
        BadInput: what has no learned scale here: rules that name steps, ranges per tensor at run time or per row, block
            formats, requantized outputs, or codes that are not made by division, half to even and a float32 scale.
    """
    if scheme.has_steps:
        raise BadInput("training has no steps, only timesteps", got=f"{scheme} with rules of steps", fix="drop them")
    plan = Plan(scheme, sites)
    found = {facts.key: plan.at(facts.key) for facts in sites}
    for site, treatment in found.items():
        _require_learnable(site, treatment)
    return {site: treatment for site, treatment in found.items() if not treatment.in_float}


def _require_learnable(site: SiteKey, treatment: Treatment) -> None:
    if treatment.block is not None:
        raise BadInput("a block format has no learned scale", got=f"{treatment.block} at {site}", fix="use integers")
    if treatment.output is not None:
        raise BadInput(
            "a requantized output has no learned range", got=f"{treatment.describe()} at {site}", fix="drop its bits"
        )
    for role, operand in treatment.operands.items():
        if operand.range is not ActivationRange.STATIC:
            raise BadInput(
                "a learned scale is a static one",
                got=f"{operand.range.value} range of {role} at {site}",
                fix="drop -dyn",
            )
    for spec in (*(operand.spec for operand in treatment.operands.values()), treatment.weight):
        if spec is not None and not _plain(spec):
            raise BadInput(
                "training takes codes made by division, half to even, with float32 scales",
                got=f"{spec.rule}, {spec.rounding.name}, {spec.scale_format} at {site}", fix="train for another target",
            )  # fmt: skip
    if treatment.weight is not None and not treatment.weight.symmetric:
        raise BadInput("learned weight scales are symmetric", got=f"asymmetric at {site}", fix="choose another target")


def _plain(spec: QuantSpec) -> bool:
    return spec.rule == DIVIDE and spec.rounding is Rounding.HALF_EVEN and isinstance(spec.scale_format, Float32Scale)
