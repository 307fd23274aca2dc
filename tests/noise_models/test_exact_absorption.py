"""Claim: on Gaussian data absorption restores what the paper says, along whole runs, in closed form and by simulation.

One step from x_t of any Gaussian, with the exact epsilon and independent noise of variance q on it, corrected by
(epsilon^ - mean) / (1 + k): the variance of x_{t-1} is that of the noise-free sampler to 1e-10 where
lambda^2 q <= c^2, and too large by lambda^2 q - c^2 elsewhere.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noise_models import absorb, gaussian_path, gaussian_wasserstein, lambda_weight
from samplers import DDIM, DDPM, NoiseSchedule, advance
from samplers.coefficients import Prediction
from samplers.state import FLOAT64
from simulator.models.gaussian import Gaussian
from simulator.models.subjects import gaussian

LATENT = NoiseSchedule("scaled_linear", 1000, 0.0015, 0.0195)
SAMPLERS = {
    "ddim-0.3": DDIM(LATENT, 20, eta=0.3),
    "ddim-1": DDIM(LATENT, 50, eta=1.0, steps_offset=1, set_alpha_to_one=False),
    "ddpm-small": DDPM(LATENT, 20),
    "ddpm-large": DDPM(LATENT, 20, "fixed_large"),
}
DATA = Gaussian(np.array([0.5, -1.0, 0.0]), np.array([0.01, 0.6, 3.0]))


def one_step(sampler, update, start: Gaussian, q: float) -> np.ndarray:
    return gaussian_path(sampler, DATA, updates=[update], start=start, epsilon_variance=q).variance[-1]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("k", [0.0, 0.2])
def test_absorb__restores_every_feasible_step_and_leaves_the_excess_of_the_others(name: str, k: float) -> None:
    sampler = SAMPLERS[name]
    clean = gaussian_path(sampler, DATA)
    seen = set()
    for i, update in enumerate(sampler.updates):
        for q in (0.01, 0.3, 3.0):
            left = q / (1 + k) ** 2  # variance of the noise on the corrected epsilon
            found = one_step(sampler, absorb(update, k, q), clean.at(i), left)
            excess = lambda_weight(update, k) ** 2 * q - update.c**2
            want = clean.variance[i + 1] + max(excess, 0.0)
            np.testing.assert_allclose(found, want, rtol=1e-10, atol=0)
            seen.add(excess <= 0)
            if update.c > 0:  # without absorption the whole of it stays
                plain = one_step(sampler, update, clean.at(i), left)
                np.testing.assert_allclose(plain - clean.variance[i + 1], excess + update.c**2, rtol=1e-6)
    assert seen == {True, False}


@pytest.mark.parametrize("name", SAMPLERS)
def test_absorb__restores_the_variance_of_simulated_steps(name: str) -> None:
    sampler, k, q, n = SAMPLERS[name], 0.1, 0.2, 40_000
    clean = gaussian_path(sampler, DATA)
    draw = np.random.default_rng(11)
    for i in range(0, len(sampler.updates), 4):
        update, abar = sampler.updates[i], float(sampler.updates[i].alpha_cumprod)
        x = clean.at(i).sample(n, draw)
        quantized = (1 + k) * DATA.predict(x, abar) + 0.05 + q**0.5 * draw.standard_normal((n, 3))
        epsilon = (quantized - 0.05) / (1 + k)
        x0 = (x - (1 - abar) ** 0.5 * epsilon) / abar**0.5
        prediction = Prediction(torch.tensor(x0), torch.tensor(epsilon))
        noise = torch.tensor(draw.standard_normal((n, 3)))
        stepped = advance(FLOAT64, absorb(update, k, q), torch.tensor(x), prediction, noise).numpy()
        want = clean.variance[i + 1] + max(lambda_weight(update, k) ** 2 * q - update.c**2, 0.0)
        assert np.all(np.abs(stepped.var(0) / want - 1) < 5 * (2 / n) ** 0.5), update.timestep
        assert np.all(np.abs(stepped.mean(0) - clean.mean[i + 1]) < 5 * (want / n) ** 0.5)


def test_absorb__reproduces_the_published_case() -> None:
    # N(0, 1), sqrt(beta) linear from 0.0015 to 0.0195, 50 steps at 1 + 20 i, t = 801, eta = 1, k = 0, sigma_q = 0.3.
    sampler, q = SAMPLERS["ddim-1"], 0.3**2
    update = next(u for u in sampler.updates if u.timestep == 801)
    standard = Gaussian.standard(1)

    def variance(used, q: float = 0.0) -> float:
        return float(gaussian_path(sampler, standard, updates=[used], epsilon_variance=q).variance[-1, 0])

    assert variance(update) == pytest.approx(0.999665, abs=5e-7)
    assert variance(update, q) == pytest.approx(1.006988, abs=5e-7)
    assert variance(absorb(update, 0.0, q), q) == pytest.approx(0.999665, abs=5e-7)
    assert variance(absorb(update, 0.0, q, "released"), q) == pytest.approx(1.006783, abs=5e-7)


@pytest.mark.parametrize("sampler", [DDIM(LATENT, 20, eta=1.0), DDPM(LATENT, 20, "fixed_large")], ids=["ddim", "ddpm"])
def test_absorb__moves_the_final_distribution_to_the_noise_free_samplers(sampler) -> None:
    data = gaussian().module.data
    for q in (0.01, 0.1):
        absorbed = [absorb(update, 0.0, q) for update in sampler.updates]
        clean = gaussian_path(sampler, data).at(-1)
        noisy = gaussian_path(sampler, data, epsilon_variance=q).at(-1)
        corrected = gaussian_path(sampler, data, updates=absorbed, epsilon_variance=q).at(-1)
        assert gaussian_wasserstein(corrected, clean) < 0.5 * gaussian_wasserstein(noisy, clean)
    feasible = np.array([u.b**2 * 1e-5 <= u.c**2 for u in sampler.updates[:-1]])
    assert feasible.all()  # so little can be absorbed at every step but the last, which adds no noise
    absorbed = [absorb(update, 0.0, 1e-5) for update in sampler.updates]
    path = gaussian_path(sampler, data, updates=absorbed, epsilon_variance=1e-5)
    np.testing.assert_allclose(path.variance[:-1], gaussian_path(sampler, data).variance[:-1], rtol=1e-10)
