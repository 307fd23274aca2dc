"""Claim: densities, moments and samples of the exact subjects are those of the distributions that they name."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from samplers import BadInput
from simulator.models.empirical import Empirical
from simulator.models.gaussian import Gaussian
from simulator.models.mixture import Mixture


def covariance(seed: int = 0, d: int = 5) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((d, d))
    return root @ root.T


def test_gaussian__is_given_by_its_covariance() -> None:
    data = Gaussian.from_covariance(np.arange(5.0), covariance())
    np.testing.assert_allclose(data.covariance, covariance(), rtol=0, atol=1e-13)
    x = np.random.default_rng(1).standard_normal((4, 5))
    np.testing.assert_allclose(
        data.log_density(x), multivariate_normal(np.arange(5.0), covariance()).logpdf(x), rtol=1e-12
    )
    noisy = data.marginal(0.3)
    np.testing.assert_allclose(noisy.covariance, 0.3 * covariance() + 0.7 * np.eye(5), rtol=0, atol=1e-13)
    np.testing.assert_allclose(noisy.mean, 0.3**0.5 * np.arange(5.0))
    np.testing.assert_allclose(data.unrotate(data.rotate(x)), x, rtol=0, atol=1e-13)


def test_gaussian__samples_have_its_moments() -> None:
    data = Gaussian.from_covariance(np.arange(5.0), covariance())
    n = 20_000
    x = data.sample(n, np.random.default_rng(2))
    along = data.rotate(x - data.mean)  # independent normals of the eigenvalues' variances
    assert np.all(np.abs(along.mean(0)) < 5 * np.sqrt(data.variances / n))
    assert np.all(np.abs((along**2).mean(0) / data.variances - 1) < 5 * np.sqrt(2 / n))


def test_stationary__covariance_depends_on_the_offset_alone() -> None:
    u, v = np.fft.fftfreq(6, 1 / 6), np.fft.fftfreq(4, 1 / 4)
    power = np.random.default_rng(3).random((6, 4))
    power = power + np.roll(power[::-1, ::-1], 1, (0, 1)) + (u[:, None] == 0) * (v == 0)
    data = Gaussian.stationary(power, mean=0.5)
    image = data.covariance.reshape(6, 4, 6, 4)
    for i, j in np.ndindex(6, 4):
        np.testing.assert_allclose(np.roll(image[i, j], (-i, -j), (0, 1)), image[0, 0], rtol=0, atol=1e-14)
    # Wiener-Khinchin: the power spectrum is the transform of the covariance at each offset.
    np.testing.assert_allclose(np.fft.fft2(image[0, 0]).real, power, rtol=0, atol=1e-12)
    assert data.covariance[0, 0] == pytest.approx(power.mean())


def test_mixture__has_the_density_and_moments_of_its_components() -> None:
    draw = np.random.default_rng(4)
    w, m, s = np.array([1.0, 3.0]), draw.standard_normal((2, 3)), draw.random((2, 3)) + 0.1
    data = Mixture(w, m, s)
    x = draw.standard_normal((6, 3))
    parts = [multivariate_normal(m[k], np.diag(s[k])).pdf(x) for k in range(2)]
    np.testing.assert_allclose(data.log_density(x), np.log(0.25 * parts[0] + 0.75 * parts[1]), rtol=1e-12)
    np.testing.assert_allclose(
        data.responsibilities(x)[:, 0], 0.25 * parts[0] / np.exp(data.log_density(x)), rtol=1e-12
    )
    np.testing.assert_allclose(data.along(1).log_density([[0.2]]), data.along([0, 1, 0]).log_density([[0.2]]))
    direction = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(data.along(direction).mean, [direction @ data.mean], rtol=1e-13)
    np.testing.assert_allclose(
        data.along(direction).covariance, [[direction @ data.covariance @ direction]], rtol=1e-13
    )
    n = 40_000
    drawn = data.sample(n, np.random.default_rng(5))
    assert np.all(np.abs(drawn.mean(0) - data.mean) < 5 * np.sqrt(np.diag(data.covariance) / n))
    products = (drawn - data.mean)[:, :, None] * (drawn - data.mean)[:, None]
    assert np.all(np.abs(products.mean(0) - data.covariance) < 5 * products.std(0) / n**0.5)


def test_mixture__shared_and_own_variances_are_one_spelling() -> None:
    means = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 4.0]])
    for given in (0.5, [0.5, 0.5], np.full((3, 1), 0.5)):
        np.testing.assert_array_equal(Mixture(np.ones(3), means, given).variances, np.full((3, 2), 0.5))


def test_mixture__takes_its_rows_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from simulator.models import mixture

    data = Empirical(np.random.default_rng(6).standard_normal((20, 3)))
    x = np.random.default_rng(7).standard_normal((11, 3))

    def found() -> tuple:
        return data.predict(x, 0.5), data.marginal(0.5).log_density(x), data.jacobian(x, 0.5)

    whole = found()
    monkeypatch.setattr(mixture, "AT_ONCE", 150)  # 2 rows of 20 components on R^3
    for before, after in zip(whole, found(), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-14, atol=1e-15)


def test_empirical__is_a_kernel_density_at_every_noise_level() -> None:
    points = np.random.default_rng(8).standard_normal((30, 2))
    data = Empirical(points)
    of_x = data.marginal(0.64)
    x = np.array([[0.1, -0.3]])
    kernels = multivariate_normal(np.zeros(2), 0.36).pdf(x - 0.8 * points)
    assert of_x.log_density(x)[0] == pytest.approx(np.log(kernels.mean()), rel=1e-12)
    drawn = data.sample(100, np.random.default_rng(9))
    assert {tuple(row) for row in drawn} <= {tuple(row) for row in points}
    # Next to a point and with little noise, its denoised value is that point.
    np.testing.assert_allclose(data.predict(0.9999**0.5 * points[:3] + 1e-3, 0.9999, "sample"), points[:3], atol=1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Gaussian(np.zeros(2), np.ones(3)), "mean and variances must be"),
        (lambda: Gaussian(np.zeros(2), np.array([1.0, -1.0])), "at least 0"),
        (lambda: Gaussian(np.zeros(2), np.array([1.0, np.nan])), "finite"),
        (lambda: Gaussian(np.zeros(2), np.ones(2), np.array([[1.0, 0.1], [0.0, 1.0]])), "orthonormal"),
        (lambda: Gaussian.from_covariance(np.zeros(2), [[1.0, 0.5], [0.4, 1.0]]), "symmetric"),
        (lambda: Gaussian.from_covariance(np.zeros(2), [[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalue"),
        (lambda: Gaussian.stationary(np.arange(16.0).reshape(4, 4)), "power"),
        (lambda: Gaussian.standard(2).marginal(1.5), r"\[0, 1\]"),
        (lambda: Gaussian(np.zeros(2), np.array([1.0, 0.0])).log_density(np.zeros((1, 2))), "variances above 0"),
        (lambda: Mixture([1.0], [0.0], 1.0), "means"),
        (lambda: Mixture([1.0, 0.0], [[0.0], [1.0]], 1.0), "above 0"),
        (lambda: Mixture([1.0], [[0.0, 1.0]], np.ones((2, 2))), "broadcast"),
        (lambda: Mixture([1.0], [[np.inf]], 1.0), "finite"),
        (lambda: Empirical(np.zeros(3)), "points must be"),
        (lambda: Empirical(np.zeros((3, 2))).log_density(np.zeros((1, 2))), "abar < 1"),
    ],
)
def test_distributions__refuse_what_is_none(make, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        make()
