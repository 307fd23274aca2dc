"""Claim: the path of Gaussian data under a sampler is what sampling gives: exactly, up to the fresh noise's own spread.

Deterministic samplers are compared sample by sample (float64, 1e-8 relative), stochastic ones by their variance within
5 standard errors; multistep updates against a plain loop over their definition.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from exact_samples import drawn_path

import simulator
from noise_models import final_variance, gaussian_path, sampler_error
from samplers import DDIM, DDPM, BadInput, NoiseSchedule, NoiseStream, sample
from samplers.coefficients import Earlier
from simulator.models.gaussian import Gaussian
from simulator.models.subjects import gaussian

LATENT = NoiseSchedule("scaled_linear", 1000, 0.0015, 0.0195)
SCHEDULE = NoiseSchedule()


def correlated(seed: int = 0, d: int = 5) -> Gaussian:
    draw = np.random.default_rng(seed)
    root = draw.standard_normal((d, d))
    return Gaussian.from_covariance(draw.standard_normal(d), root @ root.T / d)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 10, 50])
def test_path__is_ddim_sample_by_sample(prediction: str, spacing: str, steps: int) -> None:
    data = correlated()
    sampler = DDIM(SCHEDULE, steps, timestep_spacing=spacing, prediction_type=prediction)
    noise = NoiseStream(0, "test")
    states: list[np.ndarray] = []
    sample(
        data.denoiser(SCHEDULE, prediction), sampler, noise, range(6), (5,), denoiser_dtype=torch.float64,
        callback=lambda step, timestep, x, output, x_next: states.append(x_next.numpy()),
    )  # fmt: skip
    path = gaussian_path(sampler, data)
    start = data.rotate(noise.initial(range(6), (5,)).numpy())
    # eta = 0: each step multiplies a direction's deviation from the mean, so x is the same multiple of x_T's.
    for i, x in enumerate(states):
        gains = path.variance[i + 1] ** 0.5
        along = data.rotate(x) - path.mean[i + 1]
        scale = np.abs(along).max()
        np.testing.assert_allclose(np.abs(along), gains * np.abs(start), rtol=1e-8, atol=1e-8 * scale)
        np.testing.assert_allclose(path.at(i + 1).mean, data.unrotate(path.mean[i + 1]), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "sampler",
    [DDIM(SCHEDULE, 10, eta=0.5), DDIM(SCHEDULE, 20, eta=1.0), DDPM(SCHEDULE, 20), DDPM(SCHEDULE, 20, "fixed_large")],
    ids=["ddim-0.5", "ddim-1", "ddpm", "ddpm-large"],
)
def test_path__variance_of_stochastic_samplers_is_met_within_5_standard_errors(sampler) -> None:
    data, n = correlated(), 6000
    states = drawn_path(data.denoiser(SCHEDULE), sampler, n, 5)
    path = gaussian_path(sampler, data)
    for i, x in enumerate(states):
        along = data.rotate(x)
        assert np.all(np.abs(along.mean(0) - path.mean[i + 1]) < 5 * (path.variance[i + 1] / n) ** 0.5)
        # A normal's sample variance has relative standard error sqrt(2 / n).
        assert np.all(np.abs(along.var(0) / path.variance[i + 1] - 1) < 5 * (2 / n) ** 0.5)


@pytest.mark.parametrize(("steps", "variance"), [(10, 0.58), (20, 0.73), (50, 0.86), (100, 0.92), (250, 0.96)])
def test_path__gives_the_published_final_variances(steps: int, variance: float) -> None:
    for sampler in (DDIM(LATENT, steps, eta=1.0), DDPM(LATENT, steps)):
        found = gaussian_path(sampler, Gaussian.standard(1)).variance[-1, 0]
        assert found == pytest.approx(variance, abs=0.005), sampler.name


def with_history(sampler, draw: np.random.Generator):
    """The sampler's updates with random weights on up to three earlier predictions."""
    return tuple(
        dataclasses.replace(
            update, history=tuple(Earlier(*np.float64(draw.normal(0, 0.2, 2))) for _ in range(min(i, 3)))
        )
        for i, update in enumerate(sampler.updates)
    )


def test_path__carries_earlier_predictions() -> None:
    data = correlated()
    sampler = DDIM(SCHEDULE, 8, eta=0.7)
    updates = with_history(sampler, np.random.default_rng(5))
    path = gaussian_path(sampler, data, updates=updates)
    # The definition, on the mean alone, and on each source of noise alone: responses of a linear system.
    sources = [("start", i) for i in range(5)] + [(step, i) for step in range(8) for i in range(5)]
    variance = np.zeros((9, 5))
    mean = walked(data, updates, np.zeros(5), {})
    for where, direction in sources:
        unit = data.unrotate(np.eye(5)[direction])
        moved = (
            walked(data, updates, unit, {}) if where == "start" else walked(data, updates, np.zeros(5), {where: unit})
        )
        variance += data.rotate(moved - mean) ** 2
    np.testing.assert_allclose(path.mean, data.rotate(mean), rtol=0, atol=1e-12)
    np.testing.assert_allclose(path.variance, variance, rtol=1e-10, atol=1e-14)


def walked(data: Gaussian, updates, x: np.ndarray, noise: dict) -> np.ndarray:
    """x at every step of one trajectory, by the update's definition."""
    states, earlier = [x], []
    for i, u in enumerate(updates):
        abar = float(u.alpha_cumprod)
        x0, epsilon = (data.predict(x[None], abar, kind)[0] for kind in ("sample", "epsilon"))
        new = u.x0_coefficient * x0 + u.x_coefficient * x + u.epsilon_coefficient * epsilon
        for weights, (x0_before, epsilon_before) in zip(u.history, earlier, strict=False):
            new = new + weights.x0_coefficient * x0_before + weights.epsilon_coefficient * epsilon_before
        x = new + u.noise_coefficient * noise.get(i, 0.0)
        earlier.insert(0, (x0, epsilon))
        states.append(x)
    return np.array(states)


def test_path__added_noise_reaches_later_steps_through_history() -> None:
    data, n = correlated(d=3), 60_000
    sampler = DDIM(SCHEDULE, 6, eta=0.3)
    updates = with_history(sampler, np.random.default_rng(6))
    added = np.array([0.0, 0.3, 0.1, 0.0, 0.2, 0.05])
    path = gaussian_path(sampler, data, updates=updates, epsilon_variance=added)
    draw = np.random.default_rng(7)
    x, earlier = draw.standard_normal((n, 3)), []
    plain = gaussian_path(sampler, data, updates=updates)
    np.testing.assert_allclose(path.variance, plain.variance + path.added_variance, rtol=1e-12)
    np.testing.assert_array_equal(plain.added_variance, 0)
    for u, q in zip(updates, added, strict=True):
        abar = float(u.alpha_cumprod)
        epsilon = data.predict(x, abar) + q**0.5 * draw.standard_normal((n, 3))
        x0 = (x - (1 - abar) ** 0.5 * epsilon) / abar**0.5
        new = (
            u.x0_coefficient * x0 + u.epsilon_coefficient * epsilon + u.noise_coefficient * draw.standard_normal((n, 3))
        )
        for weights, (x0_before, epsilon_before) in zip(u.history, earlier, strict=False):
            new = new + weights.x0_coefficient * x0_before + weights.epsilon_coefficient * epsilon_before
        earlier.insert(0, (x0, epsilon))
        x = new
    along = data.rotate(x)
    assert np.all(np.abs(along.var(0) / path.variance[-1] - 1) < 5 * (2 / n) ** 0.5)
    assert np.all(np.abs(along.mean(0) - path.mean[-1]) < 5 * (path.variance[-1] / n) ** 0.5)


def test_path__added_variance_is_the_mean_squared_difference_on_shared_noise() -> None:
    data, n, q = gaussian().module.data, 400, 0.05
    sampler = DDIM(SCHEDULE, 10, eta=0.6)
    network, draw = data.denoiser(SCHEDULE), torch.Generator().manual_seed(8)

    def noisy(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return network(x, timestep) + q**0.5 * torch.randn(x.shape, dtype=torch.float64, generator=draw)

    both = [
        sample(denoiser, sampler, NoiseStream(0, "test"), range(n), (64,), denoiser_dtype=torch.float64).numpy()
        for denoiser in (network, noisy)
    ]
    squared = data.rotate(both[1] - both[0]) ** 2
    want = gaussian_path(sampler, data, epsilon_variance=q).added_variance[-1]
    assert np.all(np.abs(squared.mean(0) / want - 1) < 5 * (2 / n) ** 0.5)


@pytest.mark.parametrize("sampler", [DDIM(SCHEDULE, 10, eta=0.6), DDPM(SCHEDULE, 10)], ids=["ddim", "ddpm"])
def test_path__added_variance_is_that_of_the_error_recursion(sampler) -> None:
    # Two derivations: linear forms of every source, and the recursion of the difference alone.
    data = gaussian().module.data
    q = np.random.default_rng(9).random(10)
    gains = np.stack([data.gains(float(update.alpha_cumprod)) for update in sampler.updates])
    want = final_variance(sampler, q, gains)
    np.testing.assert_allclose(gaussian_path(sampler, data, epsilon_variance=q).added_variance[-1], want, rtol=1e-10)


def test_path__is_met_by_the_shipped_subject() -> None:
    model = simulator.load("gaussian")
    sampler, noise = DDIM(model.schedule, 50), NoiseStream(0, "test")
    data, path = model.module.data, gaussian_path(sampler, model.module.data)
    x = sample(model.module, sampler, noise, range(4), model.sample_shape, denoiser_dtype=torch.float64)
    # Every gain of this sampler on these data is positive: the closed form of x itself, not only of its distribution.
    start = data.rotate(noise.initial(range(4), model.sample_shape).reshape(4, 64).numpy())
    want = data.unrotate(path.mean[-1] + path.variance[-1] ** 0.5 * start)
    np.testing.assert_allclose(x.reshape(4, 64).numpy(), want, rtol=1e-8, atol=1e-10)


def test_path__from_the_exact_marginal_of_standard_normal_data_stays_there_under_fixed_large() -> None:
    # Ho et al. (section 3.2): fixed_large is exact for N(0, I), but for the last step, which adds no noise.
    sampler = DDPM(LATENT, 30, "fixed_large")
    path = gaussian_path(sampler, Gaussian.standard(2))
    np.testing.assert_allclose(path.variance[:-1], 1.0, rtol=1e-12)
    np.testing.assert_allclose(path.alpha_cumprod[:-1], [float(u.alpha_cumprod) for u in sampler.updates])
    assert path.alpha_cumprod[-1] == 1


def test_path__refuses_what_has_no_closed_form() -> None:
    data = correlated()
    with pytest.raises(BadInput, match="linear updates, got a ddim sampler that clips"):
        gaussian_path(DDIM(SCHEDULE, 5, clip_sample=True), data)
    with pytest.raises(BadInput, match="needs an update"):
        gaussian_path(DDIM(SCHEDULE, 5), data, updates=[])
    with pytest.raises(BadInput, match="directions"):
        gaussian_path(DDIM(SCHEDULE, 5), data, start=correlated(1))
    with pytest.raises(BadInput, match="epsilon_variance"):
        gaussian_path(DDIM(SCHEDULE, 5), data, epsilon_variance=[0.1, 0.1])
    with pytest.raises(BadInput, match="epsilon_variance"):
        gaussian_path(DDIM(SCHEDULE, 5), data, epsilon_variance=-0.1)
    zero = NoiseSchedule(rescale_betas_zero_snr=True)
    with pytest.raises(BadInput, match="abar is above 0"):
        gaussian_path(
            DDIM(zero, 5, prediction_type="v_prediction", timestep_spacing="trailing"), data, epsilon_variance=0.1
        )


def test_sampler_error__falls_with_the_steps_and_keeps_the_start_apart() -> None:
    data = gaussian().module.data
    errors = [sampler_error(DDIM(SCHEDULE, n, timestep_spacing="trailing"), data) for n in (10, 20, 40, 80)]
    exact = np.array([found.data_wasserstein.sel(start="exact_marginal") for found in errors])
    assert np.all(np.diff(np.log2(exact)) < -0.8)  # order 1
    for found, n in zip(errors, (10, 20, 40, 80), strict=True):
        assert found.sampler_kl.shape == (2, n)
        # The last step leads to abar = 1, the data: the same number twice.
        np.testing.assert_allclose(found.sampler_wasserstein[:, -1], found.data_wasserstein, rtol=1e-12)
        assert found.attrs["quantity"].endswith("in full precision")
        assert np.isfinite(found.sampler_kl).all()
        assert (found.sampler_kl >= 0).all()


def test_sampler_error__is_that_of_the_start_where_the_steps_are_exact() -> None:
    # One dimension, N(0, 1) and DDPM fixed_large: no step errs, and N(0, 1) is the exact start.
    found = sampler_error(DDPM(LATENT, 20, "fixed_large"), Gaussian.standard(1))
    assert float(found.sampler_wasserstein[:, :-1].max()) < 1e-12
    # The last step: variance abar_0 where 1 is right.
    last = float(LATENT.alphas_cumprod[0])
    assert float(found.data_wasserstein[0]) == pytest.approx(1 - last**0.5, rel=1e-9)
    # Data of mean 3: the start's mean is 0, the marginal's sqrt(abar) 3.
    shifted = sampler_error(DDIM(LATENT, 20), Gaussian(np.array([3.0]), np.array([0.2])))
    assert (
        shifted.sampler_mean_error.sel(start="standard_normal") > shifted.sampler_mean_error.sel(start="exact_marginal")
    ).all()
