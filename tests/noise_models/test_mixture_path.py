"""Claim: the distribution of a mixture on the line under a sampler is known without sampling, and samples are of it.

The quadrature meets the closed form of a single component to 1e-12. Then weights of components and the 1-Wasserstein
distance of samples are held to it, within 5 standard errors that follow from the number of samples alone; the
distance to the data, which is the sampler's own error, is far outside of them.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from exact_samples import drawn_path
from scipy.special import ndtr

from noise_models import absorb, gaussian_path, line_path, mixture_cdf, sample_wasserstein
from noise_models.exact import mixture_path
from samplers import DDIM, DDPM, BadInput, NoiseSchedule, Sampler
from samplers.coefficients import Earlier
from simulator.models.gaussian import Gaussian
from simulator.models.mixture import Mixture
from simulator.models.subjects import gaussian_mixture

SCHEDULE = NoiseSchedule()
BIMODAL = Mixture([0.3, 0.7], [[-1.0], [1.0]], [[0.01], [0.04]])
SAMPLERS = {
    "ddim": DDIM(SCHEDULE, 20),
    "ddim-0.5": DDIM(SCHEDULE, 20, eta=0.5),
    "ddpm": DDPM(SCHEDULE, 20),
    "ddpm-large": DDPM(SCHEDULE, 20, "fixed_large"),
}
COUNT = 10_000
path = cache(lambda name: line_path(SAMPLERS[name], BIMODAL))


@cache
def samples(name: str) -> np.ndarray:
    prediction = "v_prediction" if name == "ddpm-large" else "epsilon"
    sampler = dataclasses.replace(SAMPLERS[name], prediction_type=prediction)
    return drawn_path(BIMODAL.denoiser(SCHEDULE, prediction), sampler, COUNT, 1)[-1][:, 0]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("q", [0.0, 0.02])
def test_line_path__meets_the_closed_form_of_one_component(name: str, q: float) -> None:
    sampler = SAMPLERS[name]
    added = np.array([q * (update.c > 0) for update in sampler.updates])
    found = line_path(sampler, Mixture([1.0], [[0.4]], [[0.2]]), epsilon_variance=added)
    exact = gaussian_path(sampler, Gaussian(np.array([0.4]), np.array([0.2])), epsilon_variance=added)
    for i in range(len(sampler.updates) + 1):
        assert found.mean(i) == pytest.approx(exact.mean[i, 0], abs=1e-12)
        assert found.variance(i) == pytest.approx(exact.variance[i, 0], rel=1e-11)
    last = Mixture([1.0], exact.mean[-1:], exact.variance[-1:])
    assert found.wasserstein(last) == pytest.approx((0, 0), abs=1e-4)
    assert found.cdf(last.mean[0]) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("steps", [20, 250])
def test_line_path__of_a_run_without_noise_is_its_inverse_map(steps: int) -> None:
    # P(X <= 0) = Phi(y) for the y that ends at 0, which lies where neighbouring nodes end in different components.
    sampler = DDIM(SCHEDULE, steps)
    low, high = -2.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        y = np.array([middle])
        for u in sampler.updates:
            x0, epsilon = (BIMODAL.predict(y[:, None], u.alpha_cumprod, kind)[:, 0] for kind in ("sample", "epsilon"))
            y = u.x0_coefficient * x0 + u.epsilon_coefficient * epsilon
        low, high = (middle, high) if y[0] < 0 else (low, middle)
    assert float(line_path(sampler, BIMODAL).cdf(0.0)) == pytest.approx(ndtr(low), abs=1e-8)


@pytest.mark.parametrize("name", ["ddpm", "ddim-0.5"])
def test_line_path__does_not_depend_on_its_grid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Between two modes a step stretches the line about tenfold: nodes must be fine before it, not only after.
    coarse = path(name)
    monkeypatch.setattr(mixture_path, "PER_SPACING", 2 * mixture_path.PER_SPACING)
    fine = line_path(SAMPLERS[name], BIMODAL)
    assert fine.variance() == pytest.approx(coarse.variance(), rel=1e-11)
    x = np.linspace(-1.5, 1.5, 101)
    np.testing.assert_allclose(fine.cdf(x), coarse.cdf(x), rtol=0, atol=3e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples__have_the_paths_weights_and_moments(name: str) -> None:
    x = samples(name)
    share = float(path(name).cdf(0.0))  # of the component on the left
    assert abs((x < 0).mean() - share) < 5 * (share * (1 - share) / COUNT) ** 0.5
    assert abs(x.mean() - path(name).mean()) < 5 * (path(name).variance() / COUNT) ** 0.5
    squares = (x - path(name).mean()) ** 2
    assert abs(squares.mean() - path(name).variance()) < 5 * squares.std() / COUNT**0.5


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples__lie_as_far_from_the_data_as_the_path_says(name: str) -> None:
    found = sample_wasserstein(samples(name), BIMODAL)
    # |W1(samples, data) - W1(path, data)| <= W1(samples, path), whose mean is below the floor of exact samples.
    own_error = path(name).wasserstein(BIMODAL)[0]
    assert abs(found.w1 - own_error) < 2 * found.w1_floor
    # Directly: the largest gap of distribution functions, by Kolmogorov's bound exceeded with probability 1e-6.
    x = np.sort(samples(name))
    ranks = (np.arange(COUNT) + 0.5) / COUNT
    assert np.abs(path(name).cdf(x) - ranks).max() < (np.log(2 / 1e-6) / (2 * COUNT)) ** 0.5
    if name == "ddpm":  # and the samples do tell the sampler from the data
        assert np.abs(mixture_cdf(BIMODAL, x) - ranks).max() > 0.02


def test_samples__of_the_shipped_mixture_have_its_component_weights() -> None:
    # Two dimensions: many small steps, so that the sampler's own error (order 1) lies below the standard errors.
    model, n = gaussian_mixture(), 3000
    for sampler in (DDIM(model.schedule, 250), DDPM(model.schedule, 250)):
        weights = model.module.data.responsibilities(drawn_path(model.module, sampler, n, 2)[-1]).mean(0)
        own = model.module.data.weights
        assert np.all(np.abs(weights - own) < 5 * (own * (1 - own) / n) ** 0.5)


def test_line_path__absorption_moves_the_distribution_back_to_the_noise_free_samplers() -> None:
    sampler = DDIM(SCHEDULE, 20, eta=1.0)
    q = np.array([0.05 * (update.c > 0) for update in sampler.updates])
    absorbed = [absorb(update, 0.0, v) for update, v in zip(sampler.updates, q, strict=True)]
    clean = line_path(sampler, BIMODAL)
    noisy = line_path(sampler, BIMODAL, epsilon_variance=q)
    corrected = line_path(sampler, BIMODAL, updates=absorbed, epsilon_variance=q)
    x = np.linspace(-2, 2, 2001)
    before, after = (np.trapezoid(np.abs(found.cdf(x) - clean.cdf(x)), x) for found in (noisy, corrected))
    assert before > 1e-3
    assert after < 0.5 * before
    # One step is restored in full wherever it can be: the same density, not only the same variance.
    feasible = [u.b**2 * v <= u.c**2 for u, v in zip(sampler.updates, q, strict=True)]
    assert 15 < sum(feasible) < 20
    first = feasible.index(False) if not all(feasible) else len(feasible)
    for i in range(first + 1):
        assert corrected.variance(i) == pytest.approx(clean.variance(i), rel=1e-10)


def test_line_path__follows_a_deterministic_multistep_method() -> None:
    # One component: f is affine, and the closed form carries the same history.
    weights = tuple(
        dataclasses.replace(u, history=(Earlier(np.float64(0.05), np.float64(-0.1)),) * (i > 0))
        for i, u in enumerate(SAMPLERS["ddim"].updates)
    )
    found = line_path(SAMPLERS["ddim"], Mixture([1.0], [[0.4]], [[0.2]]), updates=weights)
    exact = gaussian_path(SAMPLERS["ddim"], Gaussian(np.array([0.4]), np.array([0.2])), updates=weights)
    assert found.mean() == pytest.approx(exact.mean[-1, 0], abs=1e-12)
    assert found.variance() == pytest.approx(exact.variance[-1, 0], rel=1e-11)
    with pytest.raises(BadInput, match="multistep"):
        line_path(SAMPLERS["ddim"], BIMODAL, updates=weights, epsilon_variance=0.1)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_line_path__starts_from_no_signal_at_all(eta: float) -> None:
    zero = NoiseSchedule(rescale_betas_zero_snr=True)
    sampler = DDIM(zero, 6, eta=eta, prediction_type="v_prediction", timestep_spacing="trailing")
    found = line_path(sampler, Mixture([1.0], [[0.3]], 0.5))
    want = gaussian_path(sampler, Gaussian(np.array([0.3]), np.array([0.5])))
    for index in range(7):
        assert found.mean(index) == pytest.approx(want.mean[index, 0], abs=1e-10)
        assert found.variance(index) == pytest.approx(want.variance[index, 0], rel=1e-10)
    with pytest.raises(BadInput, match="abar is above 0"):
        line_path(sampler, BIMODAL, epsilon_variance=0.1)


def test_line_path__starts_where_it_is_told() -> None:
    sampler: Sampler = SAMPLERS["ddpm"]
    marginal = BIMODAL.marginal(float(sampler.updates[0].alpha_cumprod))
    start = line_path(sampler, BIMODAL, start=marginal)
    assert start.mean(0) == pytest.approx(marginal.mean[0], abs=1e-12)
    assert start.variance(0) == pytest.approx(marginal.covariance[0, 0], rel=1e-12)


def test_line_path__refuses_what_it_cannot_resolve() -> None:
    with pytest.raises(BadInput, match="on the line"):
        line_path(SAMPLERS["ddim"], Mixture([1.0], [[0.0, 0.0]], 1.0))
    with pytest.raises(BadInput, match="resolve the noise"):
        line_path(DDIM(SCHEDULE, 20, eta=1e-3), BIMODAL)
    with pytest.raises(BadInput, match="linear"):
        line_path(DDIM(SCHEDULE, 5, clip_sample=True), BIMODAL)
