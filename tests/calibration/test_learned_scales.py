"""Claim: an interval method serves training and reconstruction through their own small protocols, with gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from samplers import DDIM, BadInput, NoiseSchedule
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.intervals.fitting import IntervalFit, fit_intervals
from simulator.calibration.intervals.generator import TDQ
from simulator.calibration.intervals.learned_scales import ScalePerStep, ScalePerTimestep
from simulator.calibration.intervals.observation import OperandSamples
from simulator.calibration.intervals.segments import Segments
from simulator.calibration.intervals.table import table
from simulator.calibration.steps import StepSets
from simulator.instrument.sites import SiteKey

KEY = SiteKey("layer", "linear"), "input"
SPEC = QuantSpec(IntFormat(4, signed=False))
SAMPLER = DDIM(NoiseSchedule(), 10)


@pytest.mark.parametrize("method", [TDQ(), Segments.uniform(5)])
def test_scale_per_timestep__starts_where_told_and_learns(method) -> None:
    scale = ScalePerTimestep(method).build(0.25, 1000, torch.Generator().manual_seed(0))
    t = torch.tensor([0, 400, 999])
    assert torch.equal(scale.scale(t), torch.full((3,), 0.25))
    target = torch.tensor([0.1, 0.2, 0.4])
    optimiser = torch.optim.Adam([p for p in scale.parameters() if p.requires_grad], lr=0.02)
    for _ in range(150):
        optimiser.zero_grad()
        ((scale.scale(t) - target) ** 2).sum().backward()
        optimiser.step()
    torch.testing.assert_close(scale.scale(t), target, rtol=0.05, atol=0.0)


@pytest.mark.parametrize("method", [TDQ(), Segments.each(SAMPLER)])
def test_scale_per_step__follows_its_own_parameters(method) -> None:
    model = ScalePerStep(method, SAMPLER)
    affines = (
        SimpleNamespace(scale=np.float32(0.5), zero_point=3),
        SimpleNamespace(scale=np.float32(0.25), zero_point=5),
    )
    one = model.start(*KEY, SPEC, affines, StepSets.each(2))
    steps = torch.tensor([0, 9, 4])
    scale, zero = one(steps)
    assert scale.tolist() == [0.375] * 3
    assert zero.tolist() == [4.0] * 3
    (scale.sum() + zero.sum()).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in one.parameters().items() if n != "offset")
    assert one.parameters()["offset"].grad.item() == pytest.approx(3 * 15)
    assert model.steps(StepSets()) == StepSets.each(10)
    with pytest.raises(BadInput, match="needs the step"):
        one(None)


def test_scale_per_step__goes_on_from_fitted_intervals() -> None:
    times = np.arange(0.0, 1000.0, 100.0)
    values = np.random.default_rng(0).normal(size=(10, 64)) * (1 + times[:, None] / 100)
    samples = OperandSamples(times, {KEY: values.astype(np.float32)}, {})
    fitted = fit_intervals(TDQ(), samples, SPEC, fit=IntervalFit(iterations=60)).intervals
    affines = (SimpleNamespace(scale=np.float32(1.0), zero_point=3),)
    one = ScalePerStep(TDQ(), SAMPLER, fitted=fitted).start(*KEY, SPEC, affines, StepSets())
    scale, _ = one(torch.arange(10))
    np.testing.assert_array_equal(scale.detach(), table(fitted, SAMPLER)[KEY][0])
    with torch.no_grad():
        one.parameters()["offset"].add_(1.0)
    assert fitted.offset.item() < 1.0
    with pytest.raises(BadInput, match="of the method"):
        ScalePerStep(TDQ(layers=2), SAMPLER, fitted=fitted).start(*KEY, SPEC, affines, StepSets())
