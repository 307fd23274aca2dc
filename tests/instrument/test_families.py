"""Claim: networks of ten families pass the audit whole: same output, every multiply-accumulate at a site."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")

from aten_macs import aten_macs
from engine_calls import by_engine
from families import FAMILIES, make
from torch_modules import as_model, keep_float

from simulator.calibration.collector import Collector
from simulator.instrument.coverage import cover
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme

pytestmark = pytest.mark.usefixtures("one_thread")

MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
T = torch.tensor([3, 7])
ATTENDS = {name for name in FAMILIES if name != "UNet3D"}
"""Families whose fused attention is taken apart, which moves the last bits."""


def sample(name: str) -> torch.Tensor:
    return torch.randn(2, *FAMILIES[name].shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAMILIES)
def test_family__keeps_its_output_in_an_audited_pass(name, mode):
    module, x, call = make(name), sample(name), FAMILIES[name].call
    with MODES[mode]():
        want, got = call(module, x, T), forward(module, keep_float, x, T, call=call)
    assert got.shape == want.shape
    assert torch.equal(got, want) or name in ATTENDS
    assert torch.allclose(got, want, rtol=0, atol=4e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_family__has_every_multiply_accumulate_at_a_site(name):
    module, x, call = make(name), sample(name), FAMILIES[name].call
    coverage = cover(module, x, T, call=call)
    assert coverage.complete
    assert len({entry.site for entry in coverage.entries}) == len(coverage.entries) == FAMILIES[name].sites
    assert coverage.macs == aten_macs(module, x, T, call=call) > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_family__runs_every_site_in_integers_with_the_engines_bits(name):
    family = FAMILIES[name]
    module, x = make(name), sample(name)
    model = as_model(module, family.shape)
    model = type(model)(**{**model.__dict__, "call": family.call})
    observer = Collector()
    forward(module, observer, x, T, call=family.call)
    forward(module, observer, torch.zeros_like(x), 0 * T, call=family.call)
    network = QuantizedModel(model, Scheme.parse("w8a8"), observer.ranges({}))
    seen = []
    emulate = network._emulate

    def watched(site, contraction):
        seen.append((site, contraction, *emulate(site, contraction)))
        return seen[-1][2:]

    network._emulate = watched
    output = network(x, T)
    assert len(seen) == family.sites
    for site, contraction, found, _ in seen:
        spec = network.scheme.weight_spec(edge=network._facts[site].edge)
        want = by_engine(contraction, dict(network.formats(site)), spec)
        assert torch.equal(found, torch.from_numpy(want.copy())), site
    want = family.call(module, x, T)
    assert (output - want).square().mean() < 0.05 * want.square().mean()
