"""Bounds of a network's weights, found by an observer: the range search of post-training recipes."""

from __future__ import annotations

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind
from simulator.calibration.fit import fit_range
from simulator.calibration.observers import Observer
from simulator.calibration.ranges import Bounds
from simulator.instrument.contractions import Weighted
from simulator.instrument.emulation import array
from simulator.instrument.plan import Plan
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import survey
from simulator.instrument.weight_layout import WeightLayout
from simulator.instrument.weighted_sites import visit_weights
from simulator.models.conditioning import Conditioning
from simulator.models.registry import Model


def weight_ranges(
    model: Model,
    scheme: Scheme,
    observer: Observer,
    *,
    allow_float: tuple[str, ...] = (),
    conditioning: Conditioning | None = None,
) -> dict[SiteKey, Bounds]:
    """Low and high of every weight that ``scheme`` quantizes to integers, group by group of its scales.

    For ``Ranges.with_weights``. Each is ``fit_range`` of the weight with output channels on axis 0, exact on the
    weight's own elements; ``MinMax()`` gives the bounds that a network has without any.

    Args:
        model: the network.
        scheme: says each weight's bits, symmetry, rounding and which elements share a scale.
        observer: ``LpSearch()``, ``PercentileSearch()``, ``Percentile(...)`` or another that fits data at hand.
        allow_float: as the quantized network's.
        conditioning: likewise.

    Raises:
        BadInput: a weight that is quantized otherwise at other steps, where the bounds depend on it; the site is named.
    """
    require_kind("scheme", scheme, Scheme)
    require_kind("observer", observer, Observer)
    sites = survey(model, allow_float=allow_float, conditioning=conditioning)
    plan = Plan(scheme, sites)
    found: dict[SiteKey, Bounds] = {}

    def look(site: SiteKey, contraction: Weighted) -> None:
        specs = list(dict.fromkeys(t.weight for t in plan.treatments(site) if t.weight is not None))
        if not specs:
            return
        if len({spec if observer.needs_spec else spec.granularity for spec in specs}) > 1:
            raise BadInput(
                "a weight has one range for all steps",
                got=f"{len(specs)} ways to quantize it at {site}",
                fix="use rules without steps for weights",
            )
        found[site] = fit_range(
            WeightLayout.of(contraction).outputs_first(array(contraction.weight)), specs[0], observer
        )

    visit_weights(model, look, allow_float=allow_float, conditioning=conditioning)
    return found
