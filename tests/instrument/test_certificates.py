"""A certified register loses nothing, whatever comes in; one of two bits less loses something of the worst input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import simulator
from samplers import DDIM
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.quantizer import quantize_to_range
from simulator.instrument.certificates import certificates
from simulator.instrument.contractions import Linear
from simulator.instrument.scheme import Scheme, Settings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def ranges(tiny_model):
    return simulator.calibrate_ranges(tiny_model, DDIM(tiny_model.schedule, 3), samples=4, outputs=True)


def narrowed(scheme: str, bits: int) -> Scheme:
    register = Accumulator(bits, Overflow.SATURATE)
    parsed = Scheme.parse(scheme)
    return replace(parsed, settings=parsed.settings | Settings(accumulator=register), name="-")


@pytest.mark.parametrize("scheme", ["w8a8", "w4g4a8", "w4g4a6"])
def test_certificates__name_the_register_that_the_worst_input_of_a_linear_site_needs(
    tiny_model, ranges, scheme: str
) -> None:
    network = simulator.QuantizedModel(tiny_model, Scheme.parse(scheme), ranges)
    found = certificates(network)
    assert list(found) == [facts.key for facts in network.sites]
    site = next(key for key in found if key.module == "qkv")
    treatment, format = network.plan.at(site), network.formats(site)["input"]
    weight = tiny_model.module.qkv.weight
    codes = quantize_to_range(weight.numpy(), treatment.weight).codes.astype(np.int64)
    size = treatment.weight.granularity.group_size(1) or codes.shape[1]
    sums = [np.abs(codes[:, k : k + size]).sum(axis=1).max() for k in range(0, codes.shape[1], size)]
    assert found[site].bound == max(sums) * format.largest

    group = slice(int(np.argmax(sums)) * size, int(np.argmax(sums) + 1) * size)
    row = codes[np.abs(codes[:, group]).sum(axis=1).argmax(), group]
    chosen = row > 0 if row[row > 0].sum() >= -row[row < 0].sum() else row < 0  # at least half of the bound
    qmin, qmax = format.spec.format.qmin, format.spec.format.qmax
    farthest = max((qmin, qmax), key=lambda code: abs(code - format.zero_point))
    x = np.zeros(codes.shape[1], np.float32)
    x[group] = np.where(chosen, np.float32(farthest - format.zero_point) * format.scale, 0)
    worst = Linear(torch.from_numpy(x[None]), weight, None)
    for bits, loses in ((found[site].accumulator_bits, False), (found[site].accumulator_bits - 2, True)):
        register = simulator.QuantizedModel(tiny_model, narrowed(scheme, bits), ranges)
        assert (register.emulate(site, worst).overflowed > 0) == loses


def test_certificates__of_two_activations_count_their_depth(tiny_model, ranges) -> None:
    network = simulator.QuantizedModel(tiny_model, Scheme.parse("w8a8"), ranges)
    site = next(key for key in certificates(network) if key.operation == "qk")
    query, key = (network.formats(site)[role].largest for role in ("query", "key"))
    assert certificates(network)[site].bound == 6 * query * key  # heads of 6 features


def test_certificates__hold_the_bias_where_the_register_starts_at_it(tiny_model, ranges) -> None:
    plain, requantized = (
        certificates(simulator.QuantizedModel(tiny_model, Scheme.parse(s), ranges)) for s in ("w8a8", "w8a8o8")
    )
    grouped = certificates(simulator.QuantizedModel(tiny_model, Scheme.parse("w8g4a8o8"), ranges))
    ungrouped = certificates(simulator.QuantizedModel(tiny_model, Scheme.parse("w8g4a8"), ranges))
    for site in plain:
        if site.operation in ("qk", "pv"):
            assert requantized[site] == plain[site]
        else:
            assert requantized[site].bound > plain[site].bound
    inner = next(key for key in plain if key.module == "qkv")
    assert grouped[inner] == ungrouped[inner], "with groups along k the bias is added in float"


def test_certificates__leave_out_what_has_no_register(tiny_model, ranges) -> None:
    for scheme in ("mxint8", "w8a8o8@onnxruntime"):
        network = simulator.QuantizedModel(tiny_model, Scheme.parse(scheme), ranges)
        ours = [facts.key for facts in network.sites if network.plan.at(facts.key).weight and facts.edge]
        assert list(certificates(network)) == (ours if scheme == "mxint8" else [])
