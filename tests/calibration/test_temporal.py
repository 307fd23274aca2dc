"""Claim: temporal correlation is that of known trends, and shares and rank correlations cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, spearmanr

from samplers import BadInput
from simulator.calibration.sensitivity.activations import ActivationStatistics, _Moments, activation_statistics
from simulator.calibration.sensitivity.intervals import rank_agreement, rank_correlation, share
from simulator.calibration.sensitivity.temporal import MEANS, temporal_correlation
from simulator.instrument.contractions import Linear
from simulator.instrument.sites import SiteKey

KEYS = tuple((SiteKey(name, "linear"), "input") for name in ("linear", "cubic", "noise", "flat"))


def statistics() -> ActivationStatistics:
    """Standard deviations with a known dependence on t over 20 timesteps of 50 samples."""
    draw = np.random.default_rng(0)
    t = np.repeat(np.arange(20.0), 50)
    spread = np.stack([5 + 0.1 * t, 1 + (t / 20) ** 9, 1 + 0.1 * draw.random(len(t)), np.full(len(t), 0.3)])
    spread[0] += 0.2 * draw.normal(size=len(t))
    low = -3 * spread
    return ActivationStatistics(
        KEYS, t, np.tile(np.arange(50), 20), np.zeros_like(spread), spread**2, low, 4 * spread
    )  # fmt: skip


def test_correlation__over_points_is_what_numpy_and_scipy_say() -> None:
    data = statistics()
    found = temporal_correlation(data)
    for row in range(3):
        values = np.sqrt(data.variance[row])
        assert found.pearson[row] == pytest.approx(np.corrcoef(data.timestep, values)[0, 1])
        assert found.spearman[row] == pytest.approx(spearmanr(data.timestep, values).statistic)
    assert np.isnan(found.pearson[3])
    assert np.isnan(found.spearman[3])
    assert found.pearson[1] < 0.75
    assert found.spearman[1] == pytest.approx(1.0)


def test_correlation__over_step_means_leaves_the_trend_alone() -> None:
    data = statistics()
    points, means = temporal_correlation(data), temporal_correlation(data, over=MEANS)
    assert means.pearson[0] > 0.99 > 0.95 > points.pearson[0]
    times, values = data.step_means("std")
    np.testing.assert_allclose(values[1], 1 + (times / 20) ** 9)


def test_measures__are_std_range_and_largest_magnitude() -> None:
    data = statistics()
    np.testing.assert_allclose(data.variation("range"), 7 * data.variation("std"))
    np.testing.assert_allclose(data.variation("max"), 4 * data.variation("std"))
    with pytest.raises(BadInput, match="measure"):
        data.variation("variance")


def test_share_above__counts_magnitudes_and_leaves_constants_out() -> None:
    found = temporal_correlation(statistics()).share_above(0.6)
    assert (found.count, found.total) == (2, 4)
    assert found.low < found.share < found.high


def test_share__covers_at_least_as_often_as_it_says_and_not_much_more() -> None:
    n = 60
    intervals = [share(k, n) for k in range(n + 1)]
    for p in np.linspace(0.1, 0.9, 33):
        covered = sum(binom.pmf(k, n, p) for k, found in enumerate(intervals) if found.low <= p <= found.high)
        assert 0.95 <= covered <= 0.985
    assert (share(0, 9).low, share(9, 9).high) == (0.0, 1.0)
    assert share(0, 9).high == pytest.approx(1 - 0.025 ** (1 / 9))
    with pytest.raises(BadInput, match="at most 3"):
        share(4, 3)


def test_rank_agreement__is_spearmans_and_covers_nominally() -> None:
    draw = np.random.default_rng(1)
    for n, r in ((30, 0.6), (60, 0.0), (40, -0.8)):
        true = 6 / np.pi * np.arcsin(r / 2)
        hits = 0
        for _ in range(500):
            a, b = draw.multivariate_normal([0, 0], [[1, r], [r, 1]], n).T
            found = rank_agreement(dict(enumerate(a)), dict(enumerate(b)))
            hits += found.low <= true <= found.high
        assert found.rho == pytest.approx(spearmanr(a, b).statistic)
        assert 0.92 <= hits / 500 <= 0.98


def test_rank_agreement__takes_common_items_ties_and_ends() -> None:
    found = rank_agreement(
        {"a": 1.0, "b": 2.0, "c": 3.0, "d": np.inf}, {"d": 9.0, "c": 5.0, "b": 2.0, "a": 1.0, "x": 0.0}
    )
    assert (found.rho, found.low, found.high, found.count) == (1.0, 1.0, 1.0, 4)
    assert np.isnan(rank_agreement({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 1.0}).rho)
    a, b = np.array([1.0, 1, 2, 5, 5, 7]), np.array([2.0, 1, 1, 4, 9, 9])
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    with pytest.raises(BadInput, match="in common"):
        rank_agreement({"a": 1.0}, {"b": 1.0})


def test_statistics__are_those_of_each_sample_at_each_timestep(tiny_model, one_thread) -> None:
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([900, 100, 900, 100, 900])
    found = activation_statistics(tiny_model, x, t, batch_size=2)
    assert found.timestep.tolist() == [100, 100, 900, 900, 900]
    assert found.sample.tolist() == [1, 3, 0, 2, 4]
    row = found.keys.index((SiteKey("first", "conv2d"), "input"))
    own = x[found.sample].flatten(1).double()
    np.testing.assert_allclose(found.mean[row], own.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found.variance[row], own.var(1, correction=0), rtol=1e-6)
    np.testing.assert_array_equal(found.low[row], own.min(1).values)
    np.testing.assert_array_equal(found.high[row], own.max(1).values)
    time = found.variance[found.keys.index((SiteKey("embed.0", "linear"), "input"))]
    assert len(np.unique(time[:2].round(12))) == len(np.unique(time[2:].round(12))) == 1
    assert not any(role == "probability" for _, role in found.keys)


def test_statistics__of_a_guided_pass_join_both_rows_of_a_sample() -> None:
    found: dict = {}
    handler = _Moments(2, 2, found)
    rows = torch.tensor([[1.0], [2.0], [11.0], [12.0]])  # unconditional 0 and 1, then conditional 0 and 1
    handler(KEYS[0][0], Linear(rows, torch.ones(1, 1), None))
    mean, variance, low, high = found[KEYS[0]][0]
    assert mean.tolist() == [6.0, 7.0]
    assert variance.tolist() == [25.0, 25.0]
    assert (low.tolist(), high.tolist()) == ([1.0, 2.0], [11.0, 12.0])
    handler(KEYS[1][0], Linear(rows[:3], torch.ones(1, 1), None))  # no part for each sample: shared by all
    assert found[KEYS[1]][0][3].tolist() == [11.0, 11.0]
