"""Claim: one pass over the data gives, for every operand, channel and step, what the kept operands give.

The operands are captured by a second handler on the same inputs; numpy does the rest.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch_modules import Ignoring, as_model

import simulator
from samplers.ddim import DDIM
from samplers.errors import BadInput
from samplers.loop import sample
from samplers.noise import NoiseStream
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerTensor
from simulator.arithmetic.quantizer import QuantSpec, parameters_from_range
from simulator.calibration import trajectory
from simulator.calibration.batches import calibrate_on
from simulator.calibration.channels import PerChannel, PerChannelGroup, observe
from simulator.calibration.collector import Collector
from simulator.calibration.observers import MinMax, MovingAverage
from simulator.calibration.percentile import Percentile
from simulator.calibration.search import LpSearch
from simulator.calibration.steps import ALL_STEPS, StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.forward import forward
from simulator.provenance import run_key

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, SAMPLES, BATCH = 4, 5, 2
UINT8 = QuantSpec(IntFormat(8, signed=False))


class Captured:
    """Every operand of a calibration run: (site, role) -> [(step, batch, array)], and the network's inputs."""

    def __init__(self, model, sampler) -> None:
        self.operands: dict = {}
        self.inputs: list = []
        for first in range(0, SAMPLES, BATCH):
            members, self.step = range(first, min(first + BATCH, SAMPLES)), 0
            sample(self.denoiser(model), sampler, NoiseStream(0, "calibrate"), members, model.sample_shape)

    def denoiser(self, model):
        def run(x, timestep):
            def note(site, contraction):
                output = contraction.float()
                for role, operand in {**contraction.activations(), "output": output}.items():
                    found = self.operands.setdefault((site, role), [])
                    found.append((self.step, operand.numpy().copy(), type(contraction).__name__))
                return output

            self.inputs.append((x.clone(), timestep.clone()))
            output = forward(model.module, note, x, timestep)
            self.step += 1
            return output

        return run

    def at(self, key, steps) -> list[np.ndarray]:
        return [array for step, array, _ in self.operands[key] if step in steps]


@pytest.fixture(scope="module")
def sampler(tiny_model):
    return DDIM(tiny_model.schedule, STEPS)


@pytest.fixture(scope="module")
def captured(tiny_model, sampler):
    return Captured(tiny_model, sampler)


def calibrated(model, sampler, **options):
    return calibrate_ranges(model, sampler, samples=SAMPLES, batch_size=BATCH, **options)


SETS = {
    "all": (ALL_STEPS, lambda step: range(STEPS)),
    "each": (StepSets.each(STEPS), lambda step: {step}),
    "halves": (StepSets.partition(1, STEPS), lambda step: {0} if step == 0 else range(1, STEPS)),
    "noisiest": (StepSets.observed_at(0), lambda step: {0}),
    "two": (StepSets.observed_at(0, 2), lambda step: {0, 2}),
}


@pytest.mark.parametrize("name", SETS)
def test_ranges__of_a_step_are_the_extremes_over_the_steps_that_its_set_observes(tiny_model, sampler, captured, name):
    sets, observed = SETS[name]
    ranges = calibrated(tiny_model, sampler, steps=sets, outputs=True)
    assert {key[:2] for key in ranges.bounds} == set(captured.operands)
    for key in captured.operands:
        for step in range(STEPS):
            low, high = ranges.of(*key, step)
            seen = captured.at(key, observed(step))
            assert low.shape == high.shape == ()
            assert low.dtype == high.dtype == np.float64
            assert low == min(array.min() for array in seen)
            assert high == max(array.max() for array in seen)


@pytest.mark.parametrize("granularity", [PerChannel(), PerChannelGroup(5), PerChannelGroup(100)])
def test_ranges__per_channel_and_group_follow_the_contracted_axis(tiny_model, sampler, captured, granularity):
    ranges = calibrated(tiny_model, sampler, granularity=granularity, outputs=True)
    size = getattr(granularity, "size", 1)
    for key, found in captured.operands.items():
        axis = 1 if found[0][2] == "Conv" else found[0][1].ndim - 1
        channels = [np.concatenate([np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for _, a, _ in found], axis=1)]
        groups = [channels[0][start : start + size] for start in range(0, len(channels[0]), size)]
        low, high = ranges.of(*key)
        assert low.shape == tuple(len(groups) if i == axis else 1 for i in range(found[0][1].ndim))
        assert low.reshape(-1).tolist() == [g.min() for g in groups]
        assert high.reshape(-1).tolist() == [g.max() for g in groups]


def test_ranges__per_channel_serve_a_spec_of_that_granularity(tiny_model, sampler, captured):
    ranges = calibrated(tiny_model, sampler, granularity=PerChannel())
    for site, role, _ in ranges.bounds:
        _, operand, kind = captured.operands[site, role][0]
        spec = QuantSpec(IntFormat(8, signed=False), PerAxis((1 if kind == "Conv" else operand.ndim - 1,)))
        scale, _ = parameters_from_range(*ranges.of(site, role), spec)
        assert scale.shape == spec.granularity.parameter_shape(operand.shape)


def test_percentile__and_search_see_every_element_of_every_operand(tiny_model, sampler, captured):
    percentile = calibrated(tiny_model, sampler, observer=Percentile(90, 1 << 16), steps=StepSets.each(STEPS))
    search = calibrated(tiny_model, sampler, observer=LpSearch(2, 20, 1 << 14), specs=UINT8)
    for key in captured.operands:
        if key[1] == "output":
            continue
        for step in range(STEPS):
            data = np.concatenate([a.reshape(-1) for a in captured.at(key, {step})]).astype(np.float64)
            got = np.array(percentile.of(*key, step))
            half = (data.max() - data.min()) / (2**16 - 1) + 2.0**-23 * np.abs(data).max()
            assert (np.abs(got - np.percentile(data, [10, 90])) <= half).all()
        data = np.concatenate([a.reshape(-1) for a in captured.at(key, range(STEPS))])
        shares = np.arange(1, 21) / 20
        assert np.isclose(float(search.of(*key)[1]) / data.max(), shares, rtol=1e-12).any()


def test_moving_average__runs_through_batches_and_their_steps_in_order(tiny_model, sampler, captured):
    ranges = calibrated(tiny_model, sampler, observer=MovingAverage(0.5), steps=StepSets.partition(2, STEPS))
    for key in captured.operands:
        if key[1] == "output":
            continue
        for step in (0, 2):
            high = None
            for array in captured.at(key, {step, step + 1}):
                high = float(array.max()) if high is None else 0.5 * high + 0.5 * float(array.max())
            assert np.isclose(float(ranges.of(*key, step)[1]), high, rtol=1e-14)


def test_default__keeps_its_source(tiny_model, sampler):
    source = calibrated(tiny_model, sampler).source
    assert set(source) == {
        "model", "weights_digest", "memory_format", "threads", "numerics_version", "observer", "samples", "seed",
        "purpose", "batch_size", "sampler",
    }  # fmt: skip
    assert source["observer"] == "min-max"


def test_source__is_json_and_tells_apart_all_that_changes_bounds(tiny_model, sampler):
    options = [
        {}, {"observer": MovingAverage()}, {"observer": Percentile()}, {"observer": Percentile(99)},
        {"observer": LpSearch(), "specs": UINT8}, {"observer": LpSearch(), "specs": QuantSpec(IntFormat(8))},
        {"steps": StepSets.each(STEPS)}, {"steps": StepSets.observed_at(0)}, {"granularity": PerChannel()},
        {"granularity": PerChannelGroup(1)}, {"granularity": PerChannelGroup(2)}, {"outputs": True},
    ]  # fmt: skip
    keys = [run_key(dict(calibrated(tiny_model, sampler, **option).source)) for option in options]
    assert len(set(keys)) == len(options)
    first = calibrated(tiny_model, sampler).source
    assert json.loads(json.dumps(first)) == first


def test_specs__may_differ_by_operand(tiny_model, sampler, captured):
    sites = [key for key in captured.operands if key[1] != "output"]
    specs = {key: QuantSpec(IntFormat(2 + i % 3, signed=False)) for i, key in enumerate(sites)}
    mixed = calibrated(tiny_model, sampler, observer=LpSearch(2), specs=specs)
    json.dumps(mixed.source)
    for bits in (2, 3, 4):
        alone = calibrated(tiny_model, sampler, observer=LpSearch(2), specs=QuantSpec(IntFormat(bits, signed=False)))
        own = [key for key, spec in specs.items() if spec.format.bits == bits]
        assert all(mixed.of(*key) == alone.of(*key) for key in own)
        assert any(mixed.of(*key) != alone.of(*key) for key in sites if key not in own)
    del specs[sites[-1]]
    with pytest.raises(BadInput, match=f"needs? a spec.*{sites[-1][1]}"):
        calibrated(tiny_model, sampler, observer=LpSearch(), specs=specs)


def test_calibrate_ranges__passes_over_the_data_once_and_stops_after_the_last_observed_step(
    tiny_model, sampler, monkeypatch
):
    calls, ticks = [], []
    real = trajectory.forward

    def counting(*args, **options):
        calls.append(args[1].step)
        return real(*args, **options)

    monkeypatch.setattr(trajectory, "forward", counting)
    options = {"progress": lambda done, total: ticks.append((done, total)), "outputs": True}
    calibrated(tiny_model, sampler, steps=StepSets.each(STEPS), **options)
    assert calls == [*range(STEPS)] * 3
    calls.clear(), ticks.clear()
    calibrated(tiny_model, sampler, steps=StepSets.observed_at(1), **options)
    assert calls == [0, 1] * 3
    assert ticks == [(i, 6) for i in range(1, 7)]


def test_calibrate_ranges__refuses_what_it_cannot_observe(tiny_model, sampler):
    with pytest.raises(BadInput, match=rf"0\.\.{STEPS - 1}"):
        calibrated(tiny_model, sampler, steps=StepSets.each(STEPS + 1))
    with pytest.raises(BadInput, match="specs"):
        calibrated(tiny_model, sampler, observer=LpSearch())
    with pytest.raises(BadInput, match="observer"):
        calibrated(tiny_model, sampler, observer="min-max")
    with pytest.raises(BadInput, match="PerChannel"):
        calibrated(tiny_model, sampler, granularity=PerAxis((1,)))
    for wrong in ({"steps": 4}, {"outputs": 1}, {"observer": LpSearch(), "specs": IntFormat(8)}):
        with pytest.raises(BadInput, match=list(wrong)[-1]):
            calibrated(tiny_model, sampler, **wrong)
    with pytest.raises(BadInput):
        PerChannelGroup(0)


def test_quantized_model__refuses_ranges_that_are_not_per_tensor(tiny_model, sampler):
    ranges = calibrated(tiny_model, sampler, granularity=PerChannel())
    with pytest.raises(BadInput, match="per tensor"):
        simulator.QuantizedModel(tiny_model, simulator.Scheme.parse("w8a8"), ranges)


# Data that the user brings


def test_calibrate_on__finds_on_the_trajectorys_own_batches_what_the_trajectory_finds(tiny_model, sampler, captured):
    for options in ({}, {"observer": Percentile(99)}, {"granularity": PerChannelGroup(4), "outputs": True}):
        want = calibrated(tiny_model, sampler, **options)
        got = calibrate_on(tiny_model, iter(captured.inputs), **options)
        assert got.bounds.keys() == want.bounds.keys()
        for key in want.bounds:
            assert np.array_equal(got.bounds[key], want.bounds[key])


def test_calibrate_on__names_its_data_by_content(tiny_model, captured):
    x, t = captured.inputs[0]
    variants = [
        [(x, t)], [(x + 0, t)], [(x * 1.5, t)], [(x, t + 1)], [(x, t), (x, t)], [(x[:1], t[:1]), (x[1:], t[1:])],
    ]  # fmt: skip
    keys = [run_key(dict(calibrate_on(tiny_model, data).source)) for data in variants]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5


def test_calibrate_on__takes_timesteps_that_differ_within_a_batch(tiny_model, captured):
    (x, t), (y, u) = captured.inputs[0], captured.inputs[3]
    together = calibrate_on(tiny_model, [(torch.cat([x, y]), torch.cat([t, u]))])
    apart = calibrate_on(tiny_model, [(x, t), (y, u)])
    assert t[0] != u[0]
    for key in apart.bounds:
        assert np.allclose(together.bounds[key], apart.bounds[key], rtol=1e-5, atol=1e-6)


X, T = torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)
WRONG = {
    "no batch": ([], "at least one batch"),
    "no pair": ([X], "two tensors"),
    "three": ([(X, T, T)], "two tensors"),
    "arrays": ([(X.numpy(), T.numpy())], "two tensors"),
    "empty": ([(X[:0], T[:0])], "n of at least 1"),
    "shape": ([(X[:, :, :4], T)], r"\(n, 1, 8, 8\)"),
    "no batch axis": ([(X[0], T)], r"\(n, 1, 8, 8\)"),
    "scalar": ([(X.sum(), T)], r"\(n, 1, 8, 8\)"),
    "half": ([(X.half(), T)], "float32"),
    "bfloat16": ([(X.bfloat16(), T)], "float32"),
    "float64": ([(X.double(), T)], "float32"),
    "integers": ([(X.long(), T)], "float32"),
    "meta": ([(X.to("meta"), T)], "CPU"),
    "sparse": ([(X.to_sparse(), T)], "dense"),
    "float timestep": ([(X, T.float())], "int64"),
    "one timestep": ([(X, T[:1])], "int64"),
    "scalar timestep": ([(X, T[0])], "int64"),
    "late": ([(X, T + 1000)], r"0\.\.999"),
    "negative": ([(X, T - 1)], r"0\.\.999"),
    "nan": ([(X / 0, T)], "finite"),
    "inf": ([(X, T), (X + float("inf"), T)], "finite.*batch 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_calibrate_on__refuses_batches_of_another_form(tiny_model, case):
    data, message = WRONG[case]
    with pytest.raises(BadInput, match=message):
        calibrate_on(tiny_model, iter(data))


def test_calibrate_on__refuses_operands_that_become_infinite_inside(tiny_model):
    model = as_model(Ignoring(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))), (4,))
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.fill_(3e38)
    with pytest.raises(BadInput, match="finite"):
        calibrate_on(model, [(torch.ones(2, 4), T)])


# The collector by itself


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(6, 4, 3), nn.Conv1d(6, 4, 1), nn.ConvTranspose2d(6, 4, 2), nn.Linear(5, 4)]
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_collector__reads_any_memory_layout(layer, channels_last):
    shape = {"Conv1d": (3, 6, 9), "Linear": (3, 2, 7, 5)}.get(type(layer).__name__, (3, 6, 7, 5))
    x = torch.randn(shape)
    if channels_last and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    axis = x.ndim - 1 if isinstance(layer, nn.Linear) else 1
    for view in (x, x[:, :, ::2], x[1:], x.flip(0)):
        collector = Collector(Percentile(100, 64), granularity=PerChannelGroup(4))
        minimal = Collector(MinMax(), granularity=PerChannelGroup(4))
        whole = Collector(Percentile(75, 1 << 14))
        for handler in (collector, minimal, whole):
            forward(Ignoring(layer), handler, view, torch.zeros(len(view)))
        (key,) = minimal.ranges({}).bounds
        channels = np.moveaxis(view.numpy(), axis, 0).reshape(view.shape[axis], -1)
        low, high = minimal.ranges({}).bounds[key]
        want = [channels[s : s + 4] for s in range(0, len(channels), 4)]
        assert low.reshape(-1).tolist() == [part.min() for part in want]
        assert high.reshape(-1).tolist() == [part.max() for part in want]
        assert np.allclose(collector.ranges({}).bounds[key], (low, high), atol=0.2)
        exact = np.percentile(channels.astype(np.float64), [25, 75])
        assert np.allclose(whole.ranges({}).bounds[key], exact, atol=1e-3)


@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel()])
def test_observe__copies_no_operand_whose_memory_has_no_gaps(granularity):
    image = torch.randn(3, 6, 7, 5)
    for x in (image, image.contiguous(memory_format=torch.channels_last), image.transpose(0, 2)):
        assert np.shares_memory(observe(x, granularity, 1, "").values, x.numpy())


def test_collector__counts_a_broadcast_operand_as_often_as_it_is_read():
    class Product(nn.Module):
        def forward(self, x, timestep):
            return torch.matmul(x, torch.eye(4) + x.sum())

    row = torch.tensor([[0.0, 0, 0, 1]])
    for x in (row, row.expand(50, 4)):
        collector = Collector(Percentile(80))
        forward(Product(), collector, x, torch.zeros(len(x)))
        bounds = collector.ranges({}).bounds
        _, high = next(found for (_, role, _), found in bounds.items() if role == "left")
        assert abs(high - np.percentile(x.numpy(), 80)) < 1e-3


def test_collector__refuses_channels_that_change_and_empty_operands():
    class Cut(nn.Module):
        def forward(self, x, timestep):
            width = int(timestep[0])
            return torch.matmul(x[:, :width], x[:, :width].T)

    collector = Collector(granularity=PerChannel())
    forward(Cut(), collector, torch.randn(3, 6), torch.tensor([6]))
    with pytest.raises(BadInput, match="keep its channels"):
        forward(Cut(), collector, torch.randn(3, 6), torch.tensor([5]))
    per_tensor = Collector(granularity=PerTensor())
    for width in (6, 5):
        forward(Cut(), per_tensor, torch.randn(3, 6), torch.tensor([width]))
    with pytest.raises(BadInput, match="elements"):
        forward(Cut(), Collector(), torch.randn(3, 6), torch.tensor([0]))
