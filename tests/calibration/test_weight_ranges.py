"""Claim: bounds of weights are found group by group of the scheme's scales, and travel with ranges, digest included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import simulator
from samplers.errors import BadInput
from simulator.arithmetic.quantizer import dequantize, quantize_to_range
from simulator.calibration.fit import fit_range
from simulator.calibration.ranges import DIGEST, EVERY_STEP, WEIGHT, Ranges
from simulator.calibration.steps import StepSets
from simulator.instrument.plan import Plan
from simulator.instrument.scheme import Rule, Scheme, Settings, WeightGranularity
from simulator.instrument.sites import SiteKey

SITE, OTHER = SiteKey("a", "linear"), SiteKey("b", "conv2d")


def bounds(*peaks):
    high = np.array(peaks, np.float64).reshape(-1, 1)
    return -high, high


@pytest.mark.parametrize(
    "settings",
    [Settings(weight_bits=4), Settings(weight_bits=4, group_size=5), Settings(weight_bits=3, weight_symmetric=False),
     Settings(weight_bits=4, weight_granularity=WeightGranularity.TENSOR, weight_symmetric=False)],
)  # fmt: skip
@pytest.mark.parametrize("observer", [simulator.LpSearch(2.0, 20), simulator.Percentile(95), simulator.MinMax()])
def test_weight_ranges__are_the_fit_of_each_weight_for_its_own_spec(tiny_model, settings, observer):
    scheme = Scheme(settings, (Rule(("@first",), Settings(keep_float=True)),))
    found = simulator.weight_ranges(tiny_model, scheme, observer)
    sites = simulator.survey(tiny_model)
    plan = Plan(scheme, sites)
    assert list(found) == [facts.key for facts in sites if facts.weight_shape and plan.at(facts.key).weight]
    assert not any(site.module == "first" for site in found)
    for site, (low, high) in found.items():
        weight, spec = tiny_model.module.get_submodule(site.module).weight.numpy(), plan.at(site).weight
        want = fit_range(weight, spec, observer)
        assert np.array_equal(low, want[0])
        assert np.array_equal(high, want[1])
        if isinstance(observer, simulator.LpSearch):
            errors = [
                np.square(dequantize(quantize_to_range(weight, spec, given)).astype(np.float64) - weight).sum()
                for given in ((low, high), None)
            ]
            assert errors[0] <= errors[1]


def test_weight_ranges__skip_block_formats_and_refuse_two_ways(tiny_model):
    edges = Rule(("@last",), Settings(block="integers"))
    blocks = Scheme(Settings(block="mxfp4"), (edges,))
    assert [site.module for site in simulator.weight_ranges(tiny_model, blocks, simulator.MinMax())] == ["last"]
    stepped = Scheme(rules=(Rule(("qkv",), Settings(weight_bits=4), (0, 1)),))
    grouped = Scheme(rules=(Rule(("qkv",), Settings(group_size=4), (0, 1)),))
    assert len(simulator.weight_ranges(tiny_model, stepped, simulator.MinMax())) == 7
    for scheme, observer in ((stepped, simulator.LpSearch()), (grouped, simulator.MinMax())):
        with pytest.raises(BadInput, match="qkv:linear"):
            simulator.weight_ranges(tiny_model, scheme, observer)


def test_ranges__carry_a_digest_of_what_is_given():
    plain = Ranges({}, {"seed": 1})
    assert plain.source == {"seed": 1}
    one = plain.with_weights({SITE: bounds(1, 2), OTHER: bounds(3)})
    assert one.source["seed"] == 1
    assert one.weights.keys() == {SITE, OTHER}
    turned = plain.with_weights({OTHER: bounds(3)}).with_weights({SITE: bounds(1, 2)})
    assert turned.source == one.source
    digests = {one.source[DIGEST]}
    for other in (
        {SITE: bounds(1, np.nextafter(2, 3)), OTHER: bounds(3)},
        {SITE: bounds(3), OTHER: bounds(1, 2)},
        {SITE: bounds(1, 2)},
        {OTHER: bounds(1, 2)},
        {SITE: (bounds(1, 2)[0].T, bounds(1, 2)[1].T), OTHER: bounds(3)},
        {SITE: (np.array([[-1.0], [-1.0]]), np.array([[1.0], [2.0]])), OTHER: bounds(3)},
    ):
        digests.add(plain.with_weights(other).source[DIGEST])
    assert len(digests) == 7
    assert one.with_weights({SITE: bounds(1, 3)}).weights[SITE][1][1] == 3
    assert one.with_weights({}, {"observer": "mine"}).source["weights"] == {"observer": "mine"}
    assert DIGEST not in replace(one, bounds={}).source
    assert Ranges(one.bounds, {DIGEST: "claimed"}).source == {DIGEST: one.source[DIGEST]}


def test_ranges__of_weights_hold_for_every_step():
    steps = StepSets.each(3)
    found = Ranges({}, {}, steps).with_weights({SITE: bounds(1)})
    assert list(found.bounds) == [(SITE, WEIGHT, EVERY_STEP)]
    assert found.steps == steps
    for name in ("0", "unknown"):
        with pytest.raises(BadInput, match="do not change with the step"):
            Ranges({(SITE, WEIGHT, name): bounds(1)}, {}, steps)
    with pytest.raises(BadInput, match="low <= high"):
        Ranges({}, {}).with_weights({SITE: bounds(-1)})
