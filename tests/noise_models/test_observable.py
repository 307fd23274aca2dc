"""Claim: D2-DPM's statistics are the regression of noise on the quantized output, of all elements or within 4 sigma."""

import numpy as np
import pytest
from planted_noise import planted, recorded_images, recorded_one_sample_per_block, recorded_run

from noise_models import decompose, decompose_observable, estimate_ptqd, fit_d2dpm, fit_ptqd
from samplers import BadInput

K, BIAS, SIGMA = [0.2, -0.1], [[0.1, -0.3], [0.0, 0.2]], [0.3, 0.5]


@pytest.mark.parametrize("by", ["step", "channel"])
def test_decompose_observable__equals_regression_on_the_output_of_raw_arrays(by: str) -> None:
    y, e = planted(1, K, BIAS, SIGMA, samples=100, elements=20, mean=2.0)
    e = (y + e) - y
    result = decompose_observable(recorded_run(y, e), by=by)
    for step in range(2):
        for channel in (slice(None),) if by == "step" else (0, 1):
            output, noise = (v[step][:, channel].ravel() for v in (y + e, e))
            slope, offset = np.polyfit(output, noise, 1)
            here = result.isel(step=step) if by == "step" else result.isel(step=step, channel=channel)
            expected = {
                "slope": slope, "mean_output": output.mean(), "mean_noise": noise.mean(),
                "deviation_noise": noise.std(), "deviation_output": output.std(),
                "rho": np.corrcoef(output, noise)[0, 1],
                "conditional_variance": np.mean((noise - slope * output - offset) ** 2),
            }  # fmt: skip
            for name, value in expected.items():
                np.testing.assert_allclose(here[name], value, rtol=1e-9, err_msg=name)
                assert here[f"{name}_low"] < value < here[f"{name}_high"], name


def test_decompose_observable__clips_rho_so_that_some_variance_is_left() -> None:
    y, _ = planted(2, [0.0], [[0.0]], [0.0])
    result = decompose_observable(recorded_run(y, 0.5 * y))
    assert result.rho[0] == 0.9999
    np.testing.assert_allclose(result.conditional_variance[0], 0.25 * y.var() * (1 - 0.9999**2), rtol=1e-9)
    silent = decompose_observable(recorded_run(y, 0 * y))
    assert silent.slope[0] == silent.conditional_variance[0] == 0
    assert np.isnan(silent.rho[0])


def test_decompose_observable__removal_drops_elements_beyond_4_sigma_once() -> None:
    generator = np.random.default_rng(3)
    y = 3 + generator.standard_normal((1, 64, 2, 8, 8))
    e = 0.1 * y - 1 + 0.05 * generator.standard_normal(y.shape)
    e[0, ::7, 0, 3, 3] += 3.0
    e = e.astype(np.float32).astype(float)
    y = y.astype(np.float32).astype(float)
    run = recorded_images(y, e)
    output, noise = (y + e).ravel(), e.ravel()
    inside = (abs(output - output.mean()) <= 4 * output.std()) & (abs(noise - noise.mean()) <= 4 * noise.std())
    slope = np.polyfit(output[inside], noise[inside], 1)[0]
    result = decompose_observable(run, outliers="removed")
    np.testing.assert_allclose(result.removed_share[0], 1 - inside.mean(), rtol=1e-12)
    np.testing.assert_allclose(result.slope[0], slope, rtol=1e-5)
    np.testing.assert_allclose(result.deviation_noise[0], noise[inside].std(), rtol=1e-5)
    assert float(result.deviation_noise[0]) < 0.8 * float(decompose_observable(run).deviation_noise[0])
    with pytest.raises(BadInput, match="subsample"):
        decompose_observable(run.drop_vars("noise_kept_injected"), outliers="removed")
    with pytest.raises(BadInput, match="epsilon"):
        decompose_observable(run, "site_injected")


def test_decompose_observable__intervals_cover_at_their_nominal_rate() -> None:
    trials = 1000  # standard error 0.69 %
    k, bias, sigma = np.full(trials, 0.2), np.full((trials, 1), 0.1), np.full(trials, 0.3)
    run = recorded_one_sample_per_block(*planted(4, k, bias, sigma, samples=64, elements=4))
    output, noise, joint = 1.2**2 + 0.09, 0.04 + 0.09, 0.2 * 1.2 + 0.09
    truths = {
        "slope": joint / output, "rho": joint / np.sqrt(output * noise), "mean_noise": 0.1,
        "deviation_output": np.sqrt(output), "conditional_variance": noise - joint**2 / output,
    }  # fmt: skip
    for method in ("jackknife", "bootstrap"):
        result = decompose_observable(run, method=method)
        for name, truth in truths.items():
            covered = (result[f"{name}_low"] <= truth) & (truth <= result[f"{name}_high"])
            assert 0.92 <= float(covered.mean()) <= 0.98, (method, name)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_ptqd_parameters__are_those_of_the_fit_with_intervals(variant: str) -> None:
    run = recorded_run(*planted(5, [*K, 0.3], [*BIAS, [0.4, 0.4]], [*SIGMA, 0.1], mean=1.0, samples=100))
    fit, found = fit_ptqd(run, variant), estimate_ptqd(run, variant)
    for name in ("k", "bias", "residual_variance"):
        np.testing.assert_allclose(found[name], getattr(fit, name), rtol=1e-12)
    assert found.k_is_cut.values.tolist() == [False, True, False]
    np.testing.assert_allclose(found.k[[0, 2]], decompose(run).slope[[0, 2]])
    assert ((found.bias_low < found.bias) & (found.bias < found.bias_high)).all()


def test_ptqd_parameters__refuse_a_corrected_run_and_one_without_samples() -> None:
    noise = planted(5, K, BIAS, SIGMA, samples=16)
    with pytest.raises(BadInput, match="without a correction"):
        estimate_ptqd(recorded_run(*noise, correction={"name": "ptqd"}))
    for of in (estimate_ptqd, fit_ptqd):
        with pytest.raises(BadInput, match="moments per sample"):
            of(recorded_run(*noise).drop_vars("epsilon_sample_injected"), "released")


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_ptqd_parameters__cover_at_their_nominal_rate(variant: str) -> None:
    # Raw bias of the released variant: b + k mean(y). Its sigma_q is the mean over samples of a deviation of 16
    # elements, below sigma by a factor that the mean of 2 x 10^5 such deviations of other samples gives.
    trials, elements = 600, 16  # standard error 0.9 %: 92 is three below
    generator = np.random.default_rng(6)
    shape = (trials, 32, 1, elements)
    y = 1 + generator.standard_normal(shape)
    e = 0.2 * y + 0.1 + 0.3 * generator.standard_normal(shape)
    found = estimate_ptqd(recorded_run(y, e), variant)
    mean_deviation = 0.3 * generator.standard_normal((200_000, elements)).std(1).mean()
    truths = {"k": 0.2, "bias": 0.1, "residual_variance": 0.09}
    if variant == "released":
        truths |= {"bias": 0.3, "residual_variance": mean_deviation**2}
    for name, truth in truths.items():
        covered = (found[f"{name}_low"] <= truth) & (truth <= found[f"{name}_high"])
        assert 0.92 <= float(covered.mean()) <= 0.98, name


@pytest.mark.parametrize("by", ["step", "channel"])
def test_decompose_observable__agrees_with_the_correction_fitted_on_the_same_run(by: str) -> None:
    run = recorded_run(*planted(7, K, BIAS, SIGMA, mean=1.0))
    fit, found = fit_d2dpm(run, by=by), decompose_observable(run, by=by)
    for name in ("mean_output", "mean_noise", "slope", "conditional_variance"):
        expected = found[name].values if by == "channel" else found[name].values[:, None]
        np.testing.assert_allclose(getattr(fit, name), np.broadcast_to(expected, (2, 2)), rtol=1e-9, err_msg=name)
