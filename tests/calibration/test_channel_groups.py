"""Claim: channels share bounds with channels like them; soft weights learn from error, and say how sure they are."""

from __future__ import annotations

import numpy as np
import pytest

from samplers import DDIM, BadInput, NoiseSchedule
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.channels import PerChannel
from simulator.calibration.intervals.channel_groups import bin_bounds, channel_groups, grouped_steps
from simulator.calibration.intervals.observation import OperandSamples
from simulator.calibration.intervals.soft_groups import SoftGrouping, SoftGroups, soft_channel_groups
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.sites import SiteKey

KEY = SiteKey("layer", "linear"), "input"
SPEC = QuantSpec(IntFormat(4, signed=False))
LOW = np.array([-8.0, -1.0, -7.9, 0.0, -4.0, -4.1, -1.1, -3.9])
HIGH = np.array([1.0, 16.0, 15.0, 2.0, 8.0, 8.1, 1.5, 1.9])


def per_channel(low=LOW, high=HIGH, steps: StepSets | None = None) -> Ranges:
    steps = steps or StepSets.each(2)
    return Ranges({(*KEY, s.name): (low[None, :], high[None, :]) for s in steps.sets}, {}, steps)


def test_bin_bounds__are_the_released_ones() -> None:
    low, high = bin_bounds(LOW, HIGH, 4)
    # edges of the lows -8, -6, -4, -2, 0: {-8, -7.9}, {-4.1}, {-4, -3.9}, {-1.1, -1, 0}
    np.testing.assert_array_equal(low, [-8.0, -4.1, -4.0, -1.1])
    # edges of the highs 1, 4.75, 8.5, 12.25, 16: {1, 1.5, 1.9, 2}, {8, 8.1}, none: its upper edge, {15, 16}
    np.testing.assert_array_equal(high, [2.0, 8.1, 12.25, 16.0])


def test_nested_groups__hold_the_larger_of_both_bins_and_clip_nothing() -> None:
    found = channel_groups(per_channel(), groups=4).of(*KEY, 1)
    # outward bins of the lows: 3, 0, 3, 0, 2, 2, 0, 1; of the highs: 0, 3, 3, 0, 1, 1, 0, 0
    np.testing.assert_array_equal(found.assignment, [3, 3, 3, 0, 2, 2, 0, 1])
    np.testing.assert_array_equal(found.low, [-1.1, -3.9, -4.1, -8.0])
    np.testing.assert_array_equal(found.high, [2.0, 1.9, 8.1, 16.0])
    low, high = found.by_channel()
    assert (low <= LOW).all()
    assert (high >= HIGH).all()


def test_ascending_groups__pair_bins_counted_upwards() -> None:
    grouped = channel_groups(per_channel(), groups=4, pairing="ascending")
    found = grouped.of(*KEY, 0)
    np.testing.assert_array_equal(found.low, [-8.0, -4.1, -4.0, -1.1])
    np.testing.assert_array_equal(found.high, [2.0, 8.1, 12.25, 16.0])
    np.testing.assert_array_equal(found.assignment, [0, 3, 2, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(grouped.assignments()[*KEY, "1"], found.assignment)
    np.testing.assert_array_equal(grouped.bounds()[*KEY, "0"][0], found.low)


def test_groups__of_equal_channels_are_one() -> None:
    found = channel_groups(per_channel(np.full(5, -1.0), np.full(5, 2.0))).of(*KEY, 0)
    assert (found.assignment.tolist(), found.low.tolist(), found.high.tolist()) == ([0] * 5, [-1.0], [2.0])


def test_grouped_steps__are_consecutive_and_nearly_equal() -> None:
    assert [s.name for s in grouped_steps(10, 4).sets] == ["0-2", "3-5", "6-7", "8-9"]
    assert grouped_steps(3, 3) == StepSets.each(3)
    with pytest.raises(BadInput, match="at most 3"):
        grouped_steps(3, 4)


def test_groups__of_a_network_follow_its_ranges(tiny_model, one_thread) -> None:
    sampler = DDIM(tiny_model.schedule, 3)
    ranges = calibrate_ranges(tiny_model, sampler, samples=4, granularity=PerChannel(), steps=StepSets.each(3))
    grouped = channel_groups(ranges)
    for (site, role, name), (low, high) in ranges.bounds.items():
        found = grouped.of(site, role, int(name))
        own_low, own_high = found.by_channel()
        assert (own_low <= low.reshape(-1)).all()
        assert (own_high >= high.reshape(-1)).all()
        assert len(found.low) <= 8
        assert (own_high <= high.max()).all()
        assert (own_low >= low.min()).all()


@pytest.fixture(scope="module")
def spread_channels():
    draw = np.random.default_rng(0)
    spread = np.geomspace(0.05, 5.0, 12)
    values = (draw.normal(size=(2, 12, 200)) * spread[:, None]).astype(np.float32)
    sampler = DDIM(NoiseSchedule(), 2)
    times = np.array(sorted(float(update.timestep) for update in sampler.updates))
    samples = OperandSamples(times, {KEY: values}, {"weights_digest": "0"})
    lows, highs = (extreme(axis=2)[:, None].astype(np.float64) for extreme in (values.min, values.max))
    bounds = {(*KEY, str(step)): (lows[1 - step], highs[1 - step]) for step in (0, 1)}
    return Ranges(bounds, {}, StepSets.each(2)), samples, sampler


@pytest.mark.parametrize("mixture", ["ranges", "outputs"])
def test_soft_groups__learn_to_tell_channels_apart(mixture, spread_channels) -> None:
    ranges, samples, sampler = spread_channels
    fit = SoftGrouping(mixture=mixture, pairing="nested", iterations=150)
    found = soft_channel_groups(ranges, samples, sampler, SPEC, fit=fit)
    soft = found.groups[KEY]
    np.testing.assert_allclose(soft.weights.sum(axis=1), 1.0, rtol=1e-12)
    assert soft.weights.shape == (2, 8, 12)
    assert soft.after < 0.4 * soft.before
    low, high = found.ranges().of(*KEY, 0)
    assert low.shape == (1, 12)
    width = (high - low)[0]
    assert width[:4].mean() < 0.8 * width[-2:].mean()
    assert (found.entropy() < np.log(8)).all()
    assert found.hard().of(*KEY, 1).assignment.shape == (12,)
    assert found.diverged == ()


def test_soft_groups__start_at_equal_weights_and_largest_entropy(spread_channels) -> None:
    ranges, samples, sampler = spread_channels
    fit = SoftGrouping(iterations=1, rate=1e-12, weight_decay=0.0)
    found = soft_channel_groups(ranges, samples, sampler, SPEC, fit=fit)
    np.testing.assert_allclose(found.entropy(), np.log(8), rtol=1e-9)
    low, high = found.groups[KEY].bounds()
    np.testing.assert_allclose(low, np.repeat(found.groups[KEY].low.mean(axis=1)[:, None], 12, axis=1), rtol=1e-9)
    assert (low < high).all()


def test_entropy__is_that_of_the_weights_in_nats() -> None:
    weights = np.array([[[1.0, 0.5], [0.0, 0.5]]])
    soft = SoftGroups(weights, np.zeros((1, 2)), np.ones((1, 2)), 1.0, 1.0)
    np.testing.assert_allclose(soft.entropy(), [np.log(2) / 2])
    assert soft.hard(0).assignment.tolist() == [0, 0]


def test_grouping__refuses_what_it_cannot_group(spread_channels) -> None:
    ranges, samples, sampler = spread_channels
    with pytest.raises(BadInput, match="one range per channel"):
        channel_groups(Ranges({(*KEY, "all"): (np.array(0.0), np.array(1.0))}, {}))
    flat = OperandSamples(samples.timesteps, {KEY: samples.values[KEY][:, 0]}, {})
    with pytest.raises(BadInput, match="12 channels"):
        soft_channel_groups(ranges, flat, sampler, SPEC)
    with pytest.raises(BadInput, match="must have been observed"):
        soft_channel_groups(ranges, samples, DDIM(NoiseSchedule(), 3), SPEC)
    with pytest.raises(BadInput, match="name steps"):
        soft_channel_groups(Ranges({(*KEY, "all"): ranges.bounds[*KEY, "0"]}, {}), samples, sampler, SPEC)
