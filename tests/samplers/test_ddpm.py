"""Claim: DDPM's variances are exact in the two cases where theory says so, and simulation meets the recursion.

Data N(0, s^2) with exact epsilon = g x, g = sqrt(1 - abar) / (abar s^2 + 1 - abar): one step takes the variance v of
x_t to (a + b g)^2 v + c^2. Ho et al. (section 3.2): fixed_small is exact for data at one point (s = 0, where Var x_t =
1 - abar), fixed_large for s = 1 (Var x_t = 1), on any respacing.
"""

import math

import pytest
import torch

from samplers import DDPM, BadInput, NoiseSchedule, NoiseStream, Sampler, ddpm_variance, sample

SCHEDULE = NoiseSchedule()


def variances(sampler: DDPM, s: float, start: float) -> list[float]:
    v, path = start, []
    for u in sampler.updates:
        abar = float(u.alpha_cumprod)
        gain = math.sqrt(1 - abar) / (abar * s * s + 1 - abar)
        v = (u.a + u.b * gain) ** 2 * v + u.c**2
        path.append(v)
    return path


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("count", [1, 10, 50, 1000])
def test_ddpm__fixed_small_keeps_the_marginal_of_data_at_one_point(spacing: str, count: int) -> None:
    sampler = DDPM(SCHEDULE, count, timestep_spacing=spacing)
    path = variances(sampler, 0.0, 1 - float(sampler.updates[0].alpha_cumprod))
    assert path == pytest.approx([1 - float(u.alpha_cumprod_previous) for u in sampler.updates], abs=1e-12)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("count", [2, 10, 50, 1000])
def test_ddpm__fixed_large_keeps_the_marginal_of_standard_normal_data(spacing: str, count: int) -> None:
    sampler = DDPM(SCHEDULE, count, "fixed_large", timestep_spacing=spacing)
    path = variances(sampler, 1.0, 1.0)
    assert path[:-1] == pytest.approx([1.0] * (count - 1), abs=1e-11)
    # The last step adds no noise and returns E[x0 | x] = sqrt(abar) x.
    assert path[-1] == pytest.approx(float(sampler.updates[-1].alpha_cumprod), abs=1e-11)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_ddpm__simulated_variance_meets_the_recursion(variance_type: str) -> None:
    s, n = 0.7, 4096
    sampler = DDPM(SCHEDULE, 20, variance_type)

    def denoiser(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        abar = float(SCHEDULE.alphas_cumprod[int(timestep[0])])
        return math.sqrt(1 - abar) / (abar * s * s + 1 - abar) * x

    seen: list[float] = []
    sample(
        denoiser,
        sampler,
        NoiseStream(7, "test"),
        range(n),
        (4,),
        callback=lambda step, timestep, x, output, x_next: seen.append(float((x_next**2).mean())),
    )
    # The mean of N squared normals of variance v has standard error v sqrt(2 / N).
    for got, expected in zip(seen, variances(sampler, s, 1.0), strict=True):
        assert abs(got - expected) < 5 * expected * math.sqrt(2 / (4 * n))


def test_ddpm__mean_is_the_posterior_mean() -> None:
    # q(x_{t-1} | x_t, x0) by completing the square: precision alpha/beta + 1/(1 - abar'), an independent form of eq. 7.
    for u in DDPM(SCHEDULE, 25).updates[:-1]:
        here, there = float(u.alpha_cumprod), float(u.alpha_cumprod_previous)
        alpha = here / there
        precision = alpha / (1 - alpha) + 1 / (1 - there)
        assert float(u.x_coefficient) == pytest.approx(math.sqrt(alpha) / (1 - alpha) / precision, rel=1e-11)
        assert float(u.x0_coefficient) == pytest.approx(math.sqrt(there) / (1 - there) / precision, rel=1e-11)
        assert u.c**2 == pytest.approx(1 / precision, rel=1e-11)
        assert u.epsilon_coefficient == 0


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_ddpm__last_step_alone_adds_no_noise_and_returns_x0(variance_type: str, spacing: str) -> None:
    *before, last = DDPM(SCHEDULE, 10, variance_type, timestep_spacing=spacing).updates
    assert (last.x0_coefficient, last.x_coefficient, last.epsilon_coefficient, last.c) == (1, 0, 0, 0)
    assert all(u.c > 0 for u in before)


def test_ddpm__is_a_hashable_value_with_a_plain_config() -> None:
    sampler = DDPM(SCHEDULE, 10, "fixed_large")
    assert isinstance(sampler, Sampler)
    assert hash(sampler) == hash(DDPM(SCHEDULE, 10, "fixed_large"))
    assert sampler != DDPM(SCHEDULE, 10)
    assert sampler.config() == {
        "name": "ddpm",
        "schedule": SCHEDULE.config(),
        "num_inference_steps": 10,
        "variance_type": "fixed_large",
        "timestep_spacing": "leading",
        "steps_offset": 0,
        "prediction_type": "epsilon",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variance_type": "fixed"}, "fixed_small, fixed_large, learned, learned_range, got 'fixed'"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 1001}, "must not exceed"),
        ({"timestep_spacing": "log"}, "leading, trailing, linspace"),
        ({"steps_offset": 500}, "must lie in 0..999"),
        ({"steps_offset": 1.5}, "steps_offset"),
        ({"prediction_type": "flow"}, "epsilon, sample, v_prediction"),
    ],
)
def test_ddpm__refuses_bad_input(change: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        DDPM(**{"schedule": SCHEDULE, "num_inference_steps": 50, **change})


def test_ddpm_variance__refuses_an_unknown_type() -> None:
    abar = SCHEDULE.alphas_cumprod
    with pytest.raises(BadInput, match="fixed_small, fixed_large"):
        ddpm_variance(abar[20], abar[0], "fixed")
