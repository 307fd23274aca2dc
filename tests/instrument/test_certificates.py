"""A site's certificate is the largest sum that its codes allow: some input reaches it, none passes it."""

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
def test_certificates__are_reached_by_the_worst_input_of_a_linear_site(tiny_model, ranges, scheme: str) -> None:
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

    group = int(np.argmax(sums))
    row = codes[:, group * size : (group + 1) * size]
    row = row[np.abs(row).sum(axis=1).argmax()]
    qmin, qmax = format.spec.format.qmin, format.spec.format.qmax
    far = qmax if qmax - format.zero_point >= format.zero_point - qmin else qmin
    x = np.full((1, codes.shape[1]), format.zero_point, np.int64)
    x[0, group * size : (group + 1) * size] = np.where(row != 0, far, format.zero_point)
    # one sign only: the worst sum of the positive weights and that of the negative ones bracket the bound
    positive, negative = ((row[sign] * (far - format.zero_point)).sum() for sign in (row > 0, row < 0))
    assert abs(positive) + abs(negative) == found[site].bound

    real = torch.from_numpy(((x - format.zero_point) * np.float64(format.scale)).astype(np.float32))
    enough = network.scheme.name, found[site].accumulator_bits
    safe = simulator.QuantizedModel(tiny_model, narrowed(*enough), ranges)
    assert safe.emulate(site, Linear(real, weight, None)).overflowed == 0


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
