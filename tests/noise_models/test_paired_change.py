"""Claim: paired changes are those of the planted noise, their intervals cover, and verdicts follow from them alone."""

import json

import numpy as np
import pytest
from planted_noise import planted, recorded_one_sample_per_block, recorded_run

from noise_models import (
    final_distribution,
    final_distribution_change,
    fit_ptqd,
    injected_endpoint,
    paired_change,
    sqnr_db,
)
from noise_models.before_after.changes import verdict
from noise_models.inference.intervals import Interval
from samplers import BadInput

CORRECTED = {"correction": {"name": "ptqd"}}


def runs(e_before: np.ndarray, e_after: np.ndarray, y: np.ndarray | None = None):
    y = np.random.default_rng(0).standard_normal(e_before.shape) if y is None else y
    before = recorded_run(y, e_before, purpose="evaluate").assign_coords(correction="none")
    return before, recorded_run(y, e_after, purpose="evaluate", **CORRECTED).assign_coords(correction="ptqd")


def test_paired_change__is_the_ratio_of_errors_and_mirrors_the_sqnr() -> None:
    generator = np.random.default_rng(1)
    e = generator.standard_normal((3, 32, 2, 16))
    factor = np.array([0.5, 1.0, 1.7])[:, None, None, None] * (1 + 0.1 * generator.standard_normal((3, 32, 1, 1)))
    before, after = runs(e, factor * e)
    found = paired_change(before, after)
    ratio = ((factor * e) ** 2).mean((1, 2, 3)) / (e**2).mean((1, 2, 3))
    np.testing.assert_allclose(found.mse_change_db, 10 * np.log10(ratio), atol=1e-9)
    np.testing.assert_allclose(
        found.sqnr_change_db, sqnr_db(after).sqnr_db - sqnr_db(before).sqnr_db, rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(found.sqnr_change_db_low, -found.mse_change_db_high)
    np.testing.assert_allclose(found.mse_before, (e**2).mean((1, 2, 3)), rtol=1e-9)
    assert found.verdict.values.tolist()[::2] == [1, 2]
    assert str(found.correction.values) == "ptqd"


def test_paired_change__covers_at_its_nominal_rate_and_is_narrower_than_either_side() -> None:
    # 2000 steps are 2000 replications; samples differ in scale, and half of the noise is common to both runs.
    generator = np.random.default_rng(7)
    shape = (2000, 64, 1, 8)
    common, own = np.sqrt(generator.gamma(2.0, 0.5, (2, 2000, 64, 1, 1))) * generator.standard_normal((2, *shape))
    y = generator.standard_normal(shape)
    before = recorded_one_sample_per_block(y, common)
    after = recorded_one_sample_per_block(y, np.sqrt(0.8) * common + np.sqrt(0.1) * own)
    before, after = (run.assign_coords(correction="any") for run in (before, after))
    found = paired_change(before, after)
    truth = 10 * np.log10(0.9)
    covered = ((found.mse_change_db_low < truth) & (truth < found.mse_change_db_high)).mean()
    assert 0.92 < float(covered) < 0.98
    width = found.mse_change_db_high - found.mse_change_db_low
    unpaired = 10 * np.log10(found.mse_after_high / found.mse_after_low)
    assert float(width.mean()) < 0.7 * float(unpaired.mean())
    # 2000 verdicts on a true fall are never a rise but for the intervals' misses
    assert (found.verdict == 2).mean() < 0.02


def test_verdict__follows_from_the_interval_alone() -> None:
    low, estimate, high = np.array([[-3.0, -2.0, -1.0], [-3.0, -1.0, 0.1], [-0.1, 1.0, 2.0], [1.0, 2.0, 3.0]]).T
    zero, bad = np.zeros(4, np.int8), np.array([0, 0, 0, 1], np.int8)
    assert verdict(Interval(estimate, high, low, high, zero)).tolist() == [1, 3, 3, 2]
    assert verdict(Interval(estimate, high, low, high, bad)).tolist() == [1, 3, 3, 0]


def test_paired_change__of_runs_without_noise_is_undefined() -> None:
    e = np.zeros((1, 8, 1, 4))
    found = paired_change(*runs(e, e))
    assert int(found.verdict[0]) == 0
    assert np.isnan(found.mse_change_db_low[0])


def test_paired_change__refuses_runs_that_differ_in_more_than_the_correction() -> None:
    y, e = planted(1, [0.1], [[0.0]], [0.1], samples=8)
    one, other = recorded_run(y, e), recorded_run(y, e, seed=5, **CORRECTED)
    with pytest.raises(BadInput, match="seed 0 and 5"):
        paired_change(one.assign_coords(correction="none"), other.assign_coords(correction="ptqd"))


def test_injected_endpoint__asks_only_where_slope_and_bias_differ_from_0() -> None:
    # step 0: slope and bias; 1: slope alone; 2: a negative slope and a bias; 3: as 0, but the correction does harm;
    # 4: as 0, and it does nothing
    y, e = planted(1, [0.2, 0.2, -0.2, 0.2, 0.2], [[0.3], [0.0], [0.3], [0.3], [0.3]], [0.1] * 5, samples=64)
    e[1] -= e[1].mean() - 0.2 * y[1].mean()  # no bias at all on the samples of the fit
    calibration = recorded_run(y, e)
    generator = np.random.default_rng(3)
    e_before = generator.standard_normal((5, 32, 1, 64))
    factor = np.array([0.5, 0.5, 0.5, 2.0, 1.0])[:, None, None, None]
    jitter = 1 + 0.1 * generator.standard_normal((5, 32, 1, 1)) * (factor == 1)
    found = injected_endpoint(calibration, *runs(e_before, factor * jitter * e_before))
    assert found.slope_differs.values.tolist() == [True, True, False, True, True]
    assert found.bias_differs.values.tolist() == [True, False, True, True, True]
    assert [found.endpoint.attrs["flag_meanings"].split()[i] for i in found.endpoint.values] == [
        "met", "not_expected", "not_expected", "missed", "inconclusive",
    ]  # fmt: skip
    assert found.endpoint_either.values.tolist() == [1, 1, 1, 2, 3]
    before, after = runs(e_before, factor * jitter * e_before)
    for name, config in (("d2dpm", {}), ("ptqd-signed", {"signed": True})):  # these take a negative slope for one
        config = json.dumps({**json.loads(after.attrs["config"]), "correction": {"name": name, **config}})
        signed = injected_endpoint(calibration, before, after.assign_attrs(config=config))
        assert signed.slope_differs.all()
        wrapped = {"name": f"{name}-fresh-noise", "correction": json.loads(config)["correction"]}
        config = json.dumps({**json.loads(config), "correction": wrapped})
        assert injected_endpoint(calibration, before, after.assign_attrs(config=config)).slope_differs.all()


def test_injected_endpoint__refuses_another_calibration_run_than_the_fits() -> None:
    y, e = planted(1, [0.2], [[0.1]], [0.1], samples=16)
    before, after = runs(e, e / 2)
    for wrap in (lambda config: config, lambda config: {"name": "around", "correction": config}):
        correction = wrap(fit_ptqd(recorded_run(y, e)).config())
        config = json.dumps({**json.loads(after.attrs["config"]), "correction": correction})
        fitted = after.assign_attrs(config=config)
        injected_endpoint(recorded_run(y, e), before, fitted)
        with pytest.raises(BadInput, match="seed 0 and 5"):
            injected_endpoint(recorded_run(y, e, seed=5), before, fitted)


def test_injected_endpoint__refuses_to_judge_on_the_samples_of_the_fit() -> None:
    y, e = planted(1, [0.2], [[0.1]], [0.1], samples=8)
    run = recorded_run(y, e)
    with pytest.raises(BadInput, match="held-out"):
        injected_endpoint(run, run, run)


def final(y: np.ndarray, e: np.ndarray, **config):
    run = recorded_run(y, e, purpose="evaluate", **config).rename(epsilon_injected="state_accumulated")
    return run.assign_coords(correction=config.get("correction", {"name": "none"})["name"])


def test_final_distribution__is_that_of_the_elements() -> None:
    generator = np.random.default_rng(2)
    y = generator.normal(0.2, [[[0.5], [1.5]]], (2, 64, 2, 32))
    other = generator.normal(0.3, [[[0.8], [1.4]]], y.shape)
    found = final_distribution(final(y, other - y))
    mean, deviation = (np.stack([v[-1].mean((0, 2)), w[-1].mean((0, 2))]) for v, w in ((y, other),) * 2)
    mean = np.stack([v[-1].mean((0, 2)) for v in (y, other)])
    deviation = np.stack([v[-1].std((0, 2)) for v in (y, other)])
    distance = (np.diff(mean, axis=0) ** 2 + np.diff(deviation, axis=0) ** 2).mean()
    assert float(found.wasserstein2_squared) == pytest.approx(distance, rel=1e-9)
    ratio = (deviation[1] ** 2).mean() / (deviation[0] ** 2).mean()
    assert float(found.variance_ratio) == pytest.approx(ratio, rel=1e-9)
    assert float(found.mean_shift) == pytest.approx(np.sqrt((np.diff(mean, axis=0) ** 2).mean()), rel=1e-9)


def test_final_distribution_change__calls_the_nearer_one_closer() -> None:
    generator = np.random.default_rng(4)
    y = generator.standard_normal((1, 64, 1, 64))
    wide, near = 0.3 * y, 0.05 * y + 0.2 * generator.standard_normal(y.shape)
    before, after = final(y, wide), final(y, near, **CORRECTED)
    assert int(final_distribution_change(before, after).verdict) == 1
    swapped = final_distribution_change(final(y, near), final(y, wide, **CORRECTED))
    assert int(swapped.verdict) == 2
    assert float(swapped.distance_change) == -float(final_distribution_change(before, after).distance_change)
