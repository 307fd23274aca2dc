"""Claim: ranges over a set are those of its points and no others, in the stated order.

So what `calibrate_ranges` finds is found again from a set of all steps, moving averages included.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch_modules import as_model

from samplers.ddim import DDIM
from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerTensor
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.channels import PerChannel, observe
from simulator.calibration.collection.calibration_set import CalibrationSet
from simulator.calibration.collection.fixed import AllSteps, Noisiest, Uniform
from simulator.calibration.collection.normal import Normal
from simulator.calibration.collection.order import Mixed, OneStep
from simulator.calibration.collection.random_steps import RandomSteps
from simulator.calibration.collection.set_ranges import calibrate_on_set
from simulator.calibration.collection.trajectories import collect
from simulator.calibration.observers import MinMax, MovingAverage
from simulator.calibration.search import LpSearch
from simulator.calibration.steps import ALL_STEPS, StepSet, StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.forward import forward
from simulator.models.conditioning import Conditioning
from simulator.models.derived import derive
from simulator.models.registry import Condition
from simulator.provenance import run_key

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, SAMPLES, BATCH = 4, 5, 2
UINT8 = QuantSpec(IntFormat(8, signed=False))


@pytest.fixture(scope="module")
def sampler(tiny_model):
    return DDIM(tiny_model.schedule, STEPS)


@pytest.fixture(scope="module")
def every_step(tiny_model, sampler):
    return collect(tiny_model, sampler, AllSteps(), samples=SAMPLES, batch_size=BATCH)


@pytest.fixture(scope="module")
def some(tiny_model, sampler):
    return collect(tiny_model, sampler, RandomSteps(2), samples=SAMPLES, batch_size=BATCH)


def captured(model, batches):
    """{(site, role): [operand of each batch]}."""
    found: dict = {}

    def note(site, contraction):
        for role, operand in contraction.activations().items():
            found.setdefault((site, role), []).append(operand.numpy().copy())
        return contraction.float()

    for batch in batches:
        forward(model.module, note, batch.x, batch.timestep)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": StepSets.each(STEPS), "outputs": True},
        {"steps": StepSets.partition(1, STEPS), "granularity": PerChannel()},
        {"observer": MovingAverage(0.7)},
        {"observer": MovingAverage(0.7), "steps": StepSets.partition(2, STEPS)},
    ],
    ids=["min-max", "each", "per-channel", "average", "averages"],
)
def test_ranges__of_a_set_of_all_steps_are_the_samplers(tiny_model, sampler, every_step, options):
    want = calibrate_ranges(tiny_model, sampler, samples=SAMPLES, batch_size=BATCH, **options)
    got = calibrate_on_set(tiny_model, every_step, batch_size=BATCH, **options)
    assert got.bounds.keys() == want.bounds.keys()
    assert got.steps == want.steps
    for key in want.bounds:
        assert np.array_equal(got.bounds[key], want.bounds[key]), key


def test_ranges__of_noisiest_are_those_observed_at_step_0(tiny_model, sampler):
    points = collect(tiny_model, sampler, Noisiest(), samples=SAMPLES, batch_size=BATCH)
    want = calibrate_ranges(
        tiny_model, sampler, samples=SAMPLES, batch_size=BATCH, steps=StepSets.observed_at(0)
    )  # fmt: skip
    got = calibrate_on_set(tiny_model, points, batch_size=BATCH)
    for key in want.bounds:
        assert np.array_equal(got.bounds[key], want.bounds[key])


def test_ranges__of_a_step_come_from_the_points_of_its_set_alone(tiny_model, some):
    sets = StepSets.partition(1, 2, STEPS)
    ranges = calibrate_on_set(tiny_model, some, steps=sets, batch_size=3)
    for step, observed in ((0, {0}), (1, {1}), (3, {2, 3})):
        batches = [b for b in some.batches(3) if b.one_step in observed]
        for key, operands in captured(tiny_model, batches).items():
            low, high = ranges.of(*key, step)
            assert low == min(array.min() for array in operands)
            assert high == max(array.max() for array in operands)


def test_ptq4dm__is_normal_collection_and_averaged_searches_over_mixed_passes(tiny_model, sampler):
    points = collect(tiny_model, sampler, Normal(), samples=12, batch_size=4)
    search, order = LpSearch(2.4), Mixed(5)
    ranges = calibrate_on_set(
        tiny_model, points, observer=MovingAverage(0.9, of=search), specs=UINT8, batch_size=5, order=order
    )
    batches = list(points.batches(5, order))
    assert any(batch.one_step is None for batch in batches)
    for key, operands in list(captured(tiny_model, batches).items())[:6]:
        want = None
        for operand in operands:
            one = search.accumulator(1, UINT8)
            one.update(observe(torch.from_numpy(operand), PerTensor(), 1, "here"))
            found = np.array(one.bounds()).reshape(2)
            want = found if want is None else 0.9 * want + (1 - 0.9) * found
        assert np.array_equal(np.array(ranges.of(*key)), want), key


def test_moving_averages__depend_on_the_order_of_the_passes(tiny_model, some):
    orders = [OneStep(), Mixed(0), Mixed(1)]
    found = [calibrate_on_set(tiny_model, some, observer=MovingAverage(), batch_size=3, order=o) for o in orders]
    key = next(key for key in found[0].bounds if key[0].module == "first")
    assert len({float(ranges.bounds[key][1]) for ranges in found}) == 3


def test_min_max__does_not_depend_on_the_order(tiny_model, some):
    one, mixed = (calibrate_on_set(tiny_model, some, batch_size=3, order=o) for o in (Mixed(1), Mixed(2)))
    for key in one.bounds:
        assert np.allclose(one.bounds[key], mixed.bounds[key], rtol=1e-5, atol=1e-6)


def test_ranges__may_serve_steps_that_no_point_shows(tiny_model, sampler):
    points = collect(tiny_model, sampler, Uniform(2), samples=2)  # steps 0 and 2
    sets = StepSets((StepSet("early", (0,), (0, 1)), StepSet("late", (2,), (2, 3))))
    ranges = calibrate_on_set(tiny_model, points, steps=sets)
    site, role, _ = next(iter(ranges.bounds))
    assert ranges.of(site, role, 1) == ranges.of(site, role, 0)
    assert ranges.of(site, role, 3) == ranges.of(site, role, 2)
    assert ranges.of(site, role, 1) != ranges.of(site, role, 3)


class Labelled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(5, 4)

    def forward(self, x, timestep, label):
        return self.body(torch.cat([x, label[:, None].float()], dim=1))


def labelled():
    model = as_model(Labelled(), (4,))
    for parameter in model.module.parameters():
        parameter.zero_()  # samples stay below any label
    return dataclasses.replace(model, classes=10**6, conditions=(Condition("label", null=-1),))


def test_conditions__follow_the_member_and_must_be_those_of_the_collection():
    model, labels = labelled(), [150_000, 100_000, 120_000]
    conditioning = Conditioning({"label": torch.tensor(labels)})
    points = collect(model, DDIM(model.schedule, STEPS), RandomSteps(1), samples=3, conditioning=conditioning)
    ranges = calibrate_on_set(
        model, points, steps=StepSets.named({str(s): [s] for s in set(points.step.tolist())}), conditioning=conditioning
    )
    site, role, _ = next(iter(ranges.bounds))
    for step in points.step.tolist():
        members = points.member[points.step == step].tolist()
        assert ranges.of(site, role, step)[1] == max(labels[member] for member in members)
    with pytest.raises(BadInput, match="conditions of its collection"):
        calibrate_on_set(model, points, conditioning=Conditioning({"label": torch.tensor([1])}))
    with pytest.raises(BadInput, match="conditions of its collection"):
        calibrate_on_set(model, points)
    own = CalibrationSet(points.x, points.timestep, points.step, points.member, {})
    calibrate_on_set(model, own, conditioning=Conditioning({"label": torch.tensor([1])}))


def test_derived_models__are_calibrated_on_their_models_set(tiny_model, every_step):
    def halve(module):
        module.first.weight *= 0.5

    with torch.no_grad():
        halved = derive(tiny_model, halve, "halved")
    ranges = calibrate_on_set(halved, every_step)
    assert ranges.source["weights_digest"] == halved.weights_digest
    assert ranges.source["calibration_set"]["source"]["weights_digest"] == tiny_model.weights_digest


def test_source__is_json_and_tells_apart_all_that_changes_bounds(tiny_model, every_step, some):
    options = [
        {}, {"order": Mixed()}, {"order": Mixed(1)}, {"batch_size": 3}, {"observer": MovingAverage()},
        {"steps": StepSets.each(STEPS)}, {"granularity": PerChannel()}, {"outputs": True},
        {"observer": LpSearch(bins=64), "specs": UINT8},
    ]  # fmt: skip
    sources = [dict(calibrate_on_set(tiny_model, every_step, **option).source) for option in options]
    sources.append(dict(calibrate_on_set(tiny_model, some).source))
    assert len({run_key(source) for source in sources}) == len(options) + 1
    assert json.loads(json.dumps(sources[0])) == sources[0]


def test_progress__counts_points(tiny_model, some):
    ticks: list = []
    calibrate_on_set(tiny_model, some, batch_size=100, progress=lambda done, total: ticks.append((done, total)))
    assert ticks[-1] == (10, 10)
    assert len(ticks) == len(set(some.step.tolist()))


WRONG = {
    "set": ({"points": [1]}, "CalibrationSet"),
    "batch": ({"batch_size": 0}, "batch_size"),
    "order": ({"order": "mixed"}, "order"),
    "observer": ({"observer": "min-max"}, "observer"),
    "unseen": ({"steps": StepSets.each(STEPS + 1)}, "'4' among steps"),
    "mixed": ({"steps": StepSets.each(STEPS), "order": Mixed()}, "passes of one step"),
    "specs": ({"observer": LpSearch()}, "specs"),
}


@pytest.mark.parametrize("case", WRONG)
def test_calibrate_on_set__refuses_bad_input(tiny_model, every_step, case):
    options, message = WRONG[case]
    options = {"points": every_step, **options}
    with pytest.raises(BadInput, match=message):
        calibrate_on_set(tiny_model, options.pop("points"), **options)


def test_calibrate_on_set__refuses_points_of_another_model(tiny_model):
    index = torch.zeros(2, dtype=torch.long)
    with pytest.raises(BadInput, match="shape"):
        calibrate_on_set(tiny_model, CalibrationSet(torch.zeros(2, 1, 4, 4), index, index, index, {}))
    with pytest.raises(BadInput, match=r"0\.\.999"):
        calibrate_on_set(tiny_model, CalibrationSet(torch.zeros(2, 1, 8, 8), index + 1000, index, index, {}))


def test_mixed_passes_of_all_steps__are_plain_calibration(tiny_model, some):
    assert calibrate_on_set(tiny_model, some, order=Mixed(), steps=ALL_STEPS, observer=MinMax()).bounds
