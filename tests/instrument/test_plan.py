"""Claim: patterns name exactly the documented sites, the last rule wins, steps select; what cannot be is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_modules import Ignoring, as_model

from samplers.ddim import DDIM
from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerGroup
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.rounding import Rounding
from simulator.calibration.collector import Collector
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.forward import forward
from simulator.instrument.plan import Plan
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.scheme.patterns import select
from simulator.instrument.survey import survey
from simulator.models.registry import load

T = torch.zeros(2, dtype=torch.long)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(8, 8) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(8, 8), nn.Dropout()])

    def forward(self, x):
        heads = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v))
        out = nn.functional.scaled_dot_product_attention(*heads)
        return self.to_out[1](self.to_out[0](out.transpose(1, 2).flatten(2)))


class Net(nn.Module):
    """An embedder that runs twice, a first layer, two attention blocks, a last layer."""

    def __init__(self):
        super().__init__()
        self.embed, self.first, self.last = nn.Linear(1, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.blocks = nn.ModuleList([nn.ModuleDict({"attn": Attention()}) for _ in range(2)])

    def forward(self, x, timestep):
        time = self.embed(timestep[:, None].float()) + self.embed(0.5 * timestep[:, None].float())
        x = self.first(x) + time[:, None]
        for block in self.blocks:
            x = x + block["attn"](x)
        return self.last(x)


@pytest.fixture(scope="module")
def sites():
    torch.manual_seed(0)
    return survey(as_model(Net(), (5, 8)))


PROJECTIONS = [".to_q:linear", ".to_k:linear", ".to_v:linear", ".to_out.0:linear"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("@first", ["first:linear"]),
        ("@last", ["last:linear"]),
        ("@qk", ["blocks.0.attn:qk", "blocks.1.attn:qk"]),
        ("@pv", ["blocks.0.attn:pv", "blocks.1.attn:pv"]),
        ("@query", ["blocks.0.attn.to_q:linear", "blocks.1.attn.to_q:linear"]),
        ("@value", ["blocks.0.attn.to_v:linear", "blocks.1.attn.to_v:linear"]),
        ("@output", ["blocks.0.attn.to_out.0:linear", "blocks.1.attn.to_out.0:linear"]),
        ("embed:linear", ["embed:linear", "embed:linear#1"]),
        ("embed:linear#1", ["embed:linear#1"]),
        ("embed", ["embed:linear", "embed:linear#1"]),
        ("blocks.1", [f"blocks.1.attn{name}" for name in (*PROJECTIONS, ":qk", ":pv")]),
        ("*:pv", ["blocks.0.attn:pv", "blocks.1.attn:pv"]),
        ("*.to_[qk]:linear", [f"blocks.{i}.attn.to_{c}:linear" for i in range(2) for c in "qk"]),
    ],
)  # fmt: skip
def test_pattern__names(sites, pattern, names):
    assert {str(key) for key in select(pattern, sites)} == set(names)


@pytest.mark.parametrize(("model", "count"), [("digits-unet", 1), ("digits-dit", 4), ("digits-latent", 1)])
def test_pattern__names_every_projection_of_the_shipped_models(model, count):
    sites = survey(load(model))
    found = {name: [str(key) for key in select(f"@{name}", sites)] for name in ("query", "key", "value", "output")}
    assert all(len(keys) == count and all(name in key for key in keys) for name, keys in found.items())


def test_pattern__of_attention_and_weights_share_the_sites(sites):
    attention, weights = select("@attention", sites), select("@weights", sites)
    assert attention == select("@qk", sites) | select("@pv", sites)
    assert attention | weights == {facts.key for facts in sites}
    assert not attention & weights


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("blocks.2", "blocks.1"), ("frist:linear", "first:linear"), ("@querry", "@query"), ("@keys", "@key")],
)
def test_pattern__that_names_nothing_is_refused_with_the_nearest_names(sites, pattern, near):
    with pytest.raises(BadInput) as caught:
        Plan(Scheme(rules=(Rule((pattern,), Settings(weight_bits=4)),)), sites)
    assert near in caught.value.fix


def test_pattern__of_a_kind_of_site_that_the_network_lacks_is_refused():
    sites = survey(as_model(Ignoring(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))), (5, 8)))
    with pytest.raises(BadInput, match="name a site"):
        Plan(Scheme.parse("w8a8-attn4"), sites)


def by_name(plan, step=None):
    return {str(facts.key): plan.at(facts.key, step) for facts in plan._facts.values()}


def test_plan__of_a_short_string_is_what_it_documents(sites):
    found = by_name(Plan(Scheme.parse("w4g4a6-attn5-half-away"), sites))
    plain = found["blocks.0.attn.to_q:linear"]
    away = Rounding.HALF_AWAY
    assert plain.weight == QuantSpec(IntFormat(4, narrow=True), PerGroup(1, 4, (0,)), symmetric=True, rounding=away)
    assert plain.operands["input"].spec == QuantSpec(IntFormat(6, signed=False), rounding=away)
    for edge in ("first:linear", "last:linear"):
        assert found[edge].weight == QuantSpec(IntFormat(8, narrow=True), PerAxis((0,)), symmetric=True, rounding=away)
        assert found[edge].activation_bits == 8
    assert {role: o.spec.format.bits for role, o in found["blocks.1.attn:qk"].operands.items()} == {
        "query": 5,
        "key": 5,
    }
    assert found["blocks.1.attn:pv"].describe() == "a5 a5"
    assert plain.describe() == "a6 w4 g4"


def test_plan__later_rules_win_field_by_field_at_their_steps(sites):
    scheme = Scheme(
        Settings(weight_bits=4, activation_bits=8),
        (
            Rule(("blocks",), Settings(weight_bits=5)),
            Rule(("blocks.0.attn:qk",), Settings(activation_bits=6, key_bits=3), (2, 4)),
            Rule(("blocks.*:qk",), Settings(query_bits=7)),
            Rule(("embed",), Settings(keep_float=True), (0, 1)),
        ),
    )
    plan = Plan(scheme, sites)
    qk = next(facts.key for facts in sites if str(facts.key) == "blocks.0.attn:qk")
    bits = [{role: o.spec.format.bits for role, o in plan.at(qk, step).operands.items()} for step in range(5)]
    assert bits == [{"query": 7, "key": 8}] * 2 + [{"query": 7, "key": 3}] * 2 + [{"query": 7, "key": 8}]
    assert [by_name(plan, step)["embed:linear#1"].in_float for step in range(2)] == [True, False]
    assert by_name(plan, 0)["blocks.1.attn.to_v:linear"].weight_bits == 5
    assert by_name(plan, 0)["first:linear"].weight_bits == 4
    with pytest.raises(BadInput, match="needs the step"):
        plan.at(qk)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ("w8a8@torch-fbgemm", "kernel for every site"),
        ("w4a8@onnxruntime", "weights asked for"),
        ("w8a6@onnxruntime", "activations asked for"),
        ("w8a8o16@onnxruntime", "outputs asked for"),
        ("w8a8-dynrow@onnxruntime", "activations asked for"),
        ("w4a8@w4a16-group128", "activations are integers"),
        ("w8a8o16-dynrow", "one activation scale"),
    ],
)
def test_plan__refuses_what_the_machine_does_not_have_and_names_the_site(sites, scheme, message):
    with pytest.raises(BadInput, match=message) as caught:
        Plan(Scheme.parse(scheme), sites)
    assert any(str(facts.key) in str(caught.value) for facts in sites)


def test_quantized_model__of_steps_uses_each_steps_settings(sites):
    torch.manual_seed(0)
    model = as_model(Net(), (5, 8))
    x, rule = torch.randn(2, 5, 8), Rule(("blocks",), Settings(weight_bits=2), (1, 2))
    observer = Collector()
    forward(model.module, observer, x, T)
    ranges = observer.ranges({})
    stepped = QuantizedModel(model, Scheme(rules=(rule,)), ranges)
    outputs = [stepped(x, T, step=step) for step in range(3)]
    eight = QuantizedModel(model, Scheme(), ranges)(x, T)
    two = QuantizedModel(model, Scheme(rules=(Rule(("blocks",), Settings(weight_bits=2)),)), ranges)(x, T)
    assert torch.equal(outputs[0], eight)
    assert torch.equal(outputs[1], two)
    assert torch.equal(outputs[2], eight)
    assert not torch.equal(two, eight)
    with pytest.raises(BadInput, match="needs the step"):
        stepped(x, T)


def test_quantized_model__dynamic_operands_need_no_ranges_and_outputs_need_theirs():
    torch.manual_seed(0)
    model = as_model(Net(), (5, 8))
    x = torch.randn(2, 5, 8)
    for scheme in ("w8a8-dyn", "w8a8-dynrow", "mxint8-dyn"):
        rules = (Rule(("@first",), Settings(weight_bits=8)),)
        base = Scheme.parse(scheme)
        found = QuantizedModel(model, Scheme(base.settings, rules), Ranges({}, {}))(x, T)
        want = model.module(x, T)
        assert (found - want).square().mean() < 1e-3 * want.square().mean()
    ranges = calibrate_ranges(model, DDIM(model.schedule, 3), samples=2)
    with pytest.raises(BadInput, match="calibrated range"):
        QuantizedModel(model, Scheme.parse("w8a8o8"), ranges)


def test_quantized_model__rounds_every_intermediate_and_keeps_modules_as_they_are():
    torch.manual_seed(0)
    model = as_model(Net(), (5, 8))
    before = [p.clone() for p in model.module.parameters()]
    ranges = calibrate_ranges(model, DDIM(model.schedule, 3), samples=2)
    x = torch.randn(2, 5, 8)
    seen = []
    network = QuantizedModel(model, Scheme.parse("w8a8-bf16"), ranges)
    output = network(x, T, lambda site, found: seen.append(found.output))
    assert all(torch.equal(t, t.to(torch.bfloat16).float()) for t in (*seen, output))
    assert all(torch.equal(p, q) for p, q in zip(model.module.parameters(), before, strict=True))
    assert not torch.equal(output, QuantizedModel(model, Scheme.parse("w8a8"), ranges)(x, T))


def test_quantized_model__counts_sites_kept_in_float_as_float():
    torch.manual_seed(0)
    model = as_model(Net(), (5, 8))
    ranges = calibrate_ranges(model, DDIM(model.schedule, 3), samples=2)
    scheme = Scheme(rules=(Rule(("embed",), Settings(keep_float=True)),))
    coverage = QuantizedModel(model, scheme, ranges).coverage(torch.randn(2, 5, 8), T)
    assert not coverage.complete
    assert coverage.float_macs == 2 * 2 * 8
    assert [entry.how for entry in coverage.entries][:2] == ["float32", "float32"]


def test_quantized_model__uses_the_ranges_of_each_step():
    torch.manual_seed(0)
    model = as_model(Net(), (5, 8))
    sampler, x = DDIM(model.schedule, 3), torch.randn(2, 5, 8)
    each = calibrate_ranges(model, sampler, samples=2, steps=StepSets.each(3))
    stepped = QuantizedModel(model, Scheme(), each)
    for step in range(3):
        alone = calibrate_ranges(model, sampler, samples=2, steps=StepSets.observed_at(step))
        assert torch.equal(stepped(x, T, step=step), QuantizedModel(model, Scheme(), alone)(x, T))
    scales = {float(stepped.formats(stepped.sites[-1].key, step)["input"].scale) for step in range(3)}
    assert len(scales) == 3
    with pytest.raises(BadInput, match="step"):
        stepped(x, T)
    with pytest.raises(BadInput, match="step"):
        stepped(x, T, step=3)


def test_network__takes_ranges_of_one_set_that_serves_named_steps(tiny_model):
    sampler = DDIM(tiny_model.schedule, 3)
    ranges = calibrate_ranges(tiny_model, sampler, samples=8, steps=StepSets.partition(3))
    network = QuantizedModel(tiny_model, Scheme.parse("w8a8"), ranges)
    x = torch.zeros(2, 1, 8, 8)
    assert network(x, torch.tensor([500, 500]), step=2).shape == x.shape
    with pytest.raises(BadInput, match="one of the step sets"):
        network(x, torch.tensor([500, 500]), step=3)
