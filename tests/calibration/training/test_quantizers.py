"""Claim: in eval mode a learned quantizer has the engine's values, and its parameters begin and move as stated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from samplers import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerGroup
from simulator.arithmetic.quantizer import QuantSpec, dequantize, quantize
from simulator.calibration.observers import MinMax
from simulator.calibration.training.methods import LSQ, NIPQ, PACT, Signed, WeightScales
from simulator.calibration.training.scales import RangeScales, TimeScale

SPEC = QuantSpec(IntFormat(4, signed=False))
VALUES = np.random.default_rng(0).normal(0.4, 1.0, (6, 50)).astype(np.float32)
METHODS = [LSQ(), LSQ(start=MinMax()), NIPQ(), PACT(), PACT(signed=Signed.SYMMETRIC)]
T = torch.tensor([0, 1, 499, 500, 998, 999])


def made(method, values=VALUES, spec=SPEC):
    return method.activation(values, spec, 1000, torch.Generator())


@pytest.mark.parametrize("method", METHODS, ids=lambda m: str(m.config()))
def test_activation__in_eval_mode_has_the_engines_values(method) -> None:
    quantizer = made(method).eval()
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.add_(0.137)
        scale, zero = quantizer.parameters_at(T)
        halves = (np.arange(-70, 70) / 2 * scale.item()).astype(np.float32).reshape(1, -1).repeat(6, 0)
        halves[1], halves[2] = np.nextafter(halves[0], np.float32(9)), np.nextafter(halves[0], np.float32(-9))
        found = quantizer(torch.from_numpy(halves), T)
    one = (1, 1)
    expected = quantize(halves, SPEC, scale.numpy().reshape(one), np.round(zero.numpy()).astype(np.int32).reshape(one))
    np.testing.assert_array_equal(found.numpy(), dequantize(expected))
    assert 0 < expected.clipped < halves.size


def test_nipq__rounds_in_eval_mode_and_not_in_training() -> None:
    quantizer, random = made(NIPQ()), torch.Generator().manual_seed(1)
    first, second = (quantizer(torch.from_numpy(VALUES), T, random) for _ in range(2))
    assert len(first.unique()) > 200
    assert not torch.equal(first, second)
    assert len(quantizer.eval()(torch.from_numpy(VALUES), T, random).unique()) <= 16
    assert torch.equal(quantizer(torch.from_numpy(VALUES), T), made(LSQ()).eval()(torch.from_numpy(VALUES), T))


def test_nipq__noise_is_uniform_over_one_step_around_the_value() -> None:
    random = torch.Generator().manual_seed(1)
    activation, x = made(NIPQ()), torch.full((6, 5000), 0.1)
    spec = QuantSpec(IntFormat(4, signed=True, narrow=True), PerAxis((0,)), symmetric=True)
    weight = NIPQ().weight(VALUES, spec)
    scale, wide = activation.parameters_at(T)[0], weight.scale()
    inside = torch.from_numpy(VALUES).clamp(-7 * wide, 7 * wide)
    parts = [weight(torch.from_numpy(VALUES), random) - inside for _ in range(100)]
    for added in ((activation(x, T, random) - x) / scale, torch.stack(parts) / wide):
        assert stats.kstest(added.detach().numpy().ravel(), stats.uniform(-0.5, 1).cdf).pvalue > 0.01


def test_lsq__begins_at_the_papers_scale_and_the_best_zero_point() -> None:
    scale, zero = made(LSQ()).parameters_at(T)
    assert scale.item() == np.float32(2 * np.abs(VALUES).mean(dtype=np.float64) / 15**0.5)
    errors = []
    for z in range(16):
        codes = quantize(VALUES, SPEC, np.full((1, 1), scale.item(), np.float32), np.full((1, 1), z, np.int32))
        errors.append(np.square(dequantize(codes) - VALUES).sum())
    assert round(zero.item()) == int(np.argmin(errors))
    assert made(LSQ(), np.zeros((6, 2), np.float32)).parameters_at(T)[0].item() == 1.0


def test_range_scales__are_of_equal_ranges_of_timesteps() -> None:
    quantizer = made(LSQ(scales=RangeScales(2)))
    with torch.no_grad():
        quantizer.scales.log += torch.tensor([0.0, np.log(2.0)])
    scale, _ = quantizer.parameters_at(T)
    assert (scale / scale[0]).round(decimals=5).tolist() == [1, 1, 1, 2, 2, 2]
    x = torch.from_numpy(VALUES)
    apart = [made(LSQ()), made(LSQ())]
    with torch.no_grad():
        apart[1].scales.log += np.log(2.0)
    expected = [each(x[rows], T[rows]) for each, rows in zip(apart, (slice(0, 3), slice(3, 6)), strict=True)]
    assert torch.equal(quantizer(x, T), torch.cat(expected))
    tall = x.reshape(12, 25)  # two rows of each sample, as flattened tokens are
    assert torch.equal(quantizer(tall, T).reshape(6, 50), quantizer(x, T))
    with pytest.raises(BadInput, match="samples on the first axis"):
        quantizer(x.reshape(4, 75), T)


def test_range_scales__gradients_go_to_the_scale_that_was_used_and_add_up_to_lsqs() -> None:
    x = torch.from_numpy(VALUES)
    many, one = made(LSQ(scales=RangeScales(4))), made(LSQ(scales=RangeScales(1)))
    for quantizer in (many, one):
        quantizer(x, T).square().sum().backward()
    assert (many.scales.log.grad != 0).tolist() == [True, True, True, True]
    torch.testing.assert_close(many.scales.log.grad.sum(), one.scales.log.grad[0], rtol=1e-4, atol=1e-5)


def test_scales__may_be_of_any_rule() -> None:
    class Falling(torch.nn.Module):
        def __init__(self, start: float) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(start))

        def scale(self, timestep: torch.Tensor) -> torch.Tensor:
            return self.factor * torch.exp(-timestep / 1000)

    @dataclass(frozen=True)
    class Rule:
        def build(self, start: float, timesteps: int, generator: torch.Generator) -> TimeScale:
            return Falling(start)

        def config(self) -> dict:
            return {"rule": "falling"}

    quantizer = made(LSQ(scales=Rule()))
    assert isinstance(quantizer.scales, TimeScale)
    quantizer(torch.from_numpy(VALUES), T).sum().backward()
    assert [name for name, p in quantizer.named_parameters() if p.grad is not None] == ["place", "scales.factor"]


def test_pact__bounds_are_those_of_the_values_and_pull_to_zero() -> None:
    rectified = np.maximum(VALUES, 0)
    low, high = float(VALUES.min()), float(VALUES.max())
    for method, values, below, above in (
        (PACT(), rectified, 0.0, high),
        (PACT(), VALUES, -low, high),
        (PACT(signed=Signed.SYMMETRIC), VALUES, max(-low, high), max(-low, high)),
    ):
        quantizer = made(method, values)
        assert [b.item() for b in quantizer.bounds()] == pytest.approx([below, above])
        scale, zero = quantizer.parameters_at(T)
        assert scale.item() == pytest.approx((above + below) / 15)
        assert zero.item() == min(np.round(below / scale.item()), 15)
    quantizer = made(PACT(decay=0.5), rectified)
    assert quantizer.penalty().item() == pytest.approx(0.5 * high**2)


def test_project__keeps_the_zero_point_among_the_codes() -> None:
    quantizer = made(LSQ())
    with torch.no_grad():
        quantizer.place.fill_(1.3)
    quantizer.project()
    assert quantizer.parameters_at(T)[1].item() == 15


@pytest.mark.parametrize("granularity", [PerAxis((0,)), PerGroup(1, 4, (0,))])
@pytest.mark.parametrize("scales", WeightScales)
def test_weight__has_the_engines_values_in_the_schemes_granularity(granularity, scales) -> None:
    spec = QuantSpec(IntFormat(4, signed=True, narrow=True), granularity, symmetric=True)
    weight = np.random.default_rng(2).normal(size=(6, 10, 3, 3)).astype(np.float32)
    quantizer = LSQ(weights=scales).weight(weight, spec).eval()
    with torch.no_grad():
        quantizer.log += torch.linspace(-0.2, 0.2, quantizer.log.numel()).reshape(quantizer.log.shape)
        found = quantizer(torch.from_numpy(weight)).numpy()
    shared = quantizer.shared_by(granularity)
    assert shared.shape == granularity.parameter_shape(weight.shape)
    codes = quantize(weight, spec, shared, np.zeros_like(shared, np.int32))
    np.testing.assert_array_equal(found, dequantize(codes))
    again = quantize(found, spec, shared, np.zeros_like(shared, np.int32))
    np.testing.assert_array_equal(again.codes, codes.codes)
    assert len(np.unique(shared)) == (1 if scales is WeightScales.TENSOR else shared.size)


def test_weight__begins_at_the_papers_scale() -> None:
    spec = QuantSpec(IntFormat(4, signed=True, narrow=True), PerAxis((0,)), symmetric=True)
    weight = np.random.default_rng(2).normal(size=(6, 10)).astype(np.float32)
    weight[3] = 0
    found = LSQ(weights=WeightScales.SCHEME).weight(weight, spec).scale().detach().numpy()
    expected = 2 * np.abs(weight.astype(np.float64)).mean(axis=1, keepdims=True) / 7**0.5
    expected[3] = 1
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_methods__refuse_bad_parameters() -> None:
    with pytest.raises(BadInput, match="count must be"):
        RangeScales(0)
    with pytest.raises(BadInput, match="decay must be"):
        PACT(decay=float("nan"))
