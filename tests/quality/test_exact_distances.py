"""Divergences and transport distances of known distributions: closed forms, against quadrature and each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from samplers.errors import BadInput
from studies.quality import divergence, gaussian_divergence, gaussian_wasserstein


def test_gaussian_divergence__matches_quadrature():
    p, q = norm(0.3, 0.8), norm(-0.2, 1.3)
    expected = quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -12, 12)[0]
    assert gaussian_divergence(0.3, 0.64, -0.2, 1.69) == pytest.approx(expected, rel=1e-9)


def test_gaussian_divergence__is_invariant_under_linear_maps():
    random = np.random.default_rng(0)
    a, b, m = (s @ s.T + np.eye(4) for s in random.standard_normal((3, 4, 4)))
    mean = random.standard_normal((2, 4))
    mapped = gaussian_divergence(m @ mean[0], m @ a @ m.T, m @ mean[1], m @ b @ m.T)
    assert mapped == pytest.approx(gaussian_divergence(mean[0], a, mean[1], b), rel=1e-9)


def test_gaussian_wasserstein__is_the_quantiles_distance_in_one_dimension():
    u = (np.arange(200_000) + 0.5) / 200_000
    expected = np.sqrt(np.mean((norm(0.3, 0.8).ppf(u) - norm(-0.2, 1.3).ppf(u)) ** 2))
    assert gaussian_wasserstein(0.3, 0.64, -0.2, 1.69) == pytest.approx(expected, rel=1e-4)


def test_divergence__covers_the_closed_form():
    truth, inside, trials = gaussian_divergence(0.0, 1.0, 0.5, 1.44), 0, 400
    for seed in range(trials):
        x = np.random.default_rng(seed).standard_normal(300)
        found = divergence(norm.logpdf(x), norm.logpdf(x, 0.5, 1.2))
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / trials <= 0.98


def test_divergence__is_infinite_where_q_has_no_mass():
    found = divergence(np.zeros(40), np.where(np.arange(40) == 3, -np.inf, 0.0))
    assert found.estimate == np.inf
    assert np.isnan(found.low)


def test_exact_distances__refuse_what_are_no_moments():
    for mean, covariance in (([0, 0], np.eye(3)), ([0, 0], [[1, 2], [2, 1]]), ([0, 0], [[1, 1], [0, 1]])):
        with pytest.raises(BadInput, match="symmetric and positive semidefinite"):
            gaussian_wasserstein(mean, covariance, [0, 0], np.eye(2))
    with pytest.raises(BadInput, match="positive definite"):
        gaussian_divergence([0, 0], np.diag([1.0, 0.0]), [0, 0], np.eye(2))
    with pytest.raises(BadInput, match="one dimension"):
        gaussian_wasserstein([0.0], [[1.0]], [0, 0], np.eye(2))
    with pytest.raises(BadInput, match="at least 30"):
        divergence(np.zeros(29), np.zeros(29))
