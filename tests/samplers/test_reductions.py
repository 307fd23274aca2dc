"""Claim: samplers that are one method by theory have the same coefficients, and the mixture comes out of all of them.

Euler = DPM-Solver++ of order 1 = DDIM with eta 0; Euler ancestral = SDE-DPM-Solver++ of order 1 = DDIM with eta 1 =
DDPM fixed_small; Heun's two forms are one. Mixture: 0.3 N(-1.5, 0.2^2) + 0.7 N(1, 0.4^2), exact epsilon.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from samplers import (
    DDIM,
    DDPM,
    PLMS,
    DPMSolver,
    Euler,
    EulerAncestral,
    Float64State,
    Heun,
    NoiseSchedule,
    dpm_solver_updates,
    sample,
)
from samplers.coefficients import Earlier
from samplers.heun import heun_updates
from samplers.sampler import Sampler

SCHEDULE = NoiseSchedule()
EVEN = {"timestep_spacing": "leading"}  # the spacing in which all samplers but DPM-Solver visit the same nodes


def assert_same(first, second, tolerance: float = 1e-12) -> None:
    for u, v in zip(first, second, strict=True):
        assert (u.timestep, u.previous_timestep) == (v.timestep, v.previous_timestep)
        np.testing.assert_allclose((u.a, u.b, u.c), (v.a, v.b, v.c), rtol=0, atol=tolerance)


@pytest.mark.parametrize("count", [1, 2, 10, 50])
def test_euler__is_ddim_and_dpm_solver_of_order_one(count: int) -> None:
    euler, ddim = Euler(SCHEDULE, count, **EVEN), DDIM(SCHEDULE, count)
    assert_same(euler.updates, ddim.updates)
    assert_same(dpm_solver_updates(euler.nodes, (1,) * count), ddim.updates)


@pytest.mark.parametrize("count", [1, 2, 10, 50])
def test_euler_ancestral__is_ddim_of_eta_one_sde_dpm_solver_and_ddpm(count: int) -> None:
    ancestral, ddim = EulerAncestral(SCHEDULE, count, **EVEN), DDIM(SCHEDULE, count, 1.0)
    assert_same(ancestral.updates, ddim.updates)
    assert_same(ancestral.updates, DDPM(SCHEDULE, count).updates)
    sde = dpm_solver_updates(ancestral.nodes, (1,) * count, algorithm_type="sde-dpmsolver++")
    assert_same(sde, ddim.updates)


def test_heun__is_the_mean_of_two_epsilons() -> None:
    nodes = Heun(SCHEDULE, 10).nodes
    updates = heun_updates(nodes)
    assert len(updates) == 19
    for (here, there), trial, correction in zip(pairwise(nodes), updates[::2], updates[1::2], strict=False):
        sigma = [math.sqrt((1 - n.alpha_cumprod) / n.alpha_cumprod) for n in (here, there)]
        x, first, second = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).tolist()
        stepped = trial.a * x + trial.b * first
        x0 = (x - math.sqrt(1 - here.alpha_cumprod) * first) / math.sqrt(here.alpha_cumprod)
        found = correction.a * stepped + correction.b * second + float(correction.history[0].x0_coefficient) * x0
        scaled = x / math.sqrt(here.alpha_cumprod) + (sigma[1] - sigma[0]) * (first + second) / 2
        assert found == pytest.approx(math.sqrt(there.alpha_cumprod) * scaled, rel=1e-9)
        assert correction.history == (Earlier(-correction.x0_coefficient, 0.0),)


def test_plms__first_step_is_heuns() -> None:
    trial, step, *_ = PLMS(SCHEDULE, 10, set_alpha_to_one=True).updates
    assert (step.timestep, step.alpha_cumprod) == (step.previous_timestep, step.alpha_cumprod_previous)
    assert step.x_coefficient == 1
    assert step.epsilon_coefficient == -step.history[0].epsilon_coefficient == trial.epsilon_coefficient / 2


def test_dpm_solver__ends_with_order_one_where_the_last_level_is_zero() -> None:
    assert DPMSolver(SCHEDULE, 20).orders == (1, *[2] * 18, 1)
    assert DPMSolver(SCHEDULE, 20, final_sigmas_type="sigma_min").orders == (1, *[2] * 19)
    assert DPMSolver(SCHEDULE, 5, solver="singlestep").orders == (1, 2, 1, 2, 1)
    assert DPMSolver(SCHEDULE, 4, solver="singlestep").orders == (1, 2, 1, 1)


WEIGHTS, MEANS, DEVIATIONS = np.array([0.3, 0.7]), np.array([-1.5, 1.0]), np.array([0.2, 0.4])


def exact_epsilon(schedule: NoiseSchedule):
    table = np.sqrt((1 - schedule.alphas_cumprod) / schedule.alphas_cumprod)

    def denoiser(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        sigma = np.interp(float(timestep[0]), np.arange(len(table)), table)
        abar = 1 / (1 + sigma * sigma)
        variance = torch.tensor(abar * DEVIATIONS**2 + 1 - abar)
        off = x.unsqueeze(-1) - torch.tensor(math.sqrt(abar) * MEANS)
        share = torch.softmax(torch.tensor(np.log(WEIGHTS)) - variance.log() / 2 - off**2 / (2 * variance), -1)
        return math.sqrt(1 - abar) * (share * off / variance).sum(-1)

    return denoiser


class Grid:
    """x_T at evenly spaced quantiles, step noise from a seeded generator."""

    def __init__(self, count: int) -> None:
        self.start = torch.from_numpy(ndtri((np.arange(count) + 0.5) / count)).reshape(-1, 1)
        self.generator = torch.Generator().manual_seed(0)

    def initial(self, samples, shape) -> torch.Tensor:
        return self.start

    def step(self, step, samples, shape) -> torch.Tensor:
        return torch.randn(self.start.shape, dtype=torch.float64, generator=self.generator)


def mixture_cdf(x: np.ndarray) -> np.ndarray:
    return (WEIGHTS * ndtr((np.asarray(x)[..., None] - MEANS) / DEVIATIONS)).sum(-1)


SAMPLERS = {
    "ddim": (DDIM(SCHEDULE, 80), 0.012),
    "euler": (Euler(SCHEDULE, 80), 0.012),
    "heun": (Heun(SCHEDULE, 80), 0.005),
    "plms": (PLMS(SCHEDULE, 80, set_alpha_to_one=True), 0.005),
    "dpm-2m": (DPMSolver(SCHEDULE, 80), 0.005),
    "dpm-2s": (DPMSolver(SCHEDULE, 80, solver="singlestep"), 0.005),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_deterministic_samplers__map_quantiles_to_the_mixtures(name: str) -> None:
    # The flow keeps order in one dimension: the i-th of n starts has to end at the mixture's own quantile.
    sampler, tolerance = SAMPLERS[name]
    count = 101
    x = run(sampler, Grid(count))
    quantiles = [brentq(lambda v, p=p: mixture_cdf(v) - p, -4, 4) for p in (np.arange(count) + 0.5) / count]
    middle = slice(2, -2)
    assert np.abs(x - quantiles)[middle].mean() < 2 * tolerance
    assert np.abs(mixture_cdf(x) - (np.arange(count) + 0.5) / count).max() < tolerance


@pytest.mark.parametrize(
    "sampler",
    [
        EulerAncestral(SCHEDULE, 80),
        DPMSolver(SCHEDULE, 80, algorithm_type="sde-dpmsolver++"),
        DDPM(SCHEDULE, 80),
        DDIM(SCHEDULE, 80, 0.5),
    ],
    ids=lambda sampler: sampler.name,
)
def test_stochastic_samplers__reach_the_mixture(sampler: Sampler) -> None:
    # The Kolmogorov-Smirnov distance of n exact samples is below 1.95 / sqrt(n) but for one seed in 1000.
    count = 4000
    x = np.sort(run(sampler, Grid(count)))
    distance = np.abs(mixture_cdf(x) - (np.arange(count) + 0.5) / count).max()
    assert distance < 1.95 / math.sqrt(count) + 0.01, distance


def run(sampler: Sampler, noise: Grid) -> np.ndarray:
    x = sample(
        exact_epsilon(SCHEDULE), sampler, noise, range(len(noise.start)), (1,), state=Float64State(),
        denoiser_dtype=torch.float64,
    )  # fmt: skip
    return x.flatten().numpy()
