"""Claim: fits follow the spread of what they saw over time, never end above their start, and say when they diverge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplers import DDIM, BadInput, NoiseSchedule
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec, dequantize, parameters_from_range, quantize
from simulator.calibration.intervals.encoding import DirectCode
from simulator.calibration.intervals.fitting import IntervalFit, fit_intervals
from simulator.calibration.intervals.generator import TDQ
from simulator.calibration.intervals.observation import OperandSamples, sample_operands
from simulator.calibration.intervals.segments import Segments
from simulator.calibration.intervals.table import ranges_at, table
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.instrument.sites import SiteKey

SPEC = QuantSpec(IntFormat(4, signed=False))
TIMES = np.arange(0.0, 1000.0, 10.0)
SPREAD = 0.2 + 2.0 * TIMES / 1000
FLAT, GROWING = (SiteKey("flat", "linear"), "input"), (SiteKey("growing", "linear"), "input")


def samples() -> OperandSamples:
    draw = np.random.default_rng(5).normal(size=(2, len(TIMES), 128))
    draw[1] *= SPREAD[:, None]
    return OperandSamples(TIMES, dict(zip((FLAT, GROWING), draw.astype(np.float32), strict=True)), {})


@pytest.fixture(scope="module")
def fits() -> dict:
    fit = IntervalFit(iterations=150)
    methods = {
        "one": Segments.uniform(1), "four": Segments.uniform(4), "each": Segments(tuple(TIMES.tolist())),
        "tdq": TDQ(), "direct": TDQ(code=DirectCode()),
    }  # fmt: skip
    return {name: fit_intervals(method, samples(), SPEC, fit=fit) for name, method in methods.items()}


def test_fits__rank_as_their_freedom_where_spread_changes_and_agree_where_it_does_not(fits) -> None:
    growing = {name: found.after[1].mean() for name, found in fits.items()}
    assert growing["tdq"] < 0.9 * growing["four"] < 0.9 * growing["one"]
    assert growing["each"] < 0.9 * growing["one"]
    flat = [fits[name].after[0].mean() for name in ("one", "four", "tdq")]
    assert max(flat) < 1.2 * min(flat)


def test_tdq__follows_the_spread(fits) -> None:
    sampler = DDIM(NoiseSchedule(), 37)  # visits timesteps that were not observed
    scale = table(fits["tdq"].intervals, sampler)[GROWING][0]
    expected = [0.2 + 2.0 * update.timestep / 1000 for update in sampler.updates]
    assert np.corrcoef(scale, expected)[0, 1] > 0.9
    assert scale[:5].mean() / scale[-5:].mean() > 2


def test_fits__report_the_engines_own_error(fits) -> None:
    found, data = fits["four"], samples()
    step = 3
    low, high = ranges_at(found.intervals, _At(TIMES), {"weights_digest": ""}).of(*GROWING, step)
    scale, zero = parameters_from_range(low, high, SPEC)
    x = data.values[GROWING][step]
    error = dequantize(quantize(x, SPEC, np.full(1, scale), np.full(1, zero))) - x
    assert found.after[1, step] == pytest.approx((error.astype(np.float64) ** 2).mean(), rel=1e-5)


def test_fits__never_end_above_their_start(fits) -> None:
    for found in fits.values():
        assert (found.after.mean(axis=1) <= found.before.mean(axis=1)).all()


def test_start__has_the_least_error_of_one_range_for_all_timesteps(fits) -> None:
    for row, key in enumerate((FLAT, GROWING)):
        values = samples().values[key].reshape(-1)
        errors = []
        for share in np.arange(1, 101) / 100:
            low, high = (np.full(1, share * float(end)) for end in (values.min(), values.max()))
            error = dequantize(quantize(values, SPEC, *parameters_from_range(low, high, SPEC))) - values
            errors.append((error.astype(np.float64) ** 2).mean())
        assert fits["one"].before[row].mean() == pytest.approx(min(errors), rel=1e-5)


def test_diverged_fit__is_reported_and_keeps_its_first_values() -> None:
    for method, rate in ((Segments.uniform(1), 2.0), (TDQ(code=DirectCode()), 3.0)):
        found = fit_intervals(method, samples(), SPEC, fit=IntervalFit(iterations=30, rate=rate))
        assert found.diverged.all()
        np.testing.assert_array_equal(found.before, found.after)
        assert np.isfinite(found.loss).all()
        assert all(torch.isfinite(parameter).all() for parameter in found.intervals.parameters())


def test_diverged_fit__that_is_not_a_number_leaves_the_others_alone() -> None:
    data = samples()
    huge = OperandSamples(TIMES, {FLAT: data.values[FLAT] * np.float32(1e30), GROWING: data.values[GROWING]}, {})
    fit = IntervalFit(iterations=20)
    found, plain = (fit_intervals(TDQ(), each, SPEC, fit=fit) for each in (huge, data))
    assert found.diverged.tolist() == [True, False]
    assert not np.isfinite(found.loss[:, 0]).any()
    np.testing.assert_allclose(found.after[1], plain.after[1], rtol=1e-5)
    assert all(torch.isfinite(parameter).all() for parameter in found.intervals.parameters())


def test_fit__counts_an_element_as_often_as_it_weighs() -> None:
    values = samples().values[GROWING]
    often = np.random.default_rng(1).integers(1, 4, values.shape[1])
    repeated = np.repeat(values, often, axis=1)
    weight = np.broadcast_to((often / often.mean()).astype(np.float32), values.shape).copy()
    fit = IntervalFit(iterations=10)
    one = fit_intervals(Segments.uniform(2), OperandSamples(TIMES, {FLAT: repeated}, {}), SPEC, fit=fit)
    two = fit_intervals(Segments.uniform(2), OperandSamples(TIMES, {FLAT: values}, {}, {FLAT: weight}), SPEC, fit=fit)
    np.testing.assert_allclose(two.after, one.after, rtol=1e-4)


def test_fit__that_ends_above_its_start_keeps_its_first_values() -> None:
    found = fit_intervals(Segments.uniform(1), samples(), SPEC, fit=IntervalFit(iterations=2, rate=0.5))
    assert found.kept.all()
    assert not found.diverged.any()
    np.testing.assert_array_equal(found.before, found.after)


def test_fit__is_the_same_for_the_same_seed_and_one_operand_alone() -> None:
    fit = IntervalFit(iterations=20)
    both, again = (fit_intervals(TDQ(variant="released"), samples(), SPEC, fit=fit, seed=3) for _ in range(2))
    assert both.intervals.digest() == again.intervals.digest()
    alone = OperandSamples(TIMES, {GROWING: samples().values[GROWING]}, {})
    one = fit_intervals(TDQ(), alone, SPEC, fit=fit, seed=3)
    two = fit_intervals(TDQ(), samples(), SPEC, fit=fit, seed=3)
    np.testing.assert_allclose(one.after[0], two.after[1], rtol=1e-4)


def test_fit__keeps_formats_apart() -> None:
    third = SiteKey("third", "linear"), "input"
    data = samples()
    three = OperandSamples(TIMES, {**data.values, third: data.values[FLAT]}, {})
    wide, fit = QuantSpec(IntFormat(8, signed=False)), IntervalFit(iterations=20)
    found = fit_intervals(Segments.uniform(2), three, {FLAT: wide, GROWING: SPEC, third: wide}, fit=fit)
    assert max(found.after[0].mean(), found.after[2].mean()) < found.after[1].mean() / 50
    alone = fit_intervals(Segments.uniform(2), data, SPEC, fit=fit)
    np.testing.assert_allclose(found.after[1], alone.after[1], rtol=1e-6)


def test_observation__keeps_tails_and_weighs_the_rest(tiny_model, one_thread) -> None:
    x = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([900, 100] * 5)
    site = (SiteKey("first", "conv2d"), "input")
    found = sample_operands(tiny_model, x, t, elements=64)
    assert found.timesteps.tolist() == [100.0, 900.0]
    for row, parity in ((0, 1), (1, 0)):
        kept, weight = found.values[site][row], found.weights[site][row]
        ordered = np.sort(x[parity::2].numpy().reshape(-1))  # 320 values, of which 8 and 8 are kept as they are
        np.testing.assert_array_equal(kept[:8], ordered[:8])
        np.testing.assert_array_equal(kept[-8:], ordered[-8:])
        assert np.isin(kept, ordered).all()
        np.testing.assert_allclose(weight * 5, [1.0] * 8 + [304 / 48] * 48 + [1.0] * 8, rtol=1e-6)
        np.testing.assert_allclose((weight * kept**2).mean(), (ordered**2).mean(), rtol=0.05)
    parts = sample_operands(tiny_model, x, t, elements=64, batch_size=2)
    for row, parity in ((0, 1), (1, 0)):
        batches = [x[parity::2][i : i + 2] for i in (0, 2, 4)]
        for batch, part in zip(batches, np.split(parts.values[site][row], [25, 51]), strict=True):
            assert np.isin(part, batch.numpy()).all()
    channels = sample_operands(tiny_model, x, t, elements=9, by_channel=True)
    down = channels.values[SiteKey("down", "conv2d"), "input"]
    assert down.shape == (2, 12, 9)
    assert not any(role == "probability" for _, role in channels.values)
    again = sample_operands(tiny_model, x, t, elements=9, by_channel=True)
    qkv = SiteKey("qkv", "linear"), "input"
    np.testing.assert_array_equal(again.values[qkv], channels.values[qkv])


def test_fitted_ranges__run_in_the_engine(tiny_model, one_thread) -> None:
    sampler = DDIM(tiny_model.schedule, 4)
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([u.timestep for u in sampler.updates] * 2)
    found = sample_operands(tiny_model, x, t, elements=32)
    fitted = fit_intervals(TDQ(), found, SPEC, fit=IntervalFit(iterations=3))
    ranges = ranges_at(fitted.intervals, sampler, fitted.source)
    scheme = Scheme.parse("w4a4")
    quantized = QuantizedModel(tiny_model, scheme, ranges)
    with pytest.raises(BadInput, match="step"):
        quantized(x[:2], t[:2])
    assert torch.isfinite(quantized(x[:2], t[[0, 0]], step=0)).all()
    other = QuantizedModel(tiny_model, scheme, calibrate_ranges(tiny_model, sampler, samples=4, steps=StepSets.each(4)))
    assert not torch.equal(quantized(x, t[:1].expand(8), step=0), other(x, t[:1].expand(8), step=0))


class _At:
    """A sampler's timesteps and nothing else."""

    def __init__(self, times: np.ndarray) -> None:
        self.updates = [type("Update", (), {"timestep": time})() for time in times]

    def config(self) -> dict:
        return {}


def test_observation__refuses_other_data(tiny_model) -> None:
    x, t = torch.zeros(2, 1, 8, 8), torch.tensor([1, 2])
    with pytest.raises(BadInput, match="float32"):
        sample_operands(tiny_model, x.double(), t)
    with pytest.raises(BadInput, match="timestep must have shape"):
        sample_operands(tiny_model, x, t[:1])
    found = sample_operands(tiny_model, x, t, by_channel=True)
    with pytest.raises(BadInput, match="one size"):
        fit_intervals(TDQ(), found, SPEC)
