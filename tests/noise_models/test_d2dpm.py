"""Claim: D2-DPM conditions on the quantized output, and its two forms do to error and variance what is said.

Oracles are numpy on the planted elements; the quantized output is what the correction is given.
"""

import copy

import numpy as np
import pytest
import torch
from planted_noise import CONFIG, SAMPLER, planted, recorded_run

from noise_models import D2DPM, PTQD, fit_d2dpm, fit_ptqd, outlier_share_bound
from samplers import BadInput
from simulator.provenance import canonical

K, BIAS, SIGMA = [0.2, -0.3, 0.4], [[0.1, -0.3], [0.0, 0.2], [0.5, 0.4]], [0.3, 0.5, 0.2]


def applied(correction: D2DPM | PTQD, y: np.ndarray, e: np.ndarray) -> np.ndarray:
    members = np.arange(y.shape[1])
    return np.stack([correction.epsilon(i, torch.from_numpy(y[i] + e[i]), members).numpy() for i in range(len(y))])


def use(**changes) -> dict:
    return {**copy.deepcopy(CONFIG), "purpose": "evaluate", **changes}


@pytest.mark.parametrize("by", ["channel", "step"])
def test_fit_d2dpm__is_the_regression_of_noise_on_the_quantized_output(by: str) -> None:
    y, e = planted(1, K, BIAS, SIGMA, mean=0.7)
    e = (y + e) - y
    fit = fit_d2dpm(recorded_run(y, e), by=by)
    for step in range(3):
        for channel in range(2):
            at = (step, slice(None), channel) if by == "channel" else (step,)
            h, noise = (y + e)[at].ravel(), e[at].ravel()
            slope, intercept = np.polyfit(h, noise, 1)
            here = step, channel
            assert fit.slope[here] == pytest.approx(slope, rel=1e-9)
            assert fit.mean_noise[here] - slope * fit.mean_output[here] == pytest.approx(intercept, abs=1e-10)
            left = noise - slope * h - intercept
            assert fit.conditional_variance[here] == pytest.approx(left.var(), rel=1e-9)


def test_fit_d2dpm__keeps_the_correlation_within_its_limit() -> None:
    y, _ = planted(3, [0.0], [[0.0]], [0.0])
    fit = fit_d2dpm(recorded_run(y, 0.5 * y))  # Delta = h / 3 exactly
    assert fit.slope[0, 0] == pytest.approx(0.9999 / 3, rel=1e-9)
    assert fit.conditional_variance[0, 0] == pytest.approx(0.25 * y.var() * (1 - 0.9999**2), rel=1e-6)


def test_d2dpm__mean_has_the_least_error_and_sampled_twice_as_much() -> None:
    # 2 x 16384 held-out elements a step: the relative error of a variance is sqrt(2 / 32768) = 0.8 %.
    fit_set, held_out = (recorded_run(*planted(seed, K, BIAS, SIGMA)) for seed in (1, 1))
    y, e = planted(99, K, BIAS, SIGMA)
    mean, sampled, ptqd = fit_d2dpm(fit_set), fit_d2dpm(fit_set, sampled=True), fit_ptqd(held_out)
    over = (1, 2, 3)
    error = {c.name: ((applied(c, y, e) - y) ** 2).mean(over) for c in (mean, sampled, ptqd)}
    # epsilon given h: v = sigma^2 / ((1 + k)^2 + sigma^2) for epsilon ~ N(0, 1)
    k, variance = np.array(K), np.array(SIGMA) ** 2
    v = variance / ((1 + k) ** 2 + variance)
    np.testing.assert_allclose(mean.conditional_variance.mean(1), v, rtol=0.03)
    np.testing.assert_allclose(error["d2dpm"], v, rtol=0.04)
    np.testing.assert_allclose(error["d2dpm-sampled"], 2 * v, rtol=0.04)
    assert (error["d2dpm"] < error["ptqd"]).all()


def test_d2dpm__sampled_restores_the_variance_of_epsilon_and_mean_lowers_it_by_v() -> None:
    fit_set = recorded_run(*planted(1, K, BIAS, SIGMA))
    y, e = planted(99, K, BIAS, SIGMA)
    v = fit_d2dpm(fit_set).conditional_variance.mean(1)
    lowered, restored = (applied(fit_d2dpm(fit_set, sampled=s), y, e).var(axis=(1, 3)).mean(1) for s in (False, True))
    np.testing.assert_allclose(lowered, 1 - v, rtol=0.035)
    np.testing.assert_allclose(restored, 1, rtol=0.035)
    assert (v > 0.02).all()


def test_d2dpm__one_step_variance_lies_off_as_derived() -> None:
    # x ~ N(0, 1), epsilon = g x, h = (1 + k) epsilon + noise; a million elements: the error of a variance is 0.14 %.
    generator = np.random.default_rng(5)
    g, k, q, a, b = 0.8, 0.2, 0.1, 1.1, -0.6
    x, w = generator.standard_normal((2, 1, 64, 1, 16384))
    y, e = g * x, k * g * x + np.sqrt(q) * w
    run = recorded_run(y, e)
    v = float(fit_d2dpm(run).conditional_variance[0, 0])
    # one sample serves all: compare with the noise-free step on the same x, so that only cross terms have errors
    free = (a * x + b * y).var()
    found = {s: (a * x + b * applied(fit_d2dpm(run, sampled=s), y, e)).var() - free for s in (False, True)}
    of_ptqd = (a * x + b * applied(fit_ptqd(run), y, e)).var() - free
    assert found[True] == pytest.approx(-2 * a * b * v / g, rel=0.03)
    assert found[False] == pytest.approx(-2 * a * b * v / g - b**2 * v, rel=0.03)
    assert of_ptqd == pytest.approx(b**2 * q / (1 + k) ** 2, rel=0.06)
    assert found[False] > 2 * of_ptqd


def test_d2dpm__draws_belong_to_step_and_sample_and_to_no_batch() -> None:
    fit = fit_d2dpm(recorded_run(*planted(1, K, BIAS, SIGMA)), sampled=True)
    h = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    members = np.array([3, 9, 4, 70, 8, 0])
    whole = fit.epsilon(1, h, members)
    parts = torch.cat([fit.epsilon(1, h[:2], members[:2]), fit.epsilon(1, h[2:], members[2:])])
    assert torch.equal(whole, parts)
    mean = fit_d2dpm(recorded_run(*planted(1, K, BIAS, SIGMA)))
    scale = np.sqrt(fit.conditional_variance)[:, :, None, None]
    draws = [(mean.epsilon(i, h, members) - fit.epsilon(i, h, members)).numpy() / scale[i] for i in (0, 1, 2)]
    correlation = np.corrcoef([draw.ravel() for draw in draws]) - np.eye(3)
    assert np.abs(correlation).max() < 4 / np.sqrt(h.numel())  # 0.29: steps share no draw
    other = fit_d2dpm(recorded_run(*planted(1, K, BIAS, SIGMA)), sampled=True, seed=1)
    assert not torch.equal(other.epsilon(1, h, members), whole)


@pytest.mark.parametrize("sampled", [False, True])
def test_d2dpm__without_noise_is_the_identity_bit_for_bit(sampled: bool) -> None:
    y, _ = planted(3, [0.0, 0.0], [[0.0], [0.0]], [0.0, 0.0], samples=8, mean=0.3)
    fit = fit_d2dpm(recorded_run(y, np.zeros_like(y)), sampled=sampled)
    epsilon = torch.from_numpy(y[0].copy())
    epsilon[0, 0, :2] = torch.tensor([0.0, -0.0])
    assert fit.epsilon(0, epsilon, np.arange(8)).numpy().tobytes() == epsilon.numpy().tobytes()
    assert fit.update(0, SAMPLER.updates[0]) is SAMPLER.updates[0]
    assert fit.input(0, epsilon) is epsilon


def test_d2dpm__keeps_the_dtype() -> None:
    fit = fit_d2dpm(recorded_run(*planted(1, K, BIAS, SIGMA)), sampled=True)
    assert fit.epsilon(0, torch.zeros(2, 2, 3, 3, dtype=torch.float32), np.arange(2)).dtype == torch.float32


def test_outlier_share_bound__holds_for_heavy_tails_and_is_3_16_for_a_gaussian() -> None:
    y, e = planted(1, [0.0], [[0.0]], [1.0], samples=256, elements=256)
    assert float(outlier_share_bound(recorded_run(y, e))[0, 0]) == pytest.approx(3 / 16, rel=0.05)
    heavy = np.random.default_rng(1).standard_t(5, e.shape)
    bound = float(outlier_share_bound(recorded_run(y, heavy))[0, 0])
    z = (heavy - heavy.mean()) / heavy.std()
    share = (z**2 * (np.abs(z) > 4)).mean()
    assert 0.01 < share < bound <= 1


def test_fit_d2dpm__refuses_what_is_no_calibration_and_other_uses() -> None:
    run = recorded_run(*planted(1, K, BIAS, SIGMA))
    fit = fit_d2dpm(run, sampled=True)
    fit.check(use())
    with pytest.raises(BadInput, match=r"sampler\.eta"):
        fit.check(use(sampler={**CONFIG["sampler"], "eta": 0.5}))
    with pytest.raises(BadInput, match="other samples"):
        fit.check(use(purpose="calibrate"))
    with pytest.raises(BadInput, match="independent"):
        fit.check(use(purpose="d2dpm"))
    with pytest.raises(BadInput, match="purpose"):
        fit_d2dpm(recorded_run(*planted(1, K, BIAS, SIGMA, samples=8), purpose="evaluate"))
    with pytest.raises(BadInput, match="8 replicate blocks"):
        fit_d2dpm(recorded_run(*planted(1, K, BIAS, SIGMA, samples=7)))
    with pytest.raises(BadInput, match="by"):
        fit_d2dpm(run, by="pixel")
    y, e = planted(1, [0.1], [[0.0]], [0.0], samples=8)
    with pytest.raises(BadInput, match="vary"):
        fit_d2dpm(recorded_run(0 * y, 0 * e))
    configs = [fit_d2dpm(run, by=b, sampled=s, seed=7).config() for b in ("channel", "step") for s in (False, True)]
    assert len({canonical(config) for config in configs}) == len({config["name"] for config in configs}) == 4
