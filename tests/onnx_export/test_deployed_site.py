"""Claim: a deployed site goes from codes to codes by ONNX Runtime's formula, and what has no such site is refused.

The int64 form here is numpy only, from the documented rules; the runtime itself is compared in ``tests/peers``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from deployed_models import deployed, deployed_module
from torch import nn
from torch_modules import Calls

from samplers.ddim import DDIM
from samplers.errors import BadInput
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.contractions import Conv, MatMul
from simulator.instrument.plan import Plan
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.onnx_export.codes import operand_codes, site_codes
from simulator.onnx_export.network import run_deployed
from simulator.onnx_export.site import deployed_sites, require_byte_plan

pytestmark = pytest.mark.usefixtures("one_thread")

f32 = np.float32


@pytest.fixture(scope="module")
def network(tiny_model):
    return deployed(tiny_model)


@pytest.fixture(scope="module")
def sites(network):
    return deployed_sites(network)


def requantized(acc, x_scale, w_scale, output):
    multiplier = (x_scale * w_scale / output.scale).astype(f32)
    return np.clip(np.rint(acc.astype(f32) * multiplier) + output.zero_point, 0, 255).astype(np.uint8)


def int64_form(site, *operands):
    """Codes by definition, the convolution through torch's float64, where these sums are exact."""
    hows = list(site.operands.values())
    steps = [codes.astype(np.int64) - how.zero_point for codes, how in zip(operands, hows, strict=True)]
    if isinstance(site.contraction, MatMul):
        acc = steps[0] @ steps[1].swapaxes(-1, -2)
        return requantized(acc, hows[0].scale, hows[1].scale, site.output)
    scale, bias = site.weight.scale.reshape(-1), site.bias.astype(np.int64)
    if isinstance(site.contraction, Conv):
        g = site.contraction.geometry
        x, w = (torch.from_numpy(v.astype(np.float64)) for v in (steps[0], site.weight.codes))
        acc = F.conv2d(x, w, None, g.stride, g.padding[0][0], g.dilation, g.groups).numpy()
        channel = (-1, 1, 1)
        return requantized(acc + bias.reshape(channel), hows[0].scale, scale.reshape(channel), site.output)
    acc = steps[0] @ site.weight.codes.astype(np.int64).T + bias
    return requantized(acc, hows[0].scale, scale, site.output)


def test_site_codes__are_those_of_the_int64_form_at_every_site(network, sites):
    seen = {}
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 1, 8, 8)).astype(f32))

    def watch(key, contraction, operands, output):
        floats = contraction.activations().values()
        for how, tensor, codes in zip(sites[key].operands.values(), floats, operands, strict=True):
            steps = np.rint(tensor.numpy() / how.scale) + how.zero_point
            assert np.array_equal(codes, np.clip(steps, 0, 255).astype(np.uint8)), key
        assert np.array_equal(output, int64_form(sites[key], *operands)), key
        assert len(np.unique(output)) > 12, key
        seen[key] = output

    result = run_deployed(network, sites, x, torch.tensor([1, 500, 999]), watch)
    assert tuple(seen) == tuple(facts.key for facts in network.sites)
    last = sites[network.sites[-1].key]
    codes = seen[last.key].astype(np.int32) - last.output.zero_point
    assert np.array_equal(result.numpy(), codes.astype(f32) * last.output.scale)


def test_deployed_site__has_the_schemes_operands_and_weight_codes(network, sites):
    for facts in network.sites:
        site = sites[facts.key]
        assert dict(site.operands) == dict(network.formats(facts.key))
        if site.weight is None:
            continue
        w = site.contraction.weight.numpy().astype(np.float64)
        scale = (np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True) / 127).astype(f32)
        assert np.array_equal(site.weight.scale, scale)
        assert np.array_equal(site.weight.codes, np.rint(w.astype(f32) / scale))
        unit = np.float64(site.operands["input"].scale) * scale.reshape(-1).astype(np.float64)
        assert np.array_equal(site.bias, np.rint(site.contraction.bias.numpy() / unit))


def test_softmax_outputs__have_their_fixed_format(sites):
    (site,) = (site for key, site in sites.items() if key.operation == "pv")
    how = site.operands["probability"]
    assert (how.scale, how.zero_point) == (f32(1 / 255), 0)


def test_network__is_near_the_float_one(network, sites):
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    t = torch.full((4,), 600)
    ours, plain = run_deployed(network, sites, x, t), network.model.module(x, t)
    assert (ours - plain).norm() < 0.25 * plain.norm()  # the calibrated trajectory of a random network is wide


@pytest.mark.parametrize("scheme", ["w4a8", "w8a4", "w8g4a8", "w8a8-half-up", "w8a8-dyn", "w8a8-acc20", "mxint8"])
def test_other_schemes__are_refused(network, scheme):
    with pytest.raises(BadInput, match="export w8a8"):
        require_byte_plan(Plan(Scheme.parse(scheme), network.sites))


def test_one_site_of_another_format__is_refused(network):
    key = network.sites[3].key
    other = Scheme(Settings(), (Rule((str(key),), Settings(activation_bits=6)),))
    with pytest.raises(BadInput, match=str(key)):
        deployed_sites(QuantizedModel(network.model, other, network.ranges))


def test_outputs__must_be_calibrated(tiny_model):
    ranges = calibrate_ranges(tiny_model, DDIM(tiny_model.schedule, 2), samples=2)
    with pytest.raises(BadInput, match=r"calibrated range, got none for embed\.0:linear output"):
        deployed_sites(QuantizedModel(tiny_model, Scheme.parse("w8a8"), ranges))


def test_a_transposed_convolution__is_refused_unless_it_stays_in_float():
    body = nn.Sequential(nn.Conv2d(2, 4, 2, stride=2), nn.ConvTranspose2d(4, 2, 2, stride=2))
    with pytest.raises(BadInput, match="transposed"):
        deployed_sites(deployed_module(body, (2, 8, 8)))
    kept = deployed_module(body, (2, 8, 8), allow_float=("body.1",))
    assert [str(key) for key in deployed_sites(kept)] == ["body.0:conv2d"]


def test_a_weight_or_bias_of_the_input__is_refused():
    w = torch.eye(6)[:, :, None, None] / 3

    def scaled_weight(x):
        return F.conv2d(x, w * (1 + x.mean()))

    def scaled_bias(x):
        return F.conv2d(x, w, x.mean() * torch.ones(6))

    for function in (scaled_weight, scaled_bias):
        with pytest.raises(BadInput, match="must not depend on the input"):
            deployed_sites(deployed_module(Calls(function), (6, 4, 4)))


def test_a_bias_beyond_int32__is_refused():
    body = nn.Conv2d(2, 2, 1)
    network = deployed_module(body, (2, 4, 4))
    body.weight.mul_(1e-12)
    with pytest.raises(BadInput, match="bias must fit int32"):
        deployed_sites(network)


def test_codes_of_another_dtype__are_refused(sites):
    site = next(iter(sites.values()))
    with pytest.raises(BadInput):
        site_codes(site, np.zeros((2, 8), np.int8))


def test_operand_codes__round_ties_to_even(sites):
    how = replace(next(iter(sites.values())).operands["input"], scale=f32(0.5), zero_point=7)
    x = np.array([0.25, 0.75, -0.25, 1e9, -1e9, np.inf], f32)
    assert operand_codes(how, x).tolist() == [7, 9, 7, 255, 0, 255]
