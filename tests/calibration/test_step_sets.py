"""Claim: a step is served by one set or is a typed error, and what a set observes is independent of what it serves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import ALL_STEPS, StepSet, StepSets
from simulator.instrument.sites import SiteKey

SITE = SiteKey("block", "linear")


def of_each(sets: StepSets) -> Ranges:
    """Ranges whose bounds say which set they belong to: set i covers [-i, i]."""
    bounds = {(SITE, "input", s.name): (np.array(-float(i)), np.array(float(i))) for i, s in enumerate(sets.sets)}
    return Ranges(bounds, {}, sets)


def test_step_sets__serve_each_step_by_the_set_that_holds_it():
    assert [StepSets.each(3).serving(step) for step in range(3)] == ["0", "1", "2"]
    parts = StepSets.partition(1, 4, 6)
    assert [parts.serving(step) for step in range(6)] == ["0", "1-3", "1-3", "1-3", "4-5", "4-5"]
    named = StepSets.named({"even": (0, 2), "odd": [3, 1]})
    assert [named.serving(step) for step in range(4)] == ["even", "odd", "even", "odd"]
    assert [ALL_STEPS.serving(step) for step in (None, 0, 999)] == ["all"] * 3


def test_step_sets__observe_without_serving_and_serve_without_observing():
    noisiest = StepSets.observed_at(0)
    assert noisiest.observing(0) == ("all",)
    assert noisiest.observing(1) == ()
    assert noisiest.serving(49) == noisiest.serving(None) == "all"
    overlapping = StepSets((StepSet("a", (0, 1), (0,)), StepSet("b", None, (1,))))
    assert [overlapping.observing(step) for step in (0, 1, 2, None)] == [("a", "b"), ("a", "b"), ("b",), ("b",)]


def test_step_sets__know_their_last_observed_step():
    assert ALL_STEPS.last is None
    assert StepSets.observed_at(0, 7, 3).last == 7
    assert StepSets.named({"a": (2,), "b": (5, 1)}).last == 5
    assert StepSets((StepSet("a", (0,), (0,)), StepSet("b", None, (1,)))).last is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: StepSets(()),
        lambda: StepSets((StepSet("a", None, (0,)), StepSet("a", None, (1,)))),
        lambda: StepSets((StepSet("a", None, (0, 1)), StepSet("b", None, (1,)))),
        lambda: StepSets((StepSet("a", None, (0, 1)), StepSet("b"))),
        lambda: StepSet("a", ()),
        lambda: StepSet("a", (1, 1)),
        lambda: StepSet("a", (-1,)),
        lambda: StepSet("a", (1.5,)),
        lambda: StepSet("a", serves=3),
        lambda: StepSet(""),
        lambda: StepSets.partition(),
        lambda: StepSets.partition(4, 4),
        lambda: StepSets.partition(5, 4),
        lambda: StepSets.each(0),
        lambda: StepSets.observed_at(),
    ],
)
def test_step_sets__refuse_what_leaves_a_step_unclear(make):
    with pytest.raises(BadInput):
        make()


def test_step_sets__differ_exactly_where_their_configs_do():
    sets = [
        ALL_STEPS, StepSets.each(2), StepSets.partition(2), StepSets.partition(1, 2), StepSets.observed_at(0),
        StepSets.observed_at(1), StepSets.named({"0": (0,)}), StepSets((StepSet("all", None, (0,)),)),
    ]  # fmt: skip
    for a in sets:
        for b in sets:
            assert (a == b) == (json.dumps(a.config()) == json.dumps(b.config()))


def test_ranges__find_the_bounds_of_the_step():
    ranges = of_each(StepSets.partition(2, 3))
    assert [float(ranges.of(SITE, "input", step)[1]) for step in range(3)] == [0, 0, 1]
    assert float(of_each(StepSets.observed_at(5)).of(SITE, "input")[1]) == 0


@pytest.mark.parametrize("step", [3, None])
def test_ranges__refuse_a_step_outside_all_sets(step):
    with pytest.raises(BadInput, match=f"step {step}; sets 0-1, 2"):
        of_each(StepSets.partition(2, 3)).of(SITE, "input", step)


def test_ranges__refuse_operands_that_were_not_calibrated():
    for site, role in ((SITE, "output"), (SiteKey("block", "linear", 1), "input")):
        with pytest.raises(BadInput, match="calibrated range"):
            of_each(ALL_STEPS).of(site, role)


@pytest.mark.parametrize(
    "bounds",
    [
        (1.0, 2.0),
        (np.float32(1), np.float32(2)),
        (np.zeros(2), np.zeros(3)),
        (np.array(1.0), np.array(0.0)),
        (np.array(0.0), np.array(np.nan)),
        (np.array(-np.inf), np.array(0.0)),
    ],
)
def test_ranges__refuse_bounds_that_no_scale_covers(bounds):
    with pytest.raises(BadInput, match="finite float64"):
        Ranges({(SITE, "input", "all"): bounds}, {})


def test_ranges__refuse_bounds_of_an_unknown_set():
    with pytest.raises(BadInput, match="step set"):
        Ranges({(SITE, "input", "0"): (np.array(0.0), np.array(1.0))}, {})
