"""Claim: what is trained is what runs: in eval mode every operand has the engine's codes, at the scheme's bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplers import DDIM, BadInput, NoiseSchedule
from simulator.arithmetic.operands import ScaledFormat
from simulator.arithmetic.quantizer import dequantize, parameters_from_range, quantize
from simulator.arithmetic.weights import prepare_weight
from simulator.calibration.steps import ALL_STEPS
from simulator.calibration.training.data import TrainingSet
from simulator.calibration.training.methods import LSQ, NIPQ, PACT, Control, WeightScales
from simulator.calibration.training.scales import RangeScales
from simulator.calibration.training.student import Student
from simulator.calibration.training.train import fine_tune
from simulator.instrument import emulation
from simulator.instrument.contractions import PROBABILITY, MatMul
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.models.registry import Model

SCHEME = Scheme.parse("w4a4")
METHODS = [LSQ(), LSQ(weights=WeightScales.SCHEME), LSQ(scales=RangeScales(3)), PACT(), NIPQ()]


def test_student__has_the_schemes_bits_at_every_role(tiny_model, images) -> None:
    scheme = Scheme(SCHEME.settings, (*SCHEME.rules, Rule(("@qk",), Settings(key_bits=3))))
    student = Student(tiny_model, scheme, LSQ())
    x = torch.from_numpy(images.images[:4])
    student.begin(x, torch.tensor([3, 300, 600, 900]), {}, torch.Generator())
    quantized = QuantizedModel(tiny_model, scheme, _ranges_of_one(tiny_model))
    bits = {(site, role): q.spec.format.bits for (site, role), q in student.activations.items()}
    expected = {
        (facts.key, role): operand.spec.format.bits
        for facts in quantized.sites
        for role, operand in quantized.plan.at(facts.key).operands.items()
        if role != PROBABILITY
    }
    assert bits == expected
    assert {bits[site, role] for site, role in bits if site.operation == "qk"} == {4, 3}
    assert bits[student.sites[-1].key, "input"] == 8  # the last layer
    assert {site: q.spec.format.bits for site, q in student.weights.items()} == {
        facts.key: quantized.plan.at(facts.key).weight.format.bits for facts in quantized.sites if facts.weight_shape
    }


def _ranges_of_one(model):
    from simulator.calibration.batches import calibrate_on

    return calibrate_on(model, [(torch.zeros(2, *model.sample_shape), torch.zeros(2, dtype=torch.long))])


@pytest.mark.parametrize("method", METHODS, ids=lambda m: str(m.config()))
def test_student__in_eval_mode_has_the_engines_codes_and_nearly_its_output(
    method, tiny_model, images, brief, one_thread
) -> None:
    trained = fine_tune(tiny_model, SCHEME, method, brief, data=images)
    sampler = DDIM(tiny_model.schedule, 5)
    ranges, student, seen = trained.ranges(sampler), trained.student, []
    engine = QuantizedModel(trained.model, SCHEME, ranges)
    latent = {}

    def keep(site, contraction):
        if not isinstance(contraction, MatMul):
            latent[site] = emulation.array(student.weight(site, contraction))
        return contraction.float()

    def integers(site, contraction):
        how = engine.formats(site, step)
        for role, values in contraction.activations().items():
            found, one = student._rounded(site, role, values), (1,) * values.ndim
            codes = quantize(
                np.ascontiguousarray(values.numpy()), how[role].spec, np.full(one, how[role].scale, np.float32),
                np.full(one, how[role].zero_point, np.int32),
            )  # fmt: skip
            np.testing.assert_array_equal(found.numpy(), dequantize(codes))
        seen.append(site)
        if isinstance(contraction, MatMul):
            return emulation.matmul(contraction, *(how[role] for role in contraction.roles))[0]
        spec = engine.plan.at(site).weight
        codes = quantize(emulation.array(contraction.weight), spec, *parameters_from_range(*ranges.weights[site], spec))
        np.testing.assert_array_equal(dequantize(codes), emulation.array(contraction.weight))  # on the grid
        np.testing.assert_array_equal(dequantize(codes), latent[site])
        return emulation.weighted(contraction, how["input"], prepare_weight(codes, parts=1))[0]

    for step, update in enumerate(sampler.updates):
        timestep = update.timesteps(8)
        x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        expected = student.judge(x, timestep, {})
        forward(student.module, keep, x, timestep)
        found = forward(trained.model.module, integers, x, timestep)
        assert tuple(seen[-len(student.sites) :]) == tuple(facts.key for facts in student.sites)
        error, plain = (found - expected).square().sum(), (tiny_model.module(x, timestep) - expected).square().sum()
        assert error < 1e-6 * expected.square().sum() < plain  # float sums, against the quantization error


def test_ranges__share_a_set_where_all_scales_are_equal(tiny_model, images, brief, one_thread) -> None:
    static = fine_tune(tiny_model, SCHEME, LSQ(), brief, data=images)
    assert static.ranges().steps == ALL_STEPS
    trained = fine_tune(tiny_model, SCHEME, LSQ(scales=RangeScales(2)), brief, data=images)
    ranges = trained.ranges(DDIM(tiny_model.schedule, 10))
    assert [s.serves for s in ranges.steps.sets] == [tuple(range(5)), tuple(range(5, 10))]
    with pytest.raises(BadInput, match="need the steps"):
        trained.ranges()
    (site, role) = next(iter(trained.student.activations))
    scales = trained.student.activations[site, role].scales.scale(torch.tensor([999, 0]))
    for step, scale in ((0, scales[0]), (9, scales[1])):
        spec = trained.student.operands[site, role].spec
        assert parameters_from_range(*ranges.of(site, role, step), spec)[0] == scale.item()
    assert trained.ranges(DDIM(tiny_model.schedule, 3)).source["training"] == ranges.source["training"]


def test_derived__leaves_the_model_as_it_was_and_names_its_origin(tiny_model, images, brief, one_thread) -> None:
    before = {name: value.clone() for name, value in tiny_model.module.state_dict().items()}
    trained = fine_tune(tiny_model, SCHEME, LSQ(), brief, data=images)
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.module.state_dict().items())
    assert not any(p.requires_grad for p in tiny_model.module.parameters())
    assert trained.model.name.startswith("tiny+lsq-")
    assert trained.ranges().source["weights_digest"] == trained.model.weights_digest != tiny_model.weights_digest
    assert not torch.equal(trained.model.module.norm.weight, tiny_model.module.norm.weight)


def test_control__has_no_ranges_and_float_weights(tiny_model, images, brief, one_thread) -> None:
    trained = fine_tune(tiny_model, SCHEME, Control(), brief, data=images)
    assert not trained.learned
    with pytest.raises(BadInput, match="calibrate its model"):
        trained.ranges()
    assert len(trained.model.module.qkv.weight.unique()) > 100


class Transposed(torch.nn.Module):
    """A grouped transposed convolution, and one weight that two layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 2, stride=2)
        self.middle = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.up = torch.nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.last = torch.nn.Conv2d(6, 1, 1)

    def forward(self, x, timestep):
        return self.last(self.up(self.middle(self.middle(self.first(x)))))


def test_derived__has_transposed_and_shared_weights_on_their_grid(images, brief, one_thread) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Transposed().eval().requires_grad_(False)
    model = Model("transposed", 1, module, NoiseSchedule(), (1, 8, 8), "epsilon", "1" * 64)
    trained = fine_tune(model, SCHEME, LSQ(weights=WeightScales.SCHEME), brief, data=TrainingSet(images.images))
    student, derived = trained.student, trained.model.module
    sites = {str(site): quantizer for site, quantizer in student.weights.items()}
    assert sites["middle:conv2d"] is sites["middle:conv2d#1"]
    up = derived.up.weight.reshape(2, 2, 3, 2, 2).transpose(1, 2).reshape(6, 2, 2, 2)
    for weight, site in ((derived.middle.weight, "middle:conv2d"), (up, "up:conv_transpose2d")):
        for channel, scale in zip(weight, sites[site].scale().flatten(), strict=True):
            codes = channel / scale
            assert (codes - codes.round()).abs().max() < 1e-5
            assert 1 <= codes.abs().max().round() <= 7


def test_student__of_nipq_trains_on_noise_and_is_judged_on_codes(tiny_model, images) -> None:
    x, timestep = torch.from_numpy(images.images[:4]), torch.tensor([3, 300, 600, 900])
    noisy, rounded = Student(tiny_model, SCHEME, NIPQ()), Student(tiny_model, SCHEME, LSQ())
    for student in (noisy, rounded):
        student.begin(x, timestep, {}, torch.Generator())
    outputs = [noisy.predict(x, timestep, {}, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert torch.equal(noisy.judge(x, timestep, {}), rounded.judge(x, timestep, {}))


class Dropping(torch.nn.Module):
    """Half of the features are lost where dropout is on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.Conv2d(8, 1, 1)
        self.norm, self.dropout = torch.nn.BatchNorm2d(8), torch.nn.Dropout(0.0)

    def forward(self, x, timestep):
        return self.last(self.dropout(self.norm(self.first(x))))


@pytest.mark.parametrize("method", [LSQ(), Control()])
def test_student__drops_features_in_training_alone_and_keeps_statistics(method, images) -> None:
    model = Model("dropping", 1, Dropping().eval().requires_grad_(False), NoiseSchedule(), (1, 8, 8), "epsilon", "")
    student = Student(model, SCHEME, method, dropout=0.5)
    x, timestep = torch.from_numpy(images.images[:4]), torch.tensor([3, 300, 600, 900])
    student.begin(x, timestep, {}, torch.Generator())
    judged, first, second = (student.judge(x, timestep, {}), *(student.predict(x, timestep, {}, None) for _ in "12"))
    assert not torch.equal(first, second)
    assert torch.equal(judged, student.judge(x, timestep, {}))
    assert student.module.norm.num_batches_tracked == 0
    assert model.module.dropout.p == 0.0


@pytest.mark.parametrize(
    ("scheme", "message"),
    [("w4a4-dyn", "static one"), ("w8a8o8", "no learned range"), ("mxfp4", "no learned scale")],
)
def test_student__refuses_schemes_without_learned_scales(tiny_model, scheme, message) -> None:
    with pytest.raises(BadInput, match=message):
        Student(tiny_model, Scheme.parse(scheme), LSQ())
    steps = Scheme(rules=(Rule(("@qk",), Settings(activation_bits=4), steps=(0, 3)),))
    with pytest.raises(BadInput, match="no steps"):
        Student(tiny_model, steps, LSQ())


def test_scaled_format__is_what_formats_gives(tiny_model, images, brief, one_thread) -> None:
    trained = fine_tune(tiny_model, SCHEME, LSQ(), brief, data=images)
    quantized = QuantizedModel(trained.model, SCHEME, trained.ranges())
    for (site, role), quantizer in trained.student.activations.items():
        scale, zero = quantizer.parameters_at(torch.zeros(1))
        expected = ScaledFormat(quantizer.spec, np.float32(scale.item()), round(zero.item()))
        assert quantized.formats(site)[role] == expected
