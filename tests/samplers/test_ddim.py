"""Claim: on Gaussian data DDIM is its closed form, it converges with order 1, and eta = 1 is DDPM.

Data N(0, s^2) along an eigenmode: x_t = sqrt(abar) x0 + sqrt(1 - abar) eps has variance V = abar s^2 + 1 - abar, so the
exact predictions are the regressions E[eps | x] = sqrt(1 - abar) x / V and E[x0 | x] = sqrt(abar) s^2 x / V. A step of
eta = 0 then multiplies x by (sqrt(abar' abar) s^2 + sqrt((1 - abar')(1 - abar))) / V, and the exact flow to abar' = 1
multiplies x_T by s / sqrt(V_T).
"""

import math
import pickle

import numpy as np
import pytest
import torch

from samplers import DDIM, DDPM, BadInput, NoiseSchedule, NoiseStream, Sampler, sample

SCHEDULE = NoiseSchedule()


def gaussian_denoiser(schedule: NoiseSchedule, s: float):
    def denoiser(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        abar = float(schedule.alphas_cumprod[int(timestep[0])])
        return math.sqrt(1 - abar) * x / (abar * s * s + 1 - abar)

    return denoiser


def final_gain(sampler: DDIM, s: float) -> float:
    abar = [float(sampler.schedule.alphas_cumprod[t]) for t in sampler.timesteps]
    gain = 1.0
    for here, there in zip(abar, [*abar[1:], 1.0], strict=True):
        gain *= math.sqrt(there * here) * s * s + math.sqrt((1 - there) * (1 - here))
        gain /= here * s * s + 1 - here
    return gain


@pytest.mark.parametrize("s", [0.05, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_ddim__matches_the_closed_form_on_gaussian_data(s: float, spacing: str) -> None:
    sampler = DDIM(SCHEDULE, 50, timestep_spacing=spacing)
    noise = NoiseStream(0, "test")
    x = sample(gaussian_denoiser(SCHEDULE, s), sampler, noise, range(4), (3,), denoiser_dtype=torch.float64)
    start = noise.initial(range(4), (3,))
    torch.testing.assert_close(x, final_gain(sampler, s) * start, rtol=1e-8, atol=0)
    from_coefficients = math.prod(
        u.a + u.b * math.sqrt(1 - float(u.alpha_cumprod)) / (float(u.alpha_cumprod) * (s * s - 1) + 1)
        for u in sampler.updates
    )
    torch.testing.assert_close(x, from_coefficients * start, rtol=1e-8, atol=0)


@pytest.mark.parametrize("s", [0.3, 2.0])
def test_ddim__converges_to_the_flow_with_order_one(s: float) -> None:
    # A long schedule of small betas, so that the error of the steps and not of the table's grid is measured.
    schedule = NoiseSchedule("linear", 8000, 1e-6, 0.0025)
    errors = []
    for count in (50, 100, 200, 400):
        sampler = DDIM(schedule, count, timestep_spacing="trailing")
        last = float(schedule.alphas_cumprod[-1])
        errors.append(abs(final_gain(sampler, s) * math.sqrt(last * s * s + 1 - last) / s - 1))
        coefficients = math.prod(
            u.a + u.b * math.sqrt(1 - float(u.alpha_cumprod)) / (float(u.alpha_cumprod) * (s * s - 1) + 1)
            for u in sampler.updates
        )
        assert coefficients == pytest.approx(final_gain(sampler, s), rel=1e-10)
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 1) < 0.15), (errors, orders)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(("count", "offset"), [(1, 0), (10, 0), (50, 0), (50, 1), (1000, 0)])
def test_ddim__eta_one_is_ddpm_fixed_small_at_every_step(spacing: str, count: int, offset: int) -> None:
    # set_alpha_to_one=True, which DDPM's last step implies; the last step is included.
    ddim = DDIM(SCHEDULE, count, eta=1.0, timestep_spacing=spacing, steps_offset=offset)
    ddpm = DDPM(SCHEDULE, count, timestep_spacing=spacing, steps_offset=offset)
    for u, v in zip(ddim.updates, ddpm.updates, strict=True):
        assert (u.timestep, u.previous_timestep) == (v.timestep, v.previous_timestep)
        np.testing.assert_allclose((u.a, u.b, u.c), (v.a, v.b, v.c), rtol=0, atol=1e-12)


def test_ddim__previous_timestep_is_the_next_one_visited() -> None:
    for spacing in ("leading", "trailing", "linspace"):
        sampler = DDIM(SCHEDULE, 7, timestep_spacing=spacing)
        assert [u.timestep for u in sampler.updates] == sampler.timesteps.tolist()
        assert [u.previous_timestep for u in sampler.updates] == [*sampler.timesteps[1:].tolist(), -1]
        for u in sampler.updates[:-1]:
            assert u.alpha_cumprod_previous == SCHEDULE.alphas_cumprod[u.previous_timestep]


@pytest.mark.parametrize(("to_one", "final"), [(True, 1.0), (False, float(SCHEDULE.alphas_cumprod[0]))])
def test_ddim__last_step_leads_to_the_chosen_alpha(to_one: bool, final: float) -> None:
    assert DDIM(SCHEDULE, 5, set_alpha_to_one=to_one).updates[-1].alpha_cumprod_previous == final


def test_ddim__coefficients_keep_the_marginal_for_any_eta() -> None:
    # eq. 7 of the paper: direction^2 + sigma^2 = 1 - abar', and x0's weight is sqrt(abar').
    for eta in (0.0, 0.3, 1.0):
        for u in DDIM(SCHEDULE, 20, eta=eta).updates:
            previous = float(u.alpha_cumprod_previous)
            assert float(u.epsilon_coefficient) ** 2 + u.c**2 == pytest.approx(1 - previous, abs=1e-15)
            assert float(u.x0_coefficient) == math.sqrt(previous)
            assert (u.c == 0) == (eta == 0 or previous == 1)


def test_ddim__eta_above_one_is_allowed_as_far_as_every_step_allows_it() -> None:
    assert max(u.c for u in DDIM(SCHEDULE, 1000, eta=1.2).updates) > 0
    # From t = 20 to 0, beta / (1 - abar) = 0.97, so eta = 1.05 asks for more variance than there is, at step 48.
    with pytest.raises(BadInput, match=r"eta=1.05.*at step 48 \(timestep 20\)"):
        DDIM(SCHEDULE, 50, eta=1.05)


def test_ddim__is_a_hashable_value_with_a_plain_config() -> None:
    sampler = DDIM(SCHEDULE, np.int64(10), eta=1)
    assert isinstance(sampler, Sampler)
    assert sampler == DDIM(SCHEDULE, 10, eta=1.0)
    assert hash(sampler) == hash(DDIM(SCHEDULE, 10, eta=1.0))
    copy = pickle.loads(pickle.dumps(sampler))
    assert copy == sampler
    assert copy.updates == sampler.updates
    assert sampler.config() == {
        "name": "ddim",
        "schedule": SCHEDULE.config(),
        "num_inference_steps": 10,
        "eta": 1.0,
        "timestep_spacing": "leading",
        "steps_offset": 0,
        "set_alpha_to_one": True,
        "prediction_type": "epsilon",
    }
    assert type(sampler.config()["eta"]) is float
    assert type(sampler.config()["num_inference_steps"]) is int


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eta": -0.1}, "eta must be at least 0, got -0.1"),
        ({"eta": float("nan")}, "eta must be a finite number"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 2000}, "must not exceed"),
        ({"timestep_spacing": "karras"}, "leading, trailing, linspace"),
        ({"steps_offset": 500}, "must lie in 0..999"),
        ({"steps_offset": -1}, "steps_offset"),
        ({"set_alpha_to_one": 1}, "set_alpha_to_one must be True or False"),
        ({"prediction_type": "x0"}, "epsilon, sample, v_prediction"),
    ],
)
def test_ddim__refuses_bad_input(change: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        DDIM(**{"schedule": SCHEDULE, "num_inference_steps": 50, **change})
