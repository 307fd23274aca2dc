"""Claim: absorption restores the one-step variance where the paper says it can, and nothing where it cannot.

Data N(0, 1), where the exact epsilon is sqrt(1 - abar) x: with epsilon^ = (1 + k) epsilon + noise of variance q, and
the correction's division by 1 + k, one step takes variance 1 to (a + b g)^2 + c^2 + b^2 q / (1 + k)^2, with
g = sqrt(1 - abar).
"""

import math

import numpy as np
import pytest
from planted_noise import LATENT

from noise_models import absorb, absorbable_bound, feasibility, lambda_weight
from samplers import DDIM, DDPM, BadInput, Update, ddim_with_sigma

ANCESTRAL = DDIM(LATENT, 50, eta=1.0, steps_offset=1, set_alpha_to_one=False)
STEP = next(update for update in ANCESTRAL.updates if update.timestep == 801)
SAMPLERS = [ANCESTRAL, DDIM(LATENT, 20, eta=0.5), DDPM(LATENT, 50), DDPM(LATENT, 20, "fixed_large")]


def one_step_variance(update: Update, q: float = 0.0, k: float = 0.0) -> float:
    gain = math.sqrt(1 - float(update.alpha_cumprod))
    return (update.a + update.b * gain) ** 2 + update.c**2 + update.b**2 * q / (1 + k) ** 2


def test_absorb__reproduces_the_published_case() -> None:
    q = 0.3**2
    assert one_step_variance(STEP) == pytest.approx(0.999665, abs=5e-7)
    assert one_step_variance(STEP, q) == pytest.approx(1.006988, abs=5e-7)
    assert one_step_variance(absorb(STEP, 0.0, q), q) == pytest.approx(0.999665, abs=5e-7)
    assert one_step_variance(absorb(STEP, 0.0, q, "released"), q) == pytest.approx(1.006783, abs=5e-7)


@pytest.mark.parametrize("k", [0.0, 0.07, 0.5])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{s.name}-{s.num_inference_steps}")
def test_absorb__restores_every_feasible_step_and_leaves_the_excess_of_the_others(sampler, k: float) -> None:
    seen = set()
    for update in sampler.updates:
        for q in (0.01, 0.3, 3.0):
            excess = lambda_weight(update, k) ** 2 * q - update.c**2
            absorbed = absorb(update, k, q)
            left = one_step_variance(absorbed, q, k) - one_step_variance(update)
            assert left == pytest.approx(max(excess, 0.0), abs=1e-10)
            assert (absorbed.a, absorbed.b) == (update.a, update.b)
            feasible = q <= absorbable_bound(update) * (1 + k) ** 2
            assert feasible == (excess <= 0)
            seen.add(feasible)
    assert seen == {True, False}


def test_lambda_weight__is_the_published_ddim_formula() -> None:
    for sampler in SAMPLERS[:2]:
        for u in sampler.updates:
            abar, previous, sigma = float(u.alpha_cumprod), float(u.alpha_cumprod_previous), u.c
            published = math.sqrt(1 - previous - sigma**2) - math.sqrt(previous * (1 - abar) / abar)
            assert lambda_weight(u, 0.2) == pytest.approx(published / 1.2, rel=1e-9, abs=1e-12)


def test_lambda_weight__is_the_published_ddpm_formula() -> None:
    for sampler in SAMPLERS[2:]:
        for u in sampler.updates:
            alpha = float(u.alpha_cumprod) / float(u.alpha_cumprod_previous)
            published = (1 - alpha) ** 2 / (alpha * (1 - float(u.alpha_cumprod)) * 1.2**2)
            assert lambda_weight(u, 0.2) ** 2 == pytest.approx(published, rel=1e-9)


def test_absorb__ddim_at_eta_1_and_ddpm_fixed_small_absorb_alike() -> None:
    ddim, ddpm = DDIM(LATENT, 50, eta=1.0), DDPM(LATENT, 50)
    for left, right in zip(ddim.updates, ddpm.updates, strict=True):
        assert absorb(left, 0.1, 0.2).c == pytest.approx(absorb(right, 0.1, 0.2).c, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_absorb__changes_nothing_where_there_is_nothing_to_absorb(variant: str) -> None:
    for update in DDIM(LATENT, 10, eta=0.0).updates:
        assert absorb(update, 0.1, 0.5, variant) is update
        assert absorbable_bound(update) == 0
    for update in ANCESTRAL.updates:
        assert absorb(update, 0.1, 0.0, variant) is update
    assert absorb(DDPM(LATENT, 10).updates[-1], 0.0, 0.5).c == 0


def test_absorb__released_rebuilds_the_ddim_update_with_the_lower_sigma() -> None:
    absorbed = absorb(STEP, 0.1, 0.09, "released")
    sigma = math.sqrt(STEP.c**2 - (STEP.b / 1.1) ** 2 * 0.09)
    assert absorbed == ddim_with_sigma(STEP, sigma)
    assert absorbed.b != STEP.b


def test_absorb__released_refuses_ddpm_and_points_to_its_ddim_twin() -> None:
    with pytest.raises(BadInput, match="eta = 1"):
        absorb(DDPM(LATENT, 10).updates[3], 0.0, 0.1, "released")


@pytest.mark.parametrize(("k", "q", "variant"), [(-1.0, 0.1, "paper"), (0.0, -0.1, "paper"), (0.0, 0.1, "both")])
def test_absorb__refuses_what_is_no_fit(k: float, q: float, variant: str) -> None:
    with pytest.raises(BadInput):
        absorb(STEP, k, q, variant)


@pytest.mark.parametrize(
    ("steps", "bounds"),
    [
        (20, {951: "0.70", 451: "1.92", 51: "0.034", 1: "0.99"}),
        (250, {997: "12.3", 497: "27.3", 9: "1.45", 5: "0.49", 1: "0.99"}),
    ],
)
def test_feasibility__gives_the_published_map_of_the_latent_schedule(steps: int, bounds: dict[int, str]) -> None:
    sampler = DDIM(LATENT, steps, eta=1.0, steps_offset=1, set_alpha_to_one=False)
    result = feasibility(sampler)
    by_timestep = dict(zip(result.timestep.values, result.absorbable_variance.values, strict=True))
    for timestep, printed in bounds.items():
        half_digit = 0.5 * 10.0 ** -len(printed.partition(".")[2])
        assert by_timestep[timestep] == pytest.approx(float(printed), abs=half_digit * 1.001), timestep
    ends_at_one = feasibility(DDIM(LATENT, steps, eta=1.0, steps_offset=1))
    assert ends_at_one.absorbable_variance[-1] == 0
    assert np.isfinite(result.absorbable_variance).all()
