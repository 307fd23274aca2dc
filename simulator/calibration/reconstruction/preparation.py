"""From a scheme, ranges and weights to the network as it is before anything is decided."""

from __future__ import annotations

from itertools import combinations

from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.fit import fit_range
from simulator.calibration.observers import Observer
from simulator.calibration.ranges import WEIGHT, Bounds, Ranges
from simulator.calibration.reconstruction.grid import WeightGrid
from simulator.calibration.reconstruction.rounded_network import RoundedNetwork, require_surrogate
from simulator.calibration.reconstruction.samples import Samples
from simulator.calibration.reconstruction.scales import ScaleModel, Stepped, StepScale
from simulator.calibration.reconstruction.units import Unit
from simulator.calibration.steps import ALL_STEPS
from simulator.instrument.calibrated import calibrated
from simulator.instrument.contractions import PROBABILITY, MatMul
from simulator.instrument.plan import Plan
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.sites import SiteKey
from simulator.instrument.storage import Storage, Stored
from simulator.instrument.treatment import Treatment
from simulator.instrument.weight_layout import WeightLayout
from simulator.models.registry import Model


def prepared_network(
    model: Model, plan: Plan, units: tuple[Unit, ...], ranges: Ranges, weights: Observer, scales: ScaleModel,
    samples: Samples,
) -> RoundedNetwork:  # fmt: skip
    """Grids of all weights and calibrated scales of all static activations.

    Raises:
        BadInput: as ``run.reconstruct``.
    """
    if plan.scheme.has_steps:
        raise BadInput(
            "reconstruction rounds a weight once, for all steps", got=f"rules by step in {plan.scheme}",
            fix="reconstruct for a scheme without them",
        )  # fmt: skip
    if len(ranges.steps.sets) > 1 and samples.step is None:
        raise BadInput(
            "ranges of several step sets need each sample's step", got="batches without steps",
            fix="give (x, timestep, step), or a collected set",
        )  # fmt: skip
    treatments = {facts.key: plan.at(facts.key) for facts in plan.sites}
    for site, treatment in treatments.items():
        require_surrogate(site, treatment)
    storage = Storage(model.module)
    stored: dict[SiteKey, Stored] = {}
    grids: dict[Stored, WeightGrid] = {}
    for unit in units:
        for site, contraction in zip(unit.sites, unit.contractions, strict=True):
            treatment = treatments[site]
            if isinstance(contraction, MatMul) or treatment.in_float:
                continue
            place = storage.find(contraction.weight)
            if place is None or treatment.weight is None:
                raise BadInput(
                    "reconstruction replaces weights that the network stores", got=f"a computed one at {site}",
                    fix="fold it into a parameter, or keep the site in float by a rule",
                )  # fmt: skip
            stored[site] = place
            layout = WeightLayout.of(contraction)
            if place not in grids:
                bounds = _bounds(site, layout.outputs_first(contraction.weight), ranges, weights, treatment.weight)
                grids[place] = WeightGrid(contraction.weight, layout, treatment.weight, bounds)
            if (grids[place].spec, grids[place].layout) != (treatment.weight, layout):
                raise _shared(site)
    for facts in plan.sites:  # later runs of a block, which are in no unit
        if facts.key in stored or facts.stored not in grids or treatments[facts.key].in_float:
            continue
        assert facts.stored is not None
        if grids[facts.stored].spec != treatments[facts.key].weight:
            raise _shared(facts.key)
        stored[facts.key] = facts.stored
    _require_apart(stored)
    found = _scales(treatments, ranges, scales)
    return RoundedNetwork(treatments, stored, grids, found)


def _bounds(site: SiteKey, plain: Tensor, ranges: Ranges, weights: Observer, spec: QuantSpec) -> Bounds:
    given = [bounds for (at, role, _), bounds in ranges.bounds.items() if (at, role) == (site, WEIGHT)]
    return given[0] if given else fit_range(plain.numpy(), spec, weights)


def _shared(site: SiteKey) -> BadInput:
    return BadInput(
        "a weight that several sites share must be quantized in one way",
        got=f"another at {site}",
        fix="give its sites the same bits by a rule",
    )


def _require_apart(stored: dict[SiteKey, Stored]) -> None:
    for one, other in combinations(dict.fromkeys(stored.values()), 2):
        if one.memory == other.memory and one.offset < other.end and other.offset < one.end:
            raise BadInput(
                "weights that share memory must be one weight", got=f"two that overlap in {one.memory}",
                fix="keep one of their sites in float by a rule",
            )  # fmt: skip


def _scales(
    treatments: dict[SiteKey, Treatment], ranges: Ranges, scales: ScaleModel
) -> dict[tuple[SiteKey, str], StepScale]:
    found: dict[tuple[SiteKey, str], StepScale] = {}
    firsts = [None if one.serves is None else one.serves[0] for one in ranges.steps.sets]
    for site, treatment in treatments.items():
        if treatment.in_float:
            continue
        parameters = [calibrated(treatment, site, ranges, first) for first in firsts]
        for role, operand in treatment.operands.items():
            if operand.range is not ActivationRange.STATIC:
                continue
            affines = tuple(one[role] for one in parameters)
            if role == PROBABILITY:
                found[site, role] = Stepped(affines[:1], ALL_STEPS)
            else:
                found[site, role] = scales.start(site, role, operand.spec, affines, ranges.steps)
    return found
