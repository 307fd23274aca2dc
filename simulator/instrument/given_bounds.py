"""Given bounds of weights against the plan that shall use them, before any work."""

from __future__ import annotations

from math import prod

from samplers.errors import BadInput
from simulator.calibration.ranges import WEIGHT, Ranges
from simulator.instrument.plan import Plan
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts
from simulator.instrument.weight_codes import WeightBounds


def given_bounds(ranges: Ranges, plan: Plan) -> dict[SiteKey, WeightBounds]:
    """Bounds of weights by site; those of a site that stays in float say nothing, like those of its operands.

    Raises:
        BadInput: bounds of a site that is none or has no weight, of a weight in a block format, or of another shape
            than the scales of a treatment of the site; the site is named.
    """
    facts = {each.key: each for each in plan.sites}
    found = {}
    for site, (low, high) in ranges.weights.items():
        if site not in facts or facts[site].weight_shape is None:
            raise BadInput(
                "bounds of a weight need a site with a weight",
                got=f"{site}, {'which multiplies two activations' if site in facts else 'which the network lacks'}",
                fix="name sites as the survey does",
            )
        for treatment in plan.treatments(site):
            if treatment.in_float:
                continue
            if treatment.weight is None:
                raise BadInput(
                    "a block format makes its scales itself",
                    got=f"bounds of the weight at {site}, in {treatment.describe()}",
                    fix='drop them, or give the site block = "integers" by a rule',
                )
            wanted = treatment.weight.granularity.parameter_shape(weight_layout(facts[site]))
            if low.shape != wanted:
                raise BadInput(
                    f"bounds of this weight must have the shape of its scales, {wanted}",
                    got=f"{low.shape} at {site} {WEIGHT}, {treatment.describe()}",
                    fix="find them for this scheme, outputs on axis 0",
                )
        found[site] = WeightBounds(low, high)
    return found


def weight_layout(facts: SiteFacts) -> tuple[int, ...]:
    """Shape of a site's weight with outputs first: (outputs, inputs of one output, spatial...)."""
    assert facts.weight_shape is not None
    assert facts.contracted is not None
    first, second, *kernel = facts.weight_shape
    return prod((first, second)) // facts.contracted, facts.contracted, *kernel
