"""Claim: divergences of exact distributions equal their integrals, the general forms equal the commuting ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import sqrtm
from scipy.stats import norm

from noise_models import (
    gaussian_kl,
    gaussian_wasserstein,
    mixture_cdf,
    mixture_kl,
    mixture_kl_monte_carlo,
    mixture_quantile,
    sample_wasserstein,
)
from samplers import BadInput
from simulator.models.distances import frechet_distance
from simulator.models.gaussian import Gaussian
from simulator.models.mixture import Mixture


def drawn(seed: int, d: int = 4) -> Gaussian:
    draw = np.random.default_rng(seed)
    root = draw.standard_normal((d, d))
    return Gaussian.from_covariance(draw.standard_normal(d), root @ root.T + 0.1 * np.eye(d))


def test_gaussian_kl__is_the_integral_on_the_line() -> None:
    p, q = Gaussian(np.array([0.3]), np.array([0.5])), Gaussian(np.array([-0.2]), np.array([1.7]))
    a, b = norm(0.3, 0.5**0.5), norm(-0.2, 1.7**0.5)
    want, _ = quad(lambda x: a.pdf(x) * (a.logpdf(x) - b.logpdf(x)), -6, 6, epsabs=1e-13)
    assert gaussian_kl(p, q) == pytest.approx(want, rel=1e-10)


def test_gaussian_kl__general_form_is_the_matrix_formula_and_the_commuting_one() -> None:
    p, q = drawn(0), drawn(1)
    inverse, shift = np.linalg.inv(q.covariance), p.mean - q.mean
    ratio = inverse @ p.covariance
    want = 0.5 * (np.trace(ratio) - 4 - np.log(np.linalg.det(ratio)) + shift @ inverse @ shift)
    assert gaussian_kl(p, q) == pytest.approx(want, rel=1e-10)
    shared = Gaussian(q.mean, p.variances * [0.5, 2, 1, 3], p.basis)
    assert gaussian_kl(p, Gaussian.from_covariance(q.mean, shared.covariance)) == pytest.approx(
        gaussian_kl(p, shared), rel=1e-11
    )
    assert gaussian_kl(p, p) == 0


def test_gaussian_kl__near_zero_keeps_its_digits() -> None:
    # KL of N(0, 1 + h) from N(0, 1) is (h - log(1 + h)) / 2 = h^2 / 4 - h^3 / 6 + O(h^4).
    for h in (2.0**-40, 2.0**-20, 2.0**-7, -(2.0**-7)):
        found = gaussian_kl(Gaussian(np.zeros(1), np.array([1 + h])), Gaussian.standard(1))
        assert found == pytest.approx((h**2 / 2 - h**3 / 3 + h**4 / 4 - h**5 / 5 + h**6 / 6) / 2, rel=1e-9)


def test_gaussian_kl__without_variance_is_infinite_or_ignores_the_direction() -> None:
    flat = Gaussian(np.zeros(2), np.array([1.0, 0.0]))
    assert gaussian_kl(flat, Gaussian.standard(2)) == np.inf
    assert gaussian_kl(Gaussian.standard(2), flat) == np.inf
    assert gaussian_kl(Gaussian(np.array([0.0, 1.0]), flat.variances), flat) == np.inf
    assert gaussian_kl(Gaussian(np.zeros(2), np.array([2.0, 0.0])), flat) == pytest.approx((1 - np.log(2)) / 2)
    with pytest.raises(BadInput, match="different directions"):
        gaussian_kl(drawn(0, 2), flat)
    with pytest.raises(BadInput, match="2 and 3"):
        gaussian_kl(flat, Gaussian.standard(3))


def test_gaussian_wasserstein__general_form_is_the_matrix_formula_and_the_commuting_one() -> None:
    p, q = drawn(2), drawn(3)
    root = sqrtm(p.covariance)
    cross = np.trace(sqrtm(root @ q.covariance @ root).real)
    squared = ((p.mean - q.mean) ** 2).sum() + np.trace(p.covariance) + np.trace(q.covariance) - 2 * cross
    assert gaussian_wasserstein(p, q) == pytest.approx(squared**0.5, rel=1e-9)
    shared = Gaussian(q.mean, p.variances * [0.5, 2, 1, 3], p.basis)
    assert gaussian_wasserstein(p, Gaussian.from_covariance(q.mean, shared.covariance)) == pytest.approx(
        gaussian_wasserstein(p, shared), rel=1e-9
    )
    assert gaussian_wasserstein(p, p) == 0


def test_gaussian_wasserstein__is_what_the_frechet_distance_of_samples_estimates() -> None:
    p, q, n = drawn(4), drawn(5), 20_000
    sampled = frechet_distance(p.sample(n, np.random.default_rng(0)), q.sample(n, np.random.default_rng(1)))
    # Delta method on means and covariances: a relative error of a few sqrt(2 / n).
    assert sampled == pytest.approx(gaussian_wasserstein(p, q) ** 2, rel=6 * (2 / n) ** 0.5)


PAIR = (
    Mixture([0.3, 0.7], [[-1.0], [0.8]], [[0.04], [0.3]]),
    Mixture([0.5, 0.5], [[-0.8], [1.0]], [[0.1], [0.2]]),
)


def test_mixture_kl__is_the_integral_on_the_line() -> None:
    p, q = PAIR

    def integrand(x: float) -> float:
        log_p, log_q = p.log_density([[x]])[0], q.log_density([[x]])[0]
        return float(np.exp(log_p) * (log_p - log_q))

    want = sum(quad(integrand, a, b, epsabs=1e-13, limit=200)[0] for a, b in ((-8, -1), (-1, 0), (0, 8)))
    found = mixture_kl(p, q)
    assert found.value == pytest.approx(want, rel=1e-9)
    assert found.error < 1e-10 * 2
    assert mixture_kl(p, p).value == 0


def test_mixture_kl__of_single_components_is_the_gaussians() -> None:
    for d in (1, 2):
        m, s, n, t = np.random.default_rng(d).random((4, d)) + 0.2
        p, q = Mixture([1.0], [m], [s]), Mixture([1.0], [n], [t])
        want = gaussian_kl(Gaussian(m, s), Gaussian(n, t))
        assert mixture_kl(p, q).value == pytest.approx(want, rel=1e-9)
        estimate = mixture_kl_monte_carlo(p, q, 4000, np.random.default_rng(9))
        assert abs(estimate.value - want) < 5 * estimate.error


def test_mixture_kl__quadrature_and_monte_carlo_agree_in_the_plane() -> None:
    draw = np.random.default_rng(3)
    p = Mixture([0.4, 0.6], draw.standard_normal((2, 2)), draw.random((2, 2)) + 0.1)
    q = Mixture([0.5, 0.5], draw.standard_normal((2, 2)), draw.random((2, 2)) + 0.2)
    exact = mixture_kl(p, q)
    estimate = mixture_kl_monte_carlo(p, q, 20_000, draw)
    assert abs(exact.value - estimate.value) < 5 * estimate.error
    assert 0 < estimate.error < 0.1 * exact.value


def test_mixture_kl__monte_carlo_intervals_cover() -> None:
    # +- 1.96 standard errors hold the exact value in 92 to 98 % of 400 draws.
    exact = mixture_kl(*PAIR).value
    found = [mixture_kl_monte_carlo(*PAIR, 500, np.random.default_rng(seed)) for seed in range(400)]
    held = np.mean([abs(e.value - exact) < 1.96 * e.error for e in found])
    assert 0.92 <= held <= 0.98


def test_mixture_kl__sees_a_needle_inside_a_wide_component() -> None:
    # Halves of N(0, 1) and of a needle of deviation d against N(0, 1): 1/2 log(1/2) + 1/2 (log(1/(2 d)) - 1/2 + m^2/2),
    # up to the wide component's weight under the needle, d.
    d = 1e-7
    needle = Mixture([0.5, 0.5], [[0.0], [0.3]], [[1.0], [d**2]])
    want = 0.5 * np.log(0.5) + 0.5 * (np.log(0.5 / d) - 0.5 + 0.3**2 / 2)
    assert mixture_kl(needle, Mixture([1.0], [[0.0]], 1.0)).value == pytest.approx(want, abs=50 * d)


def test_mixture_kl__refuses_what_quadrature_does_not_do() -> None:
    with pytest.raises(BadInput, match="converge to 0"):
        mixture_kl(*PAIR, tolerance=0.0)
    with pytest.raises(BadInput, match="1 or 2 dimensions"):
        mixture_kl(*2 * (Mixture([1.0], [[0.0] * 3], 1.0),))


def test_mixture_quantile__inverts_the_distribution_function() -> None:
    u = np.array([1e-9, 0.01, 0.3, 0.5, 0.99, 1 - 1e-9])
    for mixture in PAIR:
        np.testing.assert_allclose(mixture_cdf(mixture, mixture_quantile(mixture, u)), u, rtol=1e-12)
    points = Mixture([0.25, 0.75], [[1.0], [2.0]], 0.0)
    np.testing.assert_array_equal(mixture_cdf(points, [0.9, 1.0, 1.5, 2.0]), [0, 0.25, 0.25, 1])
    np.testing.assert_allclose(mixture_quantile(points, [0.2, 0.26]), [1.0, 2.0])
    with pytest.raises(BadInput, match="along"):
        mixture_cdf(Mixture([1.0], [[0.0, 0.0]], 1.0), 0.0)
    with pytest.raises(BadInput, match="leave out the ends"):
        mixture_quantile(points, [0.0])


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_sample_wasserstein__is_the_coupling_with_the_quantiles(count: int) -> None:
    mixture = PAIR[0]
    x = np.sort(mixture.sample(count, np.random.default_rng(count))[:, 0] + 0.1)
    each = 30_000 // count
    u = (np.arange(count * each) + 0.5) / (count * each)
    gap = np.repeat(x, each) - mixture_quantile(mixture, u)
    found = sample_wasserstein(np.random.default_rng(0).permutation(x), mixture)
    # The midpoint rule misses tails of weight 3e-5, whose gaps are below 4.
    assert found.w1 == pytest.approx(np.abs(gap).mean(), abs=3e-4)
    assert found.w2 == pytest.approx((gap**2).mean() ** 0.5, abs=1e-3)


def test_sample_wasserstein__floor_bounds_the_mean_over_exact_samples() -> None:
    mixture, n = PAIR[1], 100
    found = [sample_wasserstein(mixture.sample(n, np.random.default_rng(k))[:, 0], mixture) for k in range(200)]
    w1 = np.array([f.w1 for f in found])
    # E|F_n - F| <= sqrt(F (1 - F) / n), and tends to sqrt(2 / pi) = 0.8 of it where n F (1 - F) is large.
    assert w1.mean() + 5 * w1.std() / 200**0.5 < found[0].w1_floor
    assert w1.mean() > 0.7 * found[0].w1_floor
    shifted = sample_wasserstein(mixture.sample(n, np.random.default_rng(0))[:, 0] + 2.0, mixture)
    assert shifted.w1 == pytest.approx(2.0, abs=found[0].w1_floor * 2)


def test_sample_wasserstein__refuses_what_is_no_sample() -> None:
    for samples in (np.zeros((2, 2)), np.zeros(0), np.array([np.nan])):
        with pytest.raises(BadInput, match="finite numbers"):
            sample_wasserstein(samples, PAIR[0])
    with pytest.raises(BadInput, match="variances above 0"):
        sample_wasserstein(np.zeros(3), Mixture([1.0], [[0.0]], 0.0))
