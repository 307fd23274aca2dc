"""Claim: what a fit leaves of other samples' noise is computed as directly, covers, and is refused out of its scope."""

import numpy as np
import pytest
from planted_noise import SAMPLER, planted, recorded_one_sample_per_block, recorded_run

from noise_models import PREDICTORS, decompose, evaluate_held_out, fit_ptqd, measure_drift, samples_needed
from noise_models.inference.verdicts import word
from samplers import DDIM, BadInput

K, BIAS, SIGMA = [0.2, 0.05, 0.4], [[0.1, -0.3], [0.0, 0.2], [0.5, 0.4]], [0.3, 0.1, 0.2]


def fit_run(**config):
    return recorded_run(*planted(1, K, BIAS, SIGMA, mean=1.0), **config)


def use_run(**config):
    return recorded_run(*planted(2, K, BIAS, SIGMA, mean=1.0), **{"purpose": "evaluate", **config})


def left_directly(predictor: str, fitted, use) -> np.ndarray:
    """What a predictor leaves, by numpy's own least squares on raw elements."""
    (y0, e0), (y, e) = fitted, use
    left = np.empty_like(e)
    for i in range(len(y)):
        k, _ = np.polyfit(y0[i].ravel(), e0[i].ravel(), 1)
        k = k if predictor == "line" else max(k, 0.0)
        bias = (e0[i] - k * y0[i]).mean((0, 2))[:, None]
        if predictor == "bias":
            left[i] = e[i] - e0[i].mean((0, 2))[:, None]
        elif predictor == "line":
            left[i] = e[i] - k * y[i] - bias
        elif predictor.startswith("ptqd"):
            bias = e0[i].mean((0, 2))[:, None] if predictor == "ptqd-released" else bias
            left[i] = (y[i] + e[i] - bias) / (1 + k) - y[i]
        elif predictor == "observable":
            left[i] = e[i] - np.polyval(np.polyfit((y0 + e0)[i].ravel(), e0[i].ravel(), 1), (y + e)[i])
        else:
            for c in range(y.shape[2]):
                line = np.polyfit((y0 + e0)[i, :, c].ravel(), e0[i, :, c].ravel(), 1)
                left[i, :, c] = e[i, :, c] - np.polyval(line, (y + e)[i, :, c])
    return left


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_evaluate_held_out__equals_the_power_left_of_raw_arrays(predictor: str) -> None:
    k = [0.2, 0.05, -0.4]
    fitted, use = (planted(seed, k, BIAS, SIGMA, mean=1.0) for seed in (1, 2))
    left = left_directly(predictor, fitted, use)
    found = evaluate_held_out(recorded_run(*fitted), recorded_run(*use, purpose="evaluate"), predictor)
    power, unexplained = (use[1] ** 2).mean((1, 2, 3)), (left**2).mean((1, 2, 3))
    np.testing.assert_allclose(found.noise_power, power, rtol=1e-9)
    np.testing.assert_allclose(found.unexplained_power, unexplained, rtol=1e-9)
    np.testing.assert_allclose(found.explained_share, 1 - unexplained / power, rtol=1e-9)
    assert (
        (found.explained_share_low < found.explained_share) & (found.explained_share < found.explained_share_high)
    ).all()


def test_evaluate_held_out__covers_at_its_nominal_rate() -> None:
    # Given the fit, the truth is the expectation of what it leaves: k - k0 and b - b0 of the planted noise are left.
    trials = 800  # steps; standard error 0.77 %
    plant = np.full(trials, 0.3), np.full((trials, 1), 0.1), np.full(trials, 0.3)
    y0, e0 = planted(3, *plant, samples=64, elements=4)
    use = recorded_one_sample_per_block(*planted(4, *plant, samples=64, elements=4))
    use.attrs["config"] = use.attrs["config"].replace('"calibrate"', '"evaluate"')
    fit = recorded_one_sample_per_block(y0, e0)
    line = decompose(fit)
    k0, b0 = line.slope.values, line.intercept.values
    for method in ("jackknife", "bootstrap"):
        found = evaluate_held_out(fit, use, "line", method=method)
        left = (0.3 - k0) ** 2 + (0.1 - b0) ** 2 + 0.09
        truth = 1 - left / (0.09 + 0.01 + 0.09)
        covered = (found.explained_share_low <= truth) & (truth <= found.explained_share_high)
        assert 0.92 <= float(covered.mean()) <= 0.98, method


def test_evaluate_held_out__verdict_is_that_of_the_interval() -> None:
    # A line that holds on other samples; one that has turned round; a fit that explains next to nothing.
    fit = recorded_run(*planted(5, [0.3, 0.3, 0.0], [[0.0]] * 3, [0.1] * 3))
    use = recorded_run(*planted(6, [0.3, -0.3, 0.0], [[0.0]] * 3, [0.1] * 3), purpose="evaluate")
    found = evaluate_held_out(fit, use)
    assert word(found.noise_verdict)[:2].tolist() == ["falls", "rises"]
    assert word(evaluate_held_out(fit, use, "bias").noise_verdict)[2] == "inconclusive"
    assert found.explained_share[1] < 0
    assert str(found.predictor.values) == "ptqd"


@pytest.mark.parametrize(
    ("fit", "use", "says"),
    [
        ({}, {"scheme": "w4a8"}, "whose scheme is"),
        ({}, {"sampler": DDIM(SAMPLER.schedule, 40, eta=1.0, steps_offset=1).config()}, "num_inference_steps"),
        ({}, {"guidance": 3.0}, "whose guidance is"),
        ({}, {"purpose": "calibrate"}, "other samples"),
        ({"purpose": "evaluate"}, {}, "purpose 'calibrate'"),
        ({}, {"correction": {"name": "ptqd"}}, "use must be a run without a correction"),
        ({"correction": {"name": "ptqd"}}, {}, "fit must be a run without a correction"),
    ],
)
def test_evaluate_held_out__refuses_runs_that_do_not_belong_together(fit: dict, use: dict, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        evaluate_held_out(fit_run(**fit), use_run(**use))


def test_evaluate_held_out__says_how_many_samples_a_fit_needs() -> None:
    few = recorded_run(*planted(1, K, BIAS, SIGMA, samples=7))
    with pytest.raises(BadInput, match="8 samples"):
        evaluate_held_out(few, use_run())
    with pytest.raises(BadInput, match="finite and to vary"):
        evaluate_held_out(recorded_run(*(v * 0 for v in planted(1, K, BIAS, SIGMA))), use_run())
    with pytest.raises(BadInput, match="predictor"):
        evaluate_held_out(fit_run(), use_run(), "cubic")
    state = use_run().rename(epsilon_injected="state_accumulated")
    with pytest.raises(BadInput, match="variable"):  # a prediction of epsilon's noise says nothing of the state's
        evaluate_held_out(fit_run(), state, variable="state_accumulated")


def test_measure_drift__is_the_difference_of_two_decompositions_with_a_paired_interval() -> None:
    y, e = planted(7, [0.1, 0.1], [[0.1], [0.1]], [0.1, 0.1], samples=64)
    extra = 0.02 * np.random.default_rng(8).standard_normal(e.shape)
    later = e + extra + np.array([0.05, 0.0])[:, None, None, None] * y + np.array([0.0, 0.2])[:, None, None, None]
    run = recorded_run(y, e)
    moved = recorded_run(y, later)
    run["epsilon_accumulated"] = moved.epsilon_injected
    found = measure_drift(run)
    before, after = decompose(run), decompose(moved)
    np.testing.assert_allclose(found.slope_change, after.slope - before.slope, rtol=1e-12)
    np.testing.assert_allclose(found.bias_change, after.bias - before.bias, rtol=1e-12)
    ratio = after.residual_variance / before.residual_variance
    np.testing.assert_allclose(found.residual_variance_ratio, ratio, rtol=1e-12)
    assert word(found.slope_change_verdict).tolist() == ["rises", "inconclusive"]
    assert word(found.bias_change_verdict).ravel().tolist() == ["inconclusive", "rises"]
    assert (ratio > 1.02).all()
    assert word(found.residual_variance_ratio_verdict).tolist() == ["rises", "rises"]
    # On the same samples the error of the difference is that of the extra noise alone, a fifth of the noise's own.
    assert (found.slope_change_standard_error < 0.4 * after.slope_standard_error).all()


def test_measure_drift__covers_at_its_nominal_rate_and_refuses_other_samples() -> None:
    trials = 800
    plant = np.full(trials, 0.2), np.full((trials, 1), 0.1), np.full(trials, 0.3)
    y, e = planted(9, *plant, samples=64, elements=4)
    more = 0.05 * y + 0.2 * np.random.default_rng(10).standard_normal(y.shape)
    run, moved = recorded_one_sample_per_block(y, e), recorded_one_sample_per_block(y, e + more)
    found = measure_drift(moved, "epsilon_injected", base=run)
    for name, truth in {"slope_change": 0.05, "bias_change": 0.0, "residual_variance_ratio": 0.13 / 0.09}.items():
        covered = (found[f"{name}_low"] <= truth) & (truth <= found[f"{name}_high"])
        assert 0.92 <= float(covered.mean()) <= 0.98, name
    with pytest.raises(BadInput, match="one seed"):
        measure_drift(use_run(seed=3), "epsilon_injected", base=use_run())
    with pytest.raises(BadInput, match="whose scheme"):
        measure_drift(use_run(scheme="w4a8"), "epsilon_injected", base=use_run())
    corrected = {"name": "ptqd", "fit": fit_ptqd(fit_run()).config()["fit"]}
    measure_drift(use_run(correction=corrected), "epsilon_injected", base=use_run())


def test_samples_needed__gives_the_wanted_precision() -> None:
    few = decompose(recorded_run(*planted(11, [0.3], [[0.0]], [0.3], samples=64), samples=64))
    needed = int(samples_needed(few, "slope", relative=0.005)[0])
    assert needed > 64
    many = recorded_run(*planted(12, [0.3], [[0.0]], [0.3], samples=needed), samples=needed)
    half = float(decompose(many).slope_high[0] - decompose(many).slope_low[0]) / 2
    assert half == pytest.approx(
        0.0015, rel=0.35
    )  # two standard errors of 64 blocks each: sqrt(2) 2 / sqrt(126) = 25 %
    none = decompose(recorded_run(*planted(13, [0.0], [[0.0]], [0.3], samples=64), samples=64))
    assert int(samples_needed(none, "slope", relative=0.5, floor=1.0)[0]) < 64
    with pytest.raises(BadInput, match="slope"):
        samples_needed(few, "gradient")
    with pytest.raises(BadInput, match="above 0"):
        samples_needed(few, "slope", relative=0.0)
