"""Claim: the exact subjects' networks are E[epsilon | x], E[x0 | x] and E[v | x] of their data, in every form.

Against what does not know the formula: the score of the density by finite differences (Tweedie), brute-force
quadrature of Bayes' rule, and torch's own derivatives. Networks are held to the float64 values of their distributions.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from samplers import DDIM, BadInput, NoiseSchedule, NoiseStream, sample
from simulator.models.empirical import Empirical
from simulator.models.gaussian import Gaussian
from simulator.models.mixture import Mixture

SCHEDULE = NoiseSchedule()
KINDS = ("epsilon", "sample", "v_prediction")
ABAR = (0.9, 0.3, 0.01)


def some(kind: str, seed: int = 0):
    """A distribution on R^6 with every parameter set."""
    draw = np.random.default_rng(seed)
    if kind == "gaussian":
        root = draw.standard_normal((6, 6))
        return Gaussian.from_covariance(draw.standard_normal(6), root @ root.T / 6)
    if kind == "diagonal":
        return Gaussian(draw.standard_normal(6), draw.random(6))
    if kind == "mixture":
        return Mixture(draw.random(4) + 0.1, draw.standard_normal((4, 6)), draw.random((4, 6)))
    return Empirical(draw.standard_normal((9, 6)))


SUBJECTS = ("gaussian", "diagonal", "mixture", "empirical")


@pytest.mark.parametrize("kind", SUBJECTS)
@pytest.mark.parametrize("abar", ABAR)
def test_epsilon__is_the_score_of_the_density(kind: str, abar: float) -> None:
    # Tweedie: E[epsilon | x] = -sqrt(1 - abar) grad log p_t(x); central differences of step h err by h^2.
    data = some(kind)
    of_x = data.marginal(abar)
    x = of_x.sample(5, np.random.default_rng(1))
    h = 1e-5
    score = np.stack([of_x.log_density(x + h * e) - of_x.log_density(x - h * e) for e in np.eye(6)], -1) / (2 * h)
    np.testing.assert_allclose(data.predict(x, abar), -((1 - abar) ** 0.5) * score, rtol=0, atol=2e-8)


@pytest.mark.parametrize("kind", SUBJECTS)
@pytest.mark.parametrize("abar", ABAR)
def test_predictions__are_one_decomposition_of_x(kind: str, abar: float) -> None:
    data = some(kind)
    x = data.marginal(abar).sample(7, np.random.default_rng(2))
    epsilon, x0, v = (data.predict(x, abar, k) for k in KINDS)
    np.testing.assert_allclose(abar**0.5 * x0 + (1 - abar) ** 0.5 * epsilon, x, rtol=0, atol=1e-13)
    np.testing.assert_allclose(abar**0.5 * epsilon - (1 - abar) ** 0.5 * x0, v, rtol=0, atol=1e-13)


def test_mixture__posterior_mean_is_bayes_rule_by_quadrature() -> None:
    data = Mixture([0.2, 0.8], [[-1.0], [0.5]], [[0.01], [0.3]])
    x0 = np.linspace(-8, 8, 160_001)
    prior = 0.2 * multivariate_normal(-1.0, 0.01).pdf(x0) + 0.8 * multivariate_normal(0.5, 0.3).pdf(x0)
    for abar in ABAR:
        for x in (-1.3, 0.0, 0.9):
            joint = prior * np.exp(-((x - abar**0.5 * x0) ** 2) / (2 * (1 - abar)))
            want = (x0 * joint).sum() / joint.sum()
            assert data.predict([[x]], abar, "sample")[0, 0] == pytest.approx(want, rel=1e-10)
            density = joint.sum() * 1e-4 / np.sqrt(2 * np.pi * (1 - abar))
            assert data.marginal(abar).log_density([[x]])[0] == pytest.approx(np.log(density), rel=1e-10)


@pytest.mark.parametrize("kind", SUBJECTS)
@pytest.mark.parametrize("prediction", KINDS)
@pytest.mark.parametrize("timestep", [0, 500, 999])
def test_network__is_the_distributions_own_prediction_and_jacobian(kind: str, prediction: str, timestep: int) -> None:
    data = some(kind)
    network = data.denoiser(SCHEDULE, prediction)
    abar = float(SCHEDULE.alphas_cumprod[timestep])
    x = data.marginal(abar).sample(4, np.random.default_rng(3))
    steps = torch.full((4,), timestep)
    want = data.predict(x, abar, prediction)
    exact = network(torch.tensor(x), steps)
    assert exact.dtype == torch.float64
    np.testing.assert_allclose(exact.numpy(), want, rtol=1e-12, atol=1e-11)
    single = network(torch.tensor(x, dtype=torch.float32), steps)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), want, rtol=0, atol=3e-4 if kind == "empirical" else 3e-5)

    def summed(rows: torch.Tensor) -> torch.Tensor:
        return network(rows, steps).sum(0)

    by_torch = torch.autograd.functional.jacobian(summed, torch.tensor(x)).permute(1, 0, 2).numpy()
    own = data.jacobian(abar, prediction)[None] if isinstance(data, Gaussian) else data.jacobian(x, abar, prediction)
    np.testing.assert_allclose(by_torch, np.broadcast_to(own, by_torch.shape), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_network__takes_every_sample_at_its_own_timestep(kind: str) -> None:
    data = some(kind)
    network = data.denoiser(SCHEDULE)
    x = torch.tensor(np.random.default_rng(4).standard_normal((3, 6)))
    together = network(x, torch.tensor([20, 500, 990]))
    alone = [network(x[i : i + 1], torch.tensor([t])) for i, t in enumerate((20, 500, 990))]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_network__of_every_prediction_type_draws_the_same_samples(kind: str) -> None:
    data = some(kind)
    drawn = [
        sample(
            data.denoiser(SCHEDULE, prediction),
            DDIM(SCHEDULE, 10, eta=0.5, prediction_type=prediction),
            NoiseStream(0, "test"),
            range(4),
            (6,),
            denoiser_dtype=torch.float64,
        )
        for prediction in KINDS
    ]
    torch.testing.assert_close(drawn[1], drawn[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(drawn[2], drawn[0], rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch.func itself
@pytest.mark.parametrize("kind", SUBJECTS)
def test_network__has_torchs_jacobian_products(kind: str) -> None:
    data = some(kind)
    network, abar = data.denoiser(SCHEDULE), float(SCHEDULE.alphas_cumprod[300])
    x, direction = np.random.default_rng(5).standard_normal((2, 3, 6))

    def call(rows: torch.Tensor) -> torch.Tensor:
        return network(rows, torch.full((3,), 300))

    _, product = torch.func.jvp(call, (torch.tensor(x),), (torch.tensor(direction),))
    own = data.jacobian(abar)[None] if isinstance(data, Gaussian) else data.jacobian(x, abar)
    np.testing.assert_allclose(product.numpy(), (own @ direction[:, :, None])[..., 0], rtol=1e-11, atol=1e-12)


def test_network__takes_a_function_of_fractional_timesteps() -> None:
    data = some("mixture")
    network = data.denoiser(lambda timestep: torch.exp(-timestep.double() / 300))
    x = np.random.default_rng(6).standard_normal((2, 6))
    found = network(torch.tensor(x), torch.tensor([12.5, 12.5])).numpy()
    np.testing.assert_allclose(found, data.predict(x, float(np.exp(-12.5 / 300))), rtol=1e-13)


def test_network__interpolates_the_tables_sigma_between_timesteps() -> None:
    data, abar = some("mixture"), SCHEDULE.alphas_cumprod
    network, x = data.denoiser(SCHEDULE), torch.ones(1, 6, dtype=torch.float64)
    sigma = 0.75 * np.sqrt((1 - abar[12]) / abar[12]) + 0.25 * np.sqrt((1 - abar[13]) / abar[13])
    want = data.predict(x.numpy(), 1 / (1 + sigma**2))
    np.testing.assert_allclose(network(x, torch.tensor([12.25])).numpy(), want, rtol=1e-12)
    assert torch.equal(network(x, torch.tensor([12.0])), network(x, torch.tensor([12])))


@pytest.mark.parametrize("timestep", [999.5, 1000, -1, float("nan")])
def test_network__refuses_timesteps_outside_its_table(timestep: float) -> None:
    with pytest.raises(BadInput, match="from 0 to 999"):
        some("mixture").denoiser(SCHEDULE)(torch.zeros(1, 6), torch.tensor([timestep]))


def test_denoiser__refuses_an_unknown_prediction_type() -> None:
    with pytest.raises(BadInput, match="epsilon, sample, v_prediction"):
        some("gaussian").denoiser(SCHEDULE, "score")
