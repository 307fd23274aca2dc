"""Claim: lambda = b / (1 + k) is right for every list of updates, multistep ones too; the account says what it does.

Steps are made by ``samplers.advance`` and impulses are sent through whole runs; neither knows the formulas tested.
"""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from planted_noise import LATENT
from sampler_updates import adams_bashforth, euler_ancestral, multistep_sde

from noise_models import (
    absorb,
    account_absorption,
    carried_excess,
    earlier_weights,
    feasibility,
    gaussian_path,
    lambda_weight,
)
from samplers import DDIM, DDPM, BadInput
from samplers.coefficients import Prediction, advance
from samplers.state import FLOAT64
from simulator.models.gaussian import Gaussian

GRID = DDIM(LATENT, 12, eta=1.0, steps_offset=1, set_alpha_to_one=False)
LISTS = {
    "ddim": list(DDIM(LATENT, 12, eta=0.6, steps_offset=1).updates),
    "ddpm": list(DDPM(LATENT, 12, "fixed_large").updates),
    "euler-ancestral": euler_ancestral(GRID),
    "dpm-solver++-sde": multistep_sde(GRID),
    "adams-bashforth": adams_bashforth(GRID),
}
STOCHASTIC = [name for name in LISTS if name != "adams-bashforth"]
GAIN = [0.9 * math.sqrt(1 - float(u.alpha_cumprod)) for u in GRID.updates]


def prediction(update, x, epsilon):
    s, alpha = math.sqrt(1 - float(update.alpha_cumprod)), math.sqrt(float(update.alpha_cumprod))
    return Prediction((x - s * epsilon) / alpha, epsilon)


def walk(updates, noise, fresh, gains=GAIN):
    """Final x of a run from x = 0 with epsilon = g x + noise[step], z = fresh[step]; arrays (step, sample)."""
    x, earlier = torch.zeros(noise.shape[1], dtype=torch.float64), ()
    states = []
    for step, update in enumerate(updates):
        made = prediction(update, x, gains[step] * x + noise[step])
        x = advance(FLOAT64, update, x, made, fresh[step], earlier)
        earlier = (made, *earlier)
        states.append(x)
    return torch.stack(states)


def impulses(updates):
    """Weights of every call's noise and of every step's z in x after each step: two arrays (step, source)."""
    n = len(updates)
    unit, nothing = torch.eye(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    return walk(updates, unit, nothing).numpy(), walk(updates, nothing, unit).numpy()


@pytest.mark.parametrize("name", STOCHASTIC)
def test_absorb__restores_the_variance_given_x_and_the_earlier_predictions(name: str) -> None:
    updates, k, count = LISTS[name], 0.2, 200_000
    generator = torch.Generator().manual_seed(1)
    for step in (0, 5, 9):
        update = updates[step]
        q = 0.6 * (update.c / lambda_weight(update, k)) ** 2  # feasible, and far from nothing
        x = torch.full((count,), 0.7, dtype=torch.float64)
        earlier = tuple(prediction(updates[step - j], x, 0.3 * x) for j in range(1, len(update.history) + 1))
        noise, z = torch.randn(2, count, dtype=torch.float64, generator=generator)
        epsilon = ((1 + k) * 0.4 * x + math.sqrt(q) * noise) / (1 + k)
        lowered = absorb(update, k, q)
        found = advance(FLOAT64, lowered, x, prediction(update, x, epsilon), z, earlier)
        plain = advance(FLOAT64, update, x, prediction(update, x, epsilon), z, earlier)
        error = math.sqrt(2 / count)
        assert found.var().item() == pytest.approx(update.c**2, rel=5 * error)
        assert plain.var().item() == pytest.approx(1.6 * update.c**2, rel=5 * error)
        assert (lowered.a, lowered.b, lowered.history) == (update.a, update.b, update.history)


@pytest.mark.parametrize("name", list(LISTS))
def test_earlier_weights__are_what_an_impulse_of_that_call_adds_to_this_update(name: str) -> None:
    updates = LISTS[name]
    n = len(updates)
    for step in range(1, n):
        x = torch.zeros(1, dtype=torch.float64)
        count = len(updates[step].history)
        for j, weight in enumerate(earlier_weights(tuple(updates), step)):
            earlier = tuple(prediction(updates[step - i - 1], x, x + float(i == j)) for i in range(count))
            found = advance(FLOAT64, updates[step], x, prediction(updates[step], x, x), x, earlier)
            assert found.item() == pytest.approx(weight, rel=1e-12)
    assert len(earlier_weights(tuple(updates), n - 1)) == {"dpm-solver++-sde": 1, "adams-bashforth": 2}.get(name, 0)


@pytest.mark.parametrize("rule", ["none", "step", "run"])
@pytest.mark.parametrize("name", list(LISTS))
def test_carried_excess__is_that_of_impulses_sent_through_the_run(name: str, rule: str) -> None:
    updates = LISTS[name]
    q = np.linspace(0.01, 0.2, len(updates))
    result = carried_excess(updates, q, GAIN, rule)
    if rule == "step":  # what PTQD would use
        np.testing.assert_allclose(
            result.sigma_used, [absorb(u, 0.0, v).c for u, v in zip(updates, q, strict=True)], rtol=1e-12
        )
    of_noise, of_fresh = impulses(updates)
    # the walk weighs z by c, so a step's absorbed variance counts relative to c^2
    c2 = np.array([u.c**2 for u in updates])
    with np.errstate(invalid="ignore"):
        share = np.where(c2 > 0, (c2 - result.sigma_used.to_numpy() ** 2) / c2, 0)
    expected = of_noise**2 @ q - of_fresh**2 @ share
    np.testing.assert_allclose(result.excess_variance, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", ["none", "step", "run"])
@pytest.mark.parametrize("name", list(LISTS))
def test_carried_excess__is_that_of_exact_gaussian_paths(name: str, rule: str) -> None:
    updates, data = LISTS[name], Gaussian(np.zeros(1), np.array([0.25]))
    abar = np.array([float(u.alpha_cumprod) for u in updates])
    q = np.linspace(0.001, 0.02, len(updates))
    found = carried_excess(updates, q, np.sqrt(1 - abar) / (0.25 * abar + 1 - abar), rule)
    lowered = [u.with_noise(s) for u, s in zip(updates, found.sigma_used.to_numpy(), strict=True)]
    clean = gaussian_path(GRID, data, updates=updates).variance[1:, 0]
    noisy = gaussian_path(GRID, data, updates=lowered, epsilon_variance=q).variance[1:, 0]
    np.testing.assert_allclose(found.excess_variance, noisy - clean, rtol=1e-8, atol=1e-13)


def test_carried_excess__by_run_restores_the_marginal_of_a_multistep_sampler_and_by_step_does_not() -> None:
    updates, q = LISTS["dpm-solver++-sde"], np.full(12, 0.005)  # feasible at every step
    of = {rule: carried_excess(updates, q, GAIN, rule).excess_variance.to_numpy() for rule in ("none", "step", "run")}
    np.testing.assert_allclose(of["run"], 0, atol=1e-12)
    # Weights of a call's noise in its own step and in the next one have opposite signs: absorbing the first alone takes
    # too much.
    assert (of["step"][1:] < -2e-4).all()
    assert of["none"][-1] > 0


def test_carried_excess__by_run_is_by_step_for_one_step_updates_while_all_are_feasible() -> None:
    for name in ("ddim", "euler-ancestral"):
        q = [0.5 * (u.c / u.b) ** 2 if u.c else 0.0 for u in LISTS[name]]
        step, run = (carried_excess(LISTS[name], q, GAIN, rule) for rule in ("step", "run"))
        np.testing.assert_allclose(step.sigma_used, run.sigma_used, rtol=1e-9)
        np.testing.assert_allclose(step.excess_variance, 0, atol=1e-12)


def fit_of(sampler, q=0.05, k=0.1):
    n = len(sampler.updates)
    return SimpleNamespace(k=np.full(n, k), residual_variance=np.full(n, q), variant="paper")


def test_account_absorption__accounts_for_every_step() -> None:
    sampler = DDIM(LATENT, 20, eta=1.0, steps_offset=1, set_alpha_to_one=False)
    fit = fit_of(sampler)
    result = account_absorption(sampler, fit)
    b, c = (feasibility(sampler)[name] for name in "bc")
    requested = b**2 / 1.1**2 * 0.05
    np.testing.assert_allclose(result.requested_variance, requested, rtol=1e-12)
    np.testing.assert_allclose(result.absorbed_variance + result.remaining_variance, requested, rtol=1e-12)
    np.testing.assert_allclose(result.sigma**2 - result.sigma_used**2, result.absorbed_variance, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(result.paired_increase, (c - result.sigma_used) ** 2, rtol=1e-12)
    np.testing.assert_array_equal(result.remaining_variance > 0, result.absorbable_variance < 0.05)
    assert (result.remaining_variance > 0).sum() == 1  # timestep 51, whose bound is 0.034
    assert float(result.timestep[int(result.remaining_variance.to_numpy().argmax())]) == 51
    assert (result.earlier_variance == 0).all()


def test_account_absorption__names_the_noise_of_earlier_predictions_apart() -> None:
    for name in ("dpm-solver++-sde", "adams-bashforth"):
        updates = tuple(LISTS[name])
        sampler = SimpleNamespace(updates=updates, config=lambda: {"name": "multistep"}, name="multistep")
        fit = fit_of(sampler)
        q = fit.residual_variance = np.linspace(0.01, 0.1, 12)
        result = account_absorption(sampler, fit)
        assert result.earlier_variance[0] == 0
        weights = earlier_weights(updates, 7)
        expected = sum(w**2 * q[6 - j] / 1.1**2 for j, w in enumerate(weights))
        assert float(result.earlier_variance[7]) == pytest.approx(expected, rel=1e-12)
        assert float(result.requested_variance[7]) == pytest.approx((updates[7].b / 1.1) ** 2 * q[7])


def test_account_absorption__refuses_another_number_of_steps() -> None:
    with pytest.raises(BadInput, match="one entry for each call"):
        account_absorption(DDIM(LATENT, 10), fit_of(DDIM(LATENT, 12)))


@pytest.mark.parametrize(
    ("options", "fault"), [({"clip_sample": True}, "ClipSample"), ({"thresholding": True}, "DynamicThresholding")]
)
def test_account_absorption__refuses_clipped_updates(options: dict, fault: str) -> None:
    sampler = DDIM(LATENT, 10, eta=1.0, **options)
    with pytest.raises(BadInput, match=f"linear update.*{fault}"):
        feasibility(sampler)
    with pytest.raises(BadInput, match="linear update"):
        account_absorption(sampler, fit_of(sampler))


def test_absorb__released_refuses_every_update_that_is_not_ddim() -> None:
    for name, updates in LISTS.items():
        if name == "ddim":
            absorb(updates[3], 0.1, 0.01, "released")
        elif name != "euler-ancestral":  # at eta = 1 these are one sampler, up to rounding
            with pytest.raises(BadInput, match="needs a DDIM update"):
                absorb(updates[3], 0.1, 0.01, "released")


@pytest.mark.parametrize(
    "wrong",
    [{"residual_variance": np.zeros(3)}, {"gains": np.full(12, np.nan)}, {"residual_variance": np.full(12, -1.0)}],
)
def test_carried_excess__refuses_what_does_not_fit(wrong: dict) -> None:
    given = {"residual_variance": np.zeros(12), "gains": np.array(GAIN), **wrong}
    with pytest.raises(BadInput):
        carried_excess(LISTS["ddim"], **given)
    with pytest.raises(BadInput, match="rule"):
        carried_excess(LISTS["ddim"], np.zeros(12), GAIN, "all")


def test_absorption__refuses_steps_without_one_weight_of_epsilon_or_of_fresh_noise() -> None:
    zero = DDIM(
        dataclasses.replace(LATENT, rescale_betas_zero_snr=True), 12, eta=1.0, prediction_type="v_prediction",
        timestep_spacing="trailing",
    )  # fmt: skip
    learned = DDPM(LATENT, 12, "learned_range")
    for sampler in (zero, learned):
        with pytest.raises(BadInput, match="one weight of epsilon"):
            carried_excess(sampler.updates, np.full(12, 0.01), GAIN, "run")
    for refused in (feasibility, lambda sampler: account_absorption(sampler, fit_of(sampler))):
        with pytest.raises(BadInput, match="b = nan"):
            refused(zero)
    with pytest.raises(BadInput, match="one weight of epsilon"):
        absorb(zero.updates[0], 0.0, 0.01)
    # a network that predicts v has no noise of epsilon there
    assert absorb(zero.updates[0], 0.0, 0.0) is zero.updates[0]
