"""Claim: a reconstructed network runs in the engine with exactly the codes and scales that were learned, every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from samplers.schedule import NoiseSchedule
from simulator.arithmetic.quantizer import parameters_from_range, quantize
from simulator.calibration.batches import calibrate_on
from simulator.calibration.collector import Collector
from simulator.calibration.ranges import Ranges
from simulator.calibration.reconstruction.run import reconstruct
from simulator.calibration.reconstruction.settings import LearnRoundings, LearnScales, Reconstruction
from simulator.calibration.reconstruction.units import partition
from simulator.calibration.steps import StepSets
from simulator.instrument.calibrated import calibrated
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.scheme.settings import Settings
from simulator.instrument.weight_layout import WeightLayout
from simulator.models.registry import Model

ROUNDINGS = LearnRoundings(6, batch_size=8, learning_rate=0.5, regularizer=1.0, error_unit="nearest")
SCALES = LearnScales(3, batch_size=8, learning_rate=0.02)
BLOCKS = Reconstruction("blocks", "block", "quantized", roundings=ROUNDINGS, scales=SCALES)
DROP = dataclasses.replace(BLOCKS, name="drop", inputs="drop")
LAYERS = Reconstruction("layers", "layer", "float", roundings=ROUNDINGS, scales=None)


def _batches(shape=(1, 8, 8), count: int = 20, steps: bool = False):
    g = torch.Generator().manual_seed(7)
    x, timestep = torch.randn(count, *shape, generator=g), torch.randint(0, 1000, (count,), generator=g)
    step = (torch.arange(count) % 3,) if steps else ()
    return [(x[:12], timestep[:12], *(s[:12] for s in step)), (x[12:], timestep[12:], *(s[12:] for s in step))]


def _pairs(batches):
    return [batch[:2] for batch in batches]


def _same(one, other) -> None:
    assert one.model.weights_digest == other.model.weights_digest
    assert one.logs == other.logs
    assert one.ranges.source == other.ranges.source
    assert one.ranges.bounds.keys() == other.ranges.bounds.keys()
    for key, bounds in one.ranges.bounds.items():
        np.testing.assert_array_equal(bounds, other.ranges.bounds[key])
    for site, quantized in one.codes.items():
        np.testing.assert_array_equal(quantized.codes, other.codes[site].codes)


@pytest.fixture(scope="module")
def tiny(tiny_model, one_thread):
    batches = _batches()
    return tiny_model, Scheme.parse("w4a8"), calibrate_on(tiny_model, _pairs(batches)), batches


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (BLOCKS, "w4a8"), (BLOCKS, "w4g5a8"), (BLOCKS, "w3a4-dyn"), (DROP, "w4a8-dynrow"), (DROP, "w4a8"),
        (LAYERS, "w4g5a8"),
    ],
)  # fmt: skip
def test_result__has_weights_on_the_grid_and_bounds_that_give_the_learned_codes(tiny, method, name) -> None:
    model, _, ranges, batches = tiny
    found = reconstruct(model, Scheme.parse(name), ranges, batches, method)
    weighted = {f.key for f in QuantizedModel(model, Scheme.parse(name), ranges).sites if f.weight_shape is not None}
    assert found.codes.keys() == weighted
    assert any(log.flipped for log in found.logs)
    state = dict(found.model.module.named_modules())
    for site, quantized in found.codes.items():
        weight, layout = state[site.module].weight, WeightLayout()
        low, high = found.ranges.bounds[site, "weight", "all"]
        scale, zero = parameters_from_range(low, high, quantized.spec)
        np.testing.assert_array_equal(scale, quantized.scale)
        again = quantize(layout.outputs_first(weight).numpy(), quantized.spec, scale, zero)
        np.testing.assert_array_equal(again.codes, quantized.codes)
        assert again.clipped == 0
    QuantizedModel(found.model, Scheme.parse(name), found.ranges)
    for log in found.logs:
        assert log.after <= log.before
    assert {log.phase for log in found.logs} >= {"roundings"}


@pytest.mark.skipif(not hasattr(Ranges, "with_weights"), reason="the engine does not take bounds of weights yet")
@pytest.mark.parametrize("name", ["w4a8", "w4g5a8"])
def test_engine__multiplies_by_the_learned_codes(tiny, name) -> None:
    """What the engine computes from float operands is what the learned codes give in integers."""
    model, _, ranges, batches = tiny
    found = reconstruct(model, Scheme.parse(name), ranges, batches, BLOCKS)
    network = QuantizedModel(found.model, Scheme.parse(name), found.ranges)
    from simulator.instrument.weight_codes import WeightBounds, weight_codes

    seen = {}

    def look(site, contraction):
        if site in found.codes:
            bounds = WeightBounds(*found.ranges.bounds[site, "weight", "all"])
            spec = network.plan.at(site).weight
            seen[site] = weight_codes(contraction, contraction.weight.numpy(), spec, bounds).codes
        return network.emulate(site, contraction).output

    forward(found.model.module, look, *batches[0])
    for site, quantized in found.codes.items():
        np.testing.assert_array_equal(seen[site], quantized.codes)


class _Anchored(nn.Module):
    """Each output's largest weight is 7 powers of two, so the engine finds the scale of a 4-bit grid by itself."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(4)
        self.inner, self.outer = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 1, 3, padding=1)
        self.middle = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        with torch.no_grad():
            for layer in (self.inner, self.middle, self.outer):
                layer.weight.copy_((torch.rand(layer.weight.shape, generator=g) - 0.5) * 0.8)
                layer.bias.copy_(torch.rand(layer.bias.shape, generator=g) - 0.5)
                layer.weight[:, 0, 1, 1] = 7 / 16

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.outer(torch.relu(self.middle(torch.relu(self.inner(x)))))


def test_engine__gives_the_surrogates_output_from_the_learned_codes(one_thread) -> None:
    """Both round the same operands to the same codes, so they differ by float32 sums alone."""
    model = Model("anchored", 1, _Anchored().eval().requires_grad_(False), NoiseSchedule(), (1, 8, 8), "epsilon", "")
    scheme = Scheme(Settings(weight_bits=4))
    batches = _batches()
    ranges = calibrate_on(model, _pairs(batches))
    longer = LearnRoundings(60, batch_size=8, learning_rate=0.1, regularizer=10.0, error_unit="nearest")
    found = reconstruct(model, scheme, ranges, batches, dataclasses.replace(BLOCKS, roundings=longer))
    assert sum(log.flipped for log in found.logs) > 0
    network = QuantizedModel(found.model, scheme, found.ranges)
    for site, quantized in found.codes.items():
        machine = network.machine(site)
        inner = dict(found.model.module.named_modules())[site.module]
        seen = {}

        def note(at, contraction, seen=seen, site=site):
            if at == site:
                seen["c"] = contraction
            return contraction.float()

        forward(found.model.module, note, *batches[0])
        packed = network.machine(site).prepare(seen["c"], inner.weight)
        np.testing.assert_array_equal(packed.scale.reshape(-1), quantized.scale.reshape(-1))
        codes = np.abs(quantized.codes.astype(np.int64)).reshape(len(quantized.codes), -1).sum(axis=1)
        assert packed.absolute_sum == codes.max()
        assert machine is not None
        parameters = calibrated(network.plan.at(site), site, found.ranges)["input"]
        x = seen["c"].input.numpy()
        steps = np.clip(np.rint(x / parameters.scale) + parameters.zero_point, 0, 255) - parameters.zero_point
        exact = dataclasses.replace(
            seen["c"], input=torch.from_numpy(steps).double(), weight=torch.from_numpy(quantized.codes).double(),
            bias=None,
        ).float()  # fmt: skip
        scale = parameters.scale * quantized.scale.reshape(1, -1, 1, 1)
        expected = exact.numpy() * scale + inner.bias.numpy().reshape(1, -1, 1, 1)
        np.testing.assert_allclose(network.emulate(site, seen["c"]).output.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_scales__learned_ones_reach_the_engine_exactly_and_lower_the_loss(tiny) -> None:
    model, _, ranges, batches = tiny
    method = dataclasses.replace(BLOCKS, scales=LearnScales(20, batch_size=8, learning_rate=0.04))
    found = reconstruct(model, Scheme.parse("w8a3"), ranges, batches, method)
    logs = [log for log in found.logs if log.phase == "scales"]
    assert any(log.kept == "learned" and log.after < 0.9 * log.before for log in logs)
    network, before = (QuantizedModel(m, Scheme.parse("w8a3"), r) for m, r in ((found.model, found.ranges), tiny[::2]))
    changed = 0
    for facts in network.sites:
        for role, format in network.formats(facts.key).items():
            other = before.formats(facts.key)[role]
            assert format.zero_point == other.zero_point
            changed += format.scale != other.scale
    assert changed > 3


def test_scales__of_several_steps_are_learned_apart(tiny) -> None:
    model = tiny[0]
    batches = _batches(steps=True)
    ranges = _stepwise(model, batches)
    method = dataclasses.replace(BLOCKS, scales=LearnScales(20, batch_size=8, learning_rate=0.05))
    if not hasattr(Ranges, "with_weights"):
        pytest.skip("bounds of weights need step sets of their own")
    found = reconstruct(model, Scheme.parse("w4a4"), ranges, batches, method)
    assert found.ranges.steps == ranges.steps
    ratios = {
        key: (found.ranges.bounds[key][1] - found.ranges.bounds[key][0]) / (high - low)
        for key, (low, high) in ranges.bounds.items() if key[1] == "input"
    }  # fmt: skip
    sites = {site for site, _, _ in ratios}
    spread = [np.ptp([float(ratios[site, "input", name]) for name in "012"]) for site in sites]
    assert max(spread) > 1e-3


def _stepwise(model, batches) -> Ranges:
    collector = Collector(steps=StepSets.each(3))
    for x, timestep, step in batches:
        for one in range(3):
            collector.step = one
            forward(model.module, collector, x[step == one], timestep[step == one])
    return collector.ranges({})


def test_seed__gives_the_same_bits_again_and_another_seed_others(tiny) -> None:
    one, two, other = (reconstruct(*tiny, DROP, seed=seed) for seed in (0, 0, 1))
    _same(one, two)
    assert one.model.weights_digest != other.model.weights_digest


def test_resume__gives_the_bits_of_not_stopping(tiny, tmp_path) -> None:
    whole = reconstruct(*tiny, DROP, folder=tmp_path / "whole")
    calls = []
    while (part := reconstruct(*tiny, DROP, folder=tmp_path / "parts", stop_after=3)) is None:
        calls.append(len(list((tmp_path / "parts").glob("*.safetensors"))))
    assert calls == [3, 6, 9, 12]
    _same(whole, part)
    names = {path.name for path in (tmp_path / "whole").iterdir()} - {"times.json"}
    assert "reconstruction.json" in names
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    assert part.seconds.keys() == whole.seconds.keys()


def test_progress__counts_every_iteration_to_the_end(tiny) -> None:
    seen = []
    reconstruct(*tiny, BLOCKS, progress=lambda done, total: seen.append((done, total)))
    done, totals = zip(*seen, strict=True)
    assert len(set(totals)) == 1
    assert list(done) == sorted(done)
    assert done[-1] == totals[0]
    units = partition(tiny[0])
    weighted = [unit for unit in units if unit.name not in ("qk", "pv")]
    assert totals[0] == ROUNDINGS.iterations * len(weighted) + SCALES.iterations * len(units)


def test_inputs__follow_the_network_quantized_so_far_only_where_asked(tiny) -> None:
    model, scheme, ranges, batches = tiny
    results = [
        reconstruct(model, scheme, ranges, batches, dataclasses.replace(BLOCKS, inputs=inputs, scales=None))
        for inputs in ("float", "quantized", "drop")
    ]
    first = {result.logs[0].before for result in results[:2]}
    assert len(first) == 1  # nothing is quantized before the first unit
    assert len({result.logs[-1].before for result in results}) == 3


class _Odd(nn.Module):
    """Two heads read slices of one parameter, a transposed convolution in groups, and a layer whose weight is tied."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Parameter(torch.empty(8, 16))
        self.up = nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)
        self.two.weight = self.one.weight
        with torch.no_grad():
            self.both.normal_(generator=torch.Generator().manual_seed(9))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        left, right = self.both.chunk(2)
        h = torch.stack([nn.functional.linear(x, w) for w in (left, right)], dim=1)  # (n, 2, 4)
        h = self.up(h.reshape(len(x), 4, 2)).flatten(1)[:, :16]
        return self.two(torch.relu(self.one(h)))


def test_weights__that_are_slices_transposed_or_tied_lie_on_their_grids(one_thread) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = _Odd().eval().requires_grad_(False)
    model = Model("odd", 1, module, NoiseSchedule(), (16,), "epsilon", "")
    batches = _batches((16,))
    scheme = Scheme(Settings(weight_bits=4))
    ranges = calibrate_on(model, _pairs(batches))
    method = dataclasses.replace(LAYERS, inputs="quantized")
    found = reconstruct(model, scheme, ranges, batches, method)
    assert found.model.module.two.weight is found.model.module.one.weight
    layouts = {"up": WeightLayout(2)}
    own = {
        "linear": found.model.module.both[:4], "linear#1": found.model.module.both[4:],
        "up:conv_transpose1d": found.model.module.up.weight, "one:linear": found.model.module.one.weight,
        "two:linear": found.model.module.two.weight,
    }  # fmt: skip
    assert {str(site) for site in found.codes} == own.keys()
    for site, quantized in found.codes.items():
        plain = layouts.get(site.module, WeightLayout()).outputs_first(own[str(site)]).numpy()
        np.testing.assert_array_equal(quantized.codes * quantized.scale, plain)
    assert len([log for log in found.logs if log.unit in ("one:linear", "two:linear")]) == 1
    assert model.module.both.unique().numel() > 60  # the model itself is left alone


@dataclasses.dataclass(frozen=True)
class _Line:
    """Scales that lie on a line over the steps, as a stand-in for a network that makes them."""

    count: int

    def config(self):
        return {"name": "line", "count": self.count}

    def steps(self, calibrated):
        return StepSets.each(self.count)

    def start(self, site, role, spec, affines, calibrated):
        return _OnLine(affines[0])


class _OnLine:
    def __init__(self, affine) -> None:
        self.weight, self.offset = torch.zeros(2, requires_grad=True), torch.zeros((), requires_grad=True)
        self.affine = affine

    def parameters(self):
        return {"weight": self.weight, "offset": self.offset}

    def __call__(self, step):
        t = step.float()
        scale = float(self.affine.scale) * torch.nn.functional.softplus(0.5413 + self.weight[0] + self.weight[1] * t)
        return scale, (self.affine.zero_point + self.offset * t)


def test_scales__may_be_any_function_of_the_step(tiny) -> None:
    if not hasattr(Ranges, "with_weights"):
        pytest.skip("bounds of weights need step sets of their own")
    model, _, ranges, _ = tiny
    method = dataclasses.replace(BLOCKS, scales=LearnScales(30, batch_size=8, learning_rate=0.05))
    found = reconstruct(model, Scheme.parse("w4a4"), ranges, _batches(steps=True), method, scales=_Line(3))
    assert found.ranges.steps == StepSets.each(3)
    learned = [log for log in found.logs if log.phase == "scales" and log.kept == "learned"]
    assert len(learned) > 1
    network = QuantizedModel(found.model, Scheme.parse("w4a4"), found.ranges)
    kept = {site: log.kept for log in found.logs if log.phase == "scales" for site in log.sites}
    for facts in network.sites:
        for role in network.formats(facts.key, 0):
            scales = [network.formats(facts.key, step)[role].scale for step in range(3)]
            assert len(set(scales)) == (3 if kept[str(facts.key)] == "learned" and role != "probability" else 1)


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.block(self.block(x))


@pytest.mark.parametrize("method", [BLOCKS, dataclasses.replace(LAYERS, inputs="quantized")])
def test_weights__of_a_block_that_runs_twice_have_their_codes_in_both_runs(one_thread, method) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = _Twice().eval().requires_grad_(False)
    model, batches = Model("twice", 1, module, NoiseSchedule(), (6,), "epsilon", ""), _batches((6,))
    scheme = Scheme(Settings(weight_bits=4))
    found = reconstruct(model, scheme, calibrate_on(model, _pairs(batches)), batches, method)
    assert {str(site) for site in found.codes} == {
        "block.0:linear", "block.2:linear", "block.0:linear#1", "block.2:linear#1"
    }  # fmt: skip
    assert all((site, "weight", "all") in found.ranges.bounds for site in found.codes)
    QuantizedModel(found.model, scheme, found.ranges)(*batches[0])


def test_conditions__and_guidance_are_those_of_each_sample(one_thread) -> None:
    """Under guidance every sample has two rows; a block is fed with both, in the order in which they run."""
    from simulator.calibration.reconstruction.recording import Passes, record
    from simulator.calibration.reconstruction.samples import Samples
    from simulator.models.conditioning import Conditioning
    from simulator.models.registry import load

    model = load("digits-dit")
    conditioning = Conditioning({"label": torch.arange(10)}, weight=2.0)
    x, timestep = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((6,), 300)
    samples = Samples.of(model, [(x, timestep, torch.arange(6))])
    unit = next(u for u in partition(model, conditioning=conditioning) if u.name == "blocks.0")
    whole, parts = (record(Passes(model, samples, size, conditioning, ()), unit, None, output=True) for size in (6, 4))
    assert whole.rows == 12
    assert whole.step.tolist() == [*range(6), *range(6)]
    assert parts.step.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 4, 5]
    order = [0, 1, 2, 3, 6, 7, 8, 9, 4, 5, 10, 11]
    torch.testing.assert_close(parts.output, whole.output[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(unit.module(*whole.batch(torch.arange(12))), whole.output, rtol=1e-4, atol=1e-5)
    conditions = [leaf for leaf in whole.leaves if leaf.ndim == 2]
    assert len(conditions) == 1
    assert not torch.equal(conditions[0][0], conditions[0][6])
