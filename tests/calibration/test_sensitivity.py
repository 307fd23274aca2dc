"""Claim: scores follow their formulas, and one site alone is what the engine does with all others in float."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from samplers import DDIM, BadInput, NoiseSchedule
from simulator.calibration.ranges import Ranges
from simulator.calibration.sensitivity.activations import activation_statistics
from simulator.calibration.sensitivity.one_at_a_time import SiteNoise, layer_noise, one_at_a_time, quantize_only
from simulator.calibration.sensitivity.scores import activation_scores, by_site, range_times_spread
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.instrument.sites import SiteKey
from simulator.models.registry import Model

X = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
T = torch.tensor([900, 100, 900, 100, 100, 900])
STEP = torch.where(T == 900, 0, 1)


def test_score__is_the_formula_with_a_guard() -> None:
    assert range_times_spread(-1.0, 3.0, 0.5, 2.0) == 4 * (1 + 2.0 / 0.5)
    assert range_times_spread(-1.0, 3.0, -0.5, 2.0) == 4 * (1 + 2.0 / 0.5)  # as printed it would be 4 (1 - 4)
    assert range_times_spread(-1.0, 1.0, 0.0, 4.0) == pytest.approx(2 * (1 + 2 / 1e-3))
    assert range_times_spread(-1.0, 1.0, 1e-9, 4.0, guard=0.1) == pytest.approx(2 * (1 + 2 / 0.1))
    assert range_times_spread(0.0, 0.0, 0.0, 0.0) == 0.0
    np.testing.assert_array_equal(range_times_spread([0.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0]), [2.0, 0.0])
    with pytest.raises(BadInput, match="guard must be positive"):
        range_times_spread(0.0, 1.0, 0.0, 1.0, guard=0.0)
    with pytest.raises(BadInput, match="variance"):
        range_times_spread(0.0, 1.0, 0.0, -1.0)


def test_activation_scores__pool_over_points(tiny_model, one_thread) -> None:
    statistics = activation_statistics(tiny_model, X, T)
    first = SiteKey("first", "conv2d")
    values = X.double()
    expected = (values.max() - values.min()) * (1 + values.var(correction=0) / values.mean().abs())
    assert activation_scores(statistics)[first] == pytest.approx(float(expected), rel=1e-6)
    assert by_site({(first, "query"): 1.0, (first, "key"): 3.0}) == {first: 3.0}


@pytest.fixture(scope="module")
def quantized(tiny_model) -> QuantizedModel:
    sampler = DDIM(tiny_model.schedule, 2)
    ranges = calibrate_ranges(tiny_model, sampler, samples=8, steps=StepSets.each(2))
    return QuantizedModel(tiny_model, Scheme.parse("w4a4"), ranges)


def test_one_at_a_time__equals_the_scheme_that_keeps_the_others_in_float(quantized, one_thread) -> None:
    found = one_at_a_time(quantized, X, T, step=STEP, batch_size=2)
    sites = [facts.key for facts in quantized.sites]
    assert found.sites == tuple(sites)
    assert found.timesteps.tolist() == [100.0, 900.0]
    for row, site in enumerate(sites):
        scheme = quantize_only(quantized.scheme, site, sites)
        alone = QuantizedModel(quantized.model, scheme, quantized.ranges)
        treatments = [alone.plan.at(key).in_float for key in sites]
        assert treatments == [key != site for key in sites]
        for column, (time, step) in enumerate(((100, 1), (900, 0))):
            x, t = X[time == T], T[time == T]
            with torch.no_grad():
                y = quantized.model.module(x, t).double()
            error = alone(x, t, step=step).double() - y
            assert found.signal[row, column] == pytest.approx(float((y**2).sum()), rel=1e-5)
            assert found.noise[row, column] == pytest.approx(float((error**2).sum()), rel=1e-3)
    assert (found.noise > 0).all()


def test_quantize_only__tells_calls_of_one_layer_apart() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.out = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return self.out(self.layer(self.layer(x)))

    model = Model("twice", 1, Twice().eval(), NoiseSchedule(), (4,), "epsilon", "0" * 64)
    full = QuantizedModel(model, Scheme.parse("w4a4-dyn"), Ranges({}, {}))
    sites = [facts.key for facts in full.sites]
    assert [site.call for site in sites] == [0, 1, 0]
    for site in sites:
        plan = QuantizedModel(model, quantize_only(full.scheme, site, sites), Ranges({}, {})).plan
        assert [plan.at(key).in_float for key in sites] == [key != site for key in sites]
        assert plan.at(site).describe() == full.plan.at(site).describe()


def test_layer_noise__is_that_of_the_operation_on_float_operands(quantized, one_thread) -> None:
    found = layer_noise(quantized, X, T, step=STEP)
    kept = {}

    def look(site, contraction):
        kept[site] = contraction
        return contraction.float()

    from simulator.instrument.forward import forward

    forward(quantized.model.module, look, X[T == 900], T[T == 900])
    for row, site in enumerate(found.sites):
        y = kept[site].float().double()
        error = quantized.emulate(site, kept[site], 0).output.double() - y
        assert found.signal[row, 1] == pytest.approx(float((y**2).sum()), rel=1e-6)
        assert found.noise[row, 1] == pytest.approx(float((error**2).sum()), rel=1e-5)
    last = one_at_a_time(quantized, X, T, step=STEP, sites=found.sites[-1:])
    np.testing.assert_allclose(last.noise[0], found.noise[-1], rtol=1e-3)  # the last layer's output is the network's


def test_site_noise__has_both_definitions() -> None:
    noise = SiteNoise((SiteKey("a", "linear"),), np.array([1.0, 2.0]), np.array([[4.0, 9.0]]), np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(noise.amplitude_ratio(), [[2.0, np.inf]])
    np.testing.assert_allclose(noise.sqnr_db()[0, 0], 10 * np.log10(4))
    assert noise.pooled() == {SiteKey("a", "linear"): 1 / 13}


def test_measuring__refuses_other_sites_and_steps(quantized) -> None:
    with pytest.raises(BadInput, match="network's"):
        one_at_a_time(quantized, X, T, step=STEP, sites=[SiteKey("none", "linear")])
    with pytest.raises(BadInput, match="one step"):
        one_at_a_time(quantized, X, T, step=torch.arange(6) % 2)
    with pytest.raises(BadInput, match="one of the network's"):
        quantize_only(quantized.scheme, SiteKey("none", "linear"), [])
