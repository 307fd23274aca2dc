"""Claim: PTQD is fitted to the noise that was planted, lowers it on other samples, and refuses any other use."""

import copy

import numpy as np
import pytest
import torch
from planted_noise import CONFIG, SAMPLER, planted, recorded_run

from noise_models import PTQD, absorb, decompose, fit_ptqd, sqnr_db
from samplers import DDIM, BadInput

K, BIAS, SIGMA = [0.2, 0.05, 0.4], [[0.1, -0.3], [0.0, 0.2], [0.5, 0.4]], [0.3, 0.1, 0.2]


def fitted(variant: str = "paper", *, mean: float = 0.0, **options) -> PTQD:
    return fit_ptqd(recorded_run(*planted(1, K, BIAS, SIGMA, mean=mean)), variant, **options)


def use(**changes) -> dict:
    return {**copy.deepcopy(CONFIG), "purpose": "evaluate", **changes}


def test_fit_ptqd__recovers_slope_bias_and_variance_within_standard_errors() -> None:
    # 256 samples x 2 channels x 64 elements: se(k) = sigma / sqrt(n), se(bias) = sigma / sqrt(n / 2) at y of mean 0,
    # se(sigma^2) = sigma^2 sqrt(2 / n). Twelve comparisons at 4 standard errors: false alarm below 0.1 %.
    n = 256 * 2 * 64
    fit, sigma = fitted(), np.array(SIGMA)
    assert (np.abs(fit.k - K) < 4 * sigma / np.sqrt(n)).all()
    assert (np.abs(fit.bias - BIAS) < 4 * sigma[:, None] / np.sqrt(n / 2)).all()
    # The slope is that of one line through both channels, but within each channel the variance is the planted one.
    assert (np.abs(fit.residual_variance - sigma**2) < 4 * sigma**2 * np.sqrt(2 / n)).all()


def test_fit_ptqd__released_takes_the_raw_mean_as_bias_and_the_mean_deviation_of_samples() -> None:
    y, e = planted(1, K, BIAS, SIGMA, mean=1.0)
    e = (y + e) - y
    fit = fit_ptqd(recorded_run(y, e), "released")
    np.testing.assert_allclose(fit.bias, e.mean((1, 3)), rtol=1e-10, atol=1e-12)
    residual = e - fit.k[:, None, None, None] * y
    deviation = residual.reshape(*residual.shape[:2], -1).std(2).mean(1)
    np.testing.assert_allclose(fit.residual_variance, deviation**2, rtol=1e-10)
    paper = fitted(mean=1.0)
    np.testing.assert_allclose(fit.k, paper.k, rtol=1e-12)
    assert (np.abs(fit.bias - paper.bias) > 0.03).all()  # by k mean(y)


def test_fit_ptqd__counts_a_negative_slope_as_0_and_leaves_it_in_the_residual() -> None:
    y, e = planted(2, [-0.3], [[0.2]], [0.1])
    run = recorded_run(y, e)
    fit = fit_ptqd(run)
    assert decompose(run).slope[0] < -0.29
    assert fit.k[0] == 0
    np.testing.assert_allclose(fit.bias, e.mean((1, 3)), rtol=1e-10)
    np.testing.assert_allclose(fit.residual_variance, e.var((1, 2, 3)), rtol=1e-10)


def test_fit_ptqd__signed_keeps_a_negative_slope_and_removes_it() -> None:
    y, e = planted(2, [-0.3], [[0.2]], [0.1])
    fit, clipped = (fit_ptqd(recorded_run(y, e), signed=signed) for signed in (True, False))
    assert fit.k[0] == pytest.approx(-0.3, abs=0.01)
    assert fit.residual_variance[0] == pytest.approx(0.01, rel=0.05)
    corrected = fit.epsilon(0, torch.from_numpy((y + e)[0]), np.arange(256)).numpy() - y[0]
    assert (corrected**2).mean() == pytest.approx(0.01 / 0.7**2, rel=0.05)
    assert (fit.name, clipped.name) == ("ptqd-signed", "ptqd")
    assert "signed" not in clipped.config()
    with pytest.raises(BadInput, match="above -1"):
        fit_ptqd(recorded_run(y, -1.5 * y), signed=True)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_ptqd__lowers_injected_noise_on_held_out_samples_to_the_residual(variant: str) -> None:
    correction = fitted(variant)
    y, e = planted(99, K, BIAS, SIGMA)  # other samples than those of the fit
    corrected = np.stack(
        [
            correction.epsilon(i, torch.from_numpy(y[i] + e[i]), np.arange(len(y[i]))).numpy() - y[i]
            for i in range(len(y))
        ]
    )
    before, after = (sqnr_db(recorded_run(y, noise)) for noise in (e, corrected))
    assert (after.sqnr_db_low > before.sqnr_db_high).all()
    # What remains is the residual divided by 1 + k: relative standard error sqrt(2 / 32768) = 0.8 % per step, and of
    # the fit's bias 0.003 of the variance.
    left = (corrected**2).mean((1, 2, 3)) * (1 + np.array(K)) ** 2 / np.array(SIGMA) ** 2
    np.testing.assert_allclose(left, 1, atol=0.04)


def test_ptqd__without_noise_is_the_identity_bit_for_bit() -> None:
    y, _ = planted(3, [0.0, 0.0], [[0.0], [0.0]], [0.0, 0.0], samples=8)
    for variant in ("paper", "released"):
        correction = fit_ptqd(recorded_run(y, np.zeros_like(y)), variant)
        epsilon = torch.from_numpy(y[0])
        epsilon[0, 0, :2] = torch.tensor([0.0, -0.0])
        assert correction.epsilon(0, epsilon, np.arange(len(epsilon))).numpy().tobytes() == epsilon.numpy().tobytes()
        assert correction.update(0, SAMPLER.updates[0]) is SAMPLER.updates[0]


def test_ptqd__update_absorbs_its_own_residual_or_leaves_the_noise() -> None:
    update = SAMPLER.updates[1]
    for variant in ("paper", "released"):
        fit = fitted(variant)
        assert fit.update(1, update) == absorb(update, fit.k[1], fit.residual_variance[1], variant)
        assert fit.update(1, update).c < update.c
        assert fitted(variant, absorb=False).update(1, update) is update


def test_ptqd__keeps_the_dtype_and_takes_bias_per_channel() -> None:
    correction = fitted()
    epsilon = torch.zeros(5, 2, 3, 4, dtype=torch.float32)
    corrected = correction.epsilon(2, epsilon, np.arange(len(epsilon)))
    assert corrected.dtype == torch.float32
    expected = -correction.bias[2] / (1 + correction.k[2])
    np.testing.assert_allclose(corrected[4, :, 1, 2], expected, rtol=1e-6)


def test_ptqd__configuration_is_plain_and_tells_fits_apart() -> None:
    run = recorded_run(*planted(1, K, BIAS, SIGMA))
    other = recorded_run(*planted(1, K, BIAS, SIGMA), seed=5)
    fits = [fit_ptqd(d, v, a) for d in (run, other) for v in ("paper", "released") for a in (True, False)]
    from simulator.provenance import canonical

    assert len({canonical(fit.config()) for fit in fits}) == 8
    assert {fit.name for fit in fits} == {"ptqd", "ptqd-unabsorbed", "ptqd-released", "ptqd-released-unabsorbed"}
    assert fits[0].config()["fit"]["seed"] == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": "toy@2"}, "model"),
        ({"weights_digest": "1" * 64}, "weights_digest"),
        ({"scheme": "w4a8"}, "scheme"),
        ({"ranges": {"observer": "min-max", "seed": 1, "samples": 64}}, "ranges.seed"),
        ({"target": "int20"}, "target"),
        ({"numerics_version": 2}, "numerics_version"),
        ({"state": "Float32State"}, "state"),
        ({"sampler": DDIM(SAMPLER.schedule, 50, eta=0.5, steps_offset=1).config()}, "sampler.eta"),
        ({"sampler": DDIM(SAMPLER.schedule, 40, eta=1.0, steps_offset=1).config()}, "sampler.num_inference_steps"),
    ],
)
def test_check__names_the_field_in_which_the_use_differs(changes: dict, field: str) -> None:
    fitted().check(use())
    with pytest.raises(BadInput, match=f"whose {field} is"):
        fitted().check(use(**changes))


def test_check__admits_what_does_not_change_the_fit() -> None:
    fitted().check(use(threads=2, batch_size=7, samples=1000, seed=3, correction={"name": "ptqd"}))
    fitted().check(use(purpose="calibrate", seed=1))  # another stream
    ranges = {"observer": "min-max", "bounds": [0, 1]}  # stored as JSON, where a tuple is a list
    fit = fit_ptqd(recorded_run(*planted(1, K, BIAS, SIGMA), ranges=ranges))
    fit.check(use(ranges={**ranges, "bounds": (0, 1)}))


def test_check__refuses_the_samples_of_the_fit() -> None:
    with pytest.raises(BadInput, match="other samples"):
        fitted().check(use(purpose="calibrate", seed=0))


def test_fit_ptqd__refuses_runs_that_are_no_calibration() -> None:
    noise = planted(1, K, BIAS, SIGMA, samples=8)
    fit_ptqd(recorded_run(*noise))
    with pytest.raises(BadInput, match="purpose"):
        fit_ptqd(recorded_run(*noise, purpose="evaluate"))
    with pytest.raises(BadInput, match="without a correction"):
        fit_ptqd(recorded_run(*noise, correction={"name": "ptqd"}))
    with pytest.raises(BadInput, match="8 replicate blocks"):
        fit_ptqd(recorded_run(*planted(1, K, BIAS, SIGMA, samples=7)))
    with pytest.raises(BadInput, match="injected"):
        fit_ptqd(recorded_run(*noise).drop_vars("epsilon_injected"))
    with pytest.raises(BadInput, match="variant"):
        fit_ptqd(recorded_run(*noise), "draft")
    y, e = noise
    with pytest.raises(BadInput, match="step 1"):
        fit_ptqd(recorded_run(np.where(np.arange(3)[:, None, None, None] == 1, 0.5, y), e))


def test_ptqd__refuses_values_that_are_no_fit() -> None:
    good = fitted()
    with pytest.raises(ValueError, match="read-only"):
        good.k[0] = 1
    for k, bias, variance in (
        ([-0.1], [[0.0]], [0.1]),
        ([0.1], [[0.0]], [-0.1]),
        ([0.1], [[np.nan]], [0.1]),
        ([0.1], [0.0], [0.1]),
        ([0.1, 0.2], [[0.0]], [0.1]),
    ):
        with pytest.raises(BadInput):
            PTQD(np.array(k), np.array(bias), np.array(variance), "paper", True, {})
