"""Claim: a network with given bounds of weights is, bit for bit and on every rung, one whose weights were clamped to
them, and nothing of it goes unsaid: keys, counts, shapes and sites."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from deployed_models import deployed
from torch import nn
from torch_modules import Ignoring, as_model

import simulator
from samplers import DDIM
from samplers.errors import BadInput
from simulator.calibration.collector import Collector
from simulator.calibration.ranges import Ranges
from simulator.instrument.certificates import certificates
from simulator.instrument.contractions import MatMul
from simulator.instrument.emulation import array
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.rungs import Rung
from simulator.instrument.scheme import Rule, Scheme, Settings, WeightGranularity
from simulator.instrument.sites import SiteKey
from simulator.instrument.weight_layout import WeightLayout
from simulator.instrument.weighted_sites import clipped_weights, visit_weights
from simulator.onnx_export.site import deployed_sites

pytestmark = pytest.mark.usefixtures("one_thread")

T = torch.tensor([3, 700])
ASYMMETRIC = Settings(weight_bits=4, weight_symmetric=False)
SCHEMES = {
    "w4a8": Scheme.parse("w4a8"),
    "w4g2a8o8-acc18": Scheme.parse("w4g2a8o8-acc18"),
    "w8a8o8@onnxruntime": Scheme.parse("w8a8o8@onnxruntime"),
    "asymmetric": Scheme(ASYMMETRIC),
    "asymmetric, groups": Scheme(ASYMMETRIC | Settings(group_size=2)),
    "per tensor": Scheme(Settings(weight_bits=5, output_bits=8, weight_granularity=WeightGranularity.TENSOR)),
}


class Mixed(nn.Sequential):
    """A plain, a transposed grouped and a depthwise convolution, a linear layer and a grouped convolution."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(2, 4, 3, padding=1), nn.ConvTranspose2d(4, 4, 2, 2, groups=2),
            nn.Conv2d(4, 4, 3, 2, 1, groups=4), nn.SiLU(), nn.Linear(6, 6), nn.Conv2d(4, 2, 3, padding=1, groups=2),
        )  # fmt: skip


@pytest.fixture(scope="module")
def mixed():
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model, x = as_model(Ignoring(Mixed()), (2, 6, 6)), torch.randn(2, 2, 6, 6)
    observer = Collector(outputs=True)
    forward(model.module, observer, x, T)
    return model, x, observer.ranges({})


def halved(network):
    """Bounds within each weight's own extremes, as exact float32 numbers, by site."""
    found = {}

    def look(site, contraction):
        spec = network.treatment(site).weight
        if spec is not None:
            weight = WeightLayout.of(contraction).outputs_first(array(contraction.weight))
            low = np.minimum(spec.granularity.reduce(weight, np.minimum), 0) / 2
            high = np.maximum(spec.granularity.reduce(weight, np.maximum), 0) / 4
            if spec.symmetric:
                high = np.maximum(-low, high)
                if not spec.format.narrow:  # one code more below zero: there a clamped weight would be another
                    high = -spec.granularity.reduce(weight, np.minimum)
                low = -high
            found[site] = low.astype(np.float64), high.astype(np.float64)

    visit_weights(network.model, look, allow_float=network.allow_float)
    return found


def clamped(network, bounds):
    """The model with its weights cut off at the bounds."""
    module = copy.deepcopy(network.model.module)
    layers = {}

    def look(site, contraction):
        if site in bounds:
            spec, layout = network.treatment(site).weight, WeightLayout.of(contraction)
            weight = layout.outputs_first(array(contraction.weight))
            low, high = (spec.granularity.expand(bound, weight.shape).astype(np.float32) for bound in bounds[site])
            layers[site.module] = layout.outputs_first(np.clip(weight, low, high))

    visit_weights(network.model, look, allow_float=network.allow_float)
    for name, weight in layers.items():
        module.get_submodule(name).weight.copy_(torch.from_numpy(weight))
    return replace(network.model, module=module)


@pytest.mark.parametrize("name", SCHEMES)
def test_given_bounds__are_a_clamped_weights_own_on_every_rung(mixed, name):
    model, x, ranges = mixed
    allow_float = ("body.1",) if "@" in name else ()
    own = QuantizedModel(model, SCHEMES[name], ranges, allow_float=allow_float)
    bounds = halved(own)
    assert len(bounds) == 5 - len(allow_float)
    network = QuantizedModel(model, SCHEMES[name], ranges.with_weights(bounds), allow_float=allow_float)
    other = QuantizedModel(clamped(own, bounds), SCHEMES[name], ranges, allow_float=allow_float)
    for rung in Rung:
        if rung is Rung.ACTIVATIONS:
            assert torch.equal(network.on(rung)(x, T), own.on(rung)(x, T))
            continue
        found = network.on(rung)(x, T)
        assert torch.equal(found, other.on(rung)(x, T)), rung
        assert not torch.equal(found, own.on(rung)(x, T)), rung
    if "@" not in name:
        assert certificates(network) == certificates(other) != certificates(own)


@pytest.mark.parametrize("name", SCHEMES)
def test_given_bounds__that_are_the_extremes_change_nothing(mixed, name):
    model, x, ranges = mixed
    allow_float = ("body.1",) if "@" in name else ()
    bounds = simulator.weight_ranges(model, SCHEMES[name], simulator.MinMax(), allow_float=allow_float)
    own, network = (
        QuantizedModel(model, SCHEMES[name], each, allow_float=allow_float)
        for each in (ranges, ranges.with_weights(bounds))
    )
    assert torch.equal(own(x, T), network(x, T))


def test_given_bounds__of_some_sites_leave_the_others(mixed):
    model, x, ranges = mixed
    own = QuantizedModel(model, SCHEMES["w4a8"], ranges)
    site = next(key for key in halved(own) if key.module == "body.1")
    some = {site: halved(own)[site]}
    network, other = (
        QuantizedModel(model, SCHEMES["w4a8"], ranges.with_weights(some)),
        QuantizedModel(clamped(own, some), SCHEMES["w4a8"], ranges),
    )
    assert torch.equal(network(x, T), other(x, T))
    lost = clipped_weights(network)
    assert [key for key, count in lost.items() if count] == [site]
    weight = model.module.body[1].weight.numpy()  # groups of two channels, each with two outputs on axis 1
    high = some[site][1].reshape(2, 1, 2, 1, 1)
    codes = np.rint(weight.reshape(2, 2, 2, 2, 2) / (high / 7).astype(np.float32))
    assert lost[site] == np.count_nonzero(np.abs(codes) > 7) > 0


def test_deployed_sites__take_given_bounds(tiny_model):
    own = deployed(tiny_model)
    bounds = halved(own)
    network = QuantizedModel(tiny_model, own.scheme, own.ranges.with_weights(bounds))
    cut = QuantizedModel(clamped(own, bounds), own.scheme, own.ranges)
    plain, found, want = (deployed_sites(each) for each in (own, network, cut))
    for key, site in want.items():
        if isinstance(site.contraction, MatMul):
            continue
        for name in ("codes", "scale"):
            values = [getattr(sites[key].weight, name) for sites in (found, want, plain)]
            assert np.array_equal(values[0], values[1])
            assert not np.array_equal(values[0], values[2])
        assert np.array_equal(found[key].bias, site.bias)


def test_prepared_weights__are_known_by_their_bounds(mixed):
    model, x, ranges = mixed
    own = QuantizedModel(model, SCHEMES["w4a8"], ranges)
    network = QuantizedModel(model, SCHEMES["w4a8"], ranges.with_weights(halved(own)))
    network._weights = own._weights  # as if one cache served both
    want = own(x, T)
    assert not torch.equal(network(x, T), want)
    assert torch.equal(own(x, T), want)


def test_run__names_the_bounds_in_its_key_and_counts_what_they_cut_off(tiny_model):
    sampler = DDIM(tiny_model.schedule, 2)
    ranges = simulator.calibrate_ranges(tiny_model, sampler, samples=4, steps=simulator.StepSets.each(2))
    scheme = Scheme(Settings(weight_bits=4), (Rule(("down",), Settings(weight_bits=8), (1, 2)),), name="stepped")
    plain = QuantizedModel(tiny_model, Scheme.parse("w4a8"), ranges)
    bounds = simulator.weight_ranges(tiny_model, plain.scheme, simulator.LpSearch(2.0, 20))
    joined = ranges.with_weights(bounds, {"observer": simulator.LpSearch(2.0, 20).config()})
    network = QuantizedModel(tiny_model, plain.scheme, joined)
    one, other = (simulator.run(simulator.Arm(each), sampler, samples=2) for each in (plain, network))
    assert one.attrs["key"] != other.attrs["key"]
    assert "site_weight_clipped" not in one
    counts = dict(zip(other.site.values, other.site_weight_clipped.values, strict=True))
    assert counts == {str(facts.key): clipped_weights(network).get(facts.key, 0) for facts in network.sites}
    assert sum(counts.values()) > 0
    stepped = QuantizedModel(tiny_model, scheme, joined)
    by_step = simulator.run(simulator.Arm(stepped), sampler, samples=2).site_step_weight_clipped
    want = [clipped_weights(stepped, step=step) for step in range(2)]
    assert by_step.values.tolist() == [[each.get(facts.key, 0) for facts in network.sites] for each in want]
    assert want[0] != want[1]
    assert clipped_weights(network.on(Rung.ACTIVATIONS)) == {}


def test_operand_errors__see_what_given_bounds_cut_off(tiny_model):
    sampler = DDIM(tiny_model.schedule, 2)
    ranges = simulator.calibrate_ranges(tiny_model, sampler, samples=2)
    own = QuantizedModel(tiny_model, Scheme.parse("w8a8"), ranges)
    network = QuantizedModel(tiny_model, own.scheme, ranges.with_weights(halved(own)))
    plain, cut = (simulator.observe_operands(each, sampler, samples=2) for each in (own, network))
    lost = clipped_weights(network)
    for facts in network.sites:
        if facts.weight_shape is None:
            continue
        shares = [each.operand_clipped_share.sel(site=str(facts.key), operand="right").values for each in (plain, cut)]
        assert np.all(shares[0] == 0)
        assert np.allclose(shares[1], lost[facts.key] / np.prod(facts.weight_shape))
        assert lost[facts.key] > 0


def wrong(network, bounds):
    """(bounds, scheme, part of the message) of what is refused."""
    linear = next(site for site in bounds if site.module == "qkv")
    attention = next(facts.key for facts in network.sites if facts.key.operation == "qk")
    one = bounds[linear]
    return {
        "unknown site": ({SiteKey("nowhere", "linear"): one}, "w4a8", "nowhere:linear"),
        "two activations": ({attention: one}, "w4a8", str(attention)),
        "per tensor": ({linear: tuple(b[:1] for b in one)}, "w4a8", "qkv:linear"),
        "flat": ({linear: tuple(b[:, 0] for b in one)}, "w4a8", "qkv:linear"),
        "another granularity": ({linear: one}, "w4g4a8", "qkv:linear"),
        "block format": ({linear: one}, "mxfp4", "qkv:linear"),
    }


@pytest.mark.parametrize(
    "case", ["unknown site", "two activations", "per tensor", "flat", "another granularity", "block format"]
)
def test_network__names_the_site_whose_bounds_it_cannot_use(tiny_model, case):
    ranges = simulator.calibrate_ranges(tiny_model, DDIM(tiny_model.schedule, 2), samples=2)
    own = QuantizedModel(tiny_model, Scheme.parse("w4a8"), ranges)
    bounds, scheme, site = wrong(own, halved(own))[case]
    with pytest.raises(BadInput, match=site):
        QuantizedModel(tiny_model, Scheme.parse(scheme), ranges.with_weights(bounds))


def test_network__ignores_bounds_of_a_site_in_float(mixed):
    model, x, ranges = mixed
    bounds = halved(QuantizedModel(model, SCHEMES["w4a8"], ranges))
    scheme = Scheme(Settings(keep_float=True))
    network = QuantizedModel(model, scheme, Ranges({}, {}).with_weights(bounds))
    assert torch.equal(network(x, T), QuantizedModel(model, scheme, Ranges({}, {}))(x, T))
