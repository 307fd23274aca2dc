"""Claim: a, b, c are the step itself, and the two ways of changing sigma do to the one-step variance what they say.

The case is data N(0, 1), where x_t ~ N(0, 1) at every t and the exact epsilon is sqrt(1 - abar) x, so that one step
takes variance 1 to (a + b g)^2 + c^2, g = sqrt(1 - abar), and error of variance q on epsilon adds b^2 q.
"""

import math

import numpy as np
import pytest
import torch

from samplers import DDIM, DDPM, BadInput, Float64State, NoiseSchedule, Update, ddim_update, ddim_with_sigma

LATENT = NoiseSchedule("scaled_linear", 1000, 0.0015, 0.0195)
ANCESTRAL = DDIM(LATENT, 50, eta=1.0, steps_offset=1)
STEP = next(update for update in ANCESTRAL.updates if update.timestep == 801)


def one_step_variance(update: Update, error: float = 0.0) -> float:
    gain = math.sqrt(1 - float(update.alpha_cumprod))
    return (update.a + update.b * gain) ** 2 + update.c**2 + update.b**2 * error


@pytest.mark.parametrize(
    "sampler",
    [
        DDIM(NoiseSchedule(), 12, eta=0.7),
        DDIM(NoiseSchedule(tables="float32"), 12, eta=0.7, set_alpha_to_one=False),
        DDPM(NoiseSchedule(), 12),
        DDPM(NoiseSchedule(), 12, "fixed_large", timestep_spacing="trailing", prediction_type="v_prediction"),
    ],
    ids=["ddim", "ddim-float32-tables", "ddpm", "ddpm-v"],
)
def test_update__a_b_c_are_the_step(sampler) -> None:
    generator = torch.Generator().manual_seed(1)
    x, epsilon, z = torch.randn(3, 6, dtype=torch.float64, generator=generator)
    tolerance = 1e-12 if sampler.schedule.tables == "float64" else 2e-5
    for index, update in enumerate(sampler.updates):
        signal, noise = float(update.sqrt_alpha_cumprod), float(update.sqrt_one_minus_alpha_cumprod)
        output = epsilon
        if sampler.prediction_type == "v_prediction":
            output = signal * epsilon - noise * (x - noise * epsilon) / signal
        stepped = sampler.step(Float64State(), index, x, output, z)
        torch.testing.assert_close(stepped, update.a * x + update.b * epsilon + update.c * z, rtol=0, atol=tolerance)


def test_with_noise__keeps_the_mean_and_absorbs_exactly() -> None:
    # Taking b^2 q out of sigma^2 puts the variance of a step with error q back to that of the step without.
    error = 0.3**2
    absorbed = STEP.with_noise(math.sqrt(STEP.c**2 - STEP.b**2 * error))
    assert (absorbed.a, absorbed.b) == (STEP.a, STEP.b)
    assert one_step_variance(STEP) == pytest.approx(0.999665, abs=1e-6)
    assert one_step_variance(STEP, error) == pytest.approx(1.006988, abs=1e-6)
    assert one_step_variance(absorbed, error) == pytest.approx(one_step_variance(STEP), abs=1e-14)


def test_ddim_with_sigma__moves_the_direction_term_and_leaves_an_excess() -> None:
    error = 0.3**2
    sigma = math.sqrt(STEP.c**2 - STEP.b**2 * error)
    rebuilt = ddim_with_sigma(STEP, sigma)
    previous = float(STEP.alpha_cumprod_previous)
    assert float(rebuilt.epsilon_coefficient) == pytest.approx(math.sqrt(1 - previous - sigma**2), rel=1e-14)
    assert rebuilt.a == STEP.a
    assert one_step_variance(rebuilt, error) == pytest.approx(1.006783, abs=1e-6)


def test_ddim_with_sigma__rebuilds_the_same_update_from_its_own_sigma() -> None:
    for update in ANCESTRAL.updates:
        assert ddim_with_sigma(update, update.c) == update


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_with_noise__refuses_what_is_no_standard_deviation(sigma) -> None:
    with pytest.raises(BadInput, match="sigma"):
        STEP.with_noise(sigma)


@pytest.mark.parametrize("sigma", [-0.1, 0.6, float("nan")])
def test_ddim_update__refuses_a_sigma_outside_its_range(sigma: float) -> None:
    assert ddim_update(5, 1, np.float64(0.5), np.float64(0.75), 0.5).c == 0.5  # the largest: 0.25 = 1 - 0.75
    with pytest.raises(BadInput, match="sigma"):
        ddim_update(5, 1, np.float64(0.5), np.float64(0.75), sigma)
