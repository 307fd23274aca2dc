"""Claim: along whole runs PLMS, Euler, Heun and DPM-Solver++ are diffusers' schedulers, up to float32 rounding.

Timesteps and noise levels are equal; steps cannot be bit-equal. diffusers forms coefficients in float32 where they are
float64 here, writes PLMS and DPM-Solver++ in other associations, and keeps Euler and Heun in x / sqrt(abar), of size
sigma, where a predicted x0 is rounded to sigma 2^-24. So errors, relative to the largest element, are bounded by 128
units of 2^-24, and by another 2 sigma_max units for Euler and Heun (sigma_max = 20291 for the cosine schedule).
"""

import os

import numpy as np
import pytest
import torch

from samplers import PLMS, DPMSolver, Euler, EulerAncestral, Float32State, Heun, NoiseSchedule, advance

try:
    import diffusers
    from diffusers.schedulers import scheduling_euler_ancestral_discrete
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"diffusers is absent: {error}", allow_module_level=True)

STATE = Float32State()
SHAPE = (2, 3, 5, 7)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SCHEDULES = {
    "linear": NoiseSchedule("linear", tables="float32"),
    "scaled_linear": NoiseSchedule("scaled_linear", 1000, 0.00085, 0.012, tables="float32"),
    "cosine": NoiseSchedule("squaredcos_cap_v2", tables="float32"),
    "zero-snr": NoiseSchedule("scaled_linear", 1000, 0.00085, 0.012, tables="float32", rescale_betas_zero_snr=True),
}
PEERS = {
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "plms": "PNDMScheduler",
    "dpm-solver++": "DPMSolverMultistepScheduler",
    "sde-dpm-solver++": "DPMSolverMultistepScheduler",
}
SCALED = ("euler", "euler-ancestral", "heun")


def peer(sampler, **knobs):
    schedule = sampler.schedule
    kind = PEERS[sampler.name]
    if getattr(sampler, "solver", None) == "singlestep":
        kind = "DPMSolverSinglestepScheduler"
    rescaled = {"rescale_betas_zero_snr": True} if schedule.rescale_betas_zero_snr else {}
    scheduler = getattr(diffusers, kind)(
        num_train_timesteps=schedule.num_train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        prediction_type=sampler.prediction_type,
        **rescaled,
        **knobs,
    )
    scheduler.set_timesteps(sampler.num_inference_steps)
    if sampler.name != "plms":  # else a timestep that comes twice at the start makes diffusers skip a level
        scheduler.set_begin_index(0)
    return scheduler


def assert_run_agrees(sampler, monkeypatch, **knobs) -> None:
    """Both walk their own trajectory on the same outputs and noise."""
    scheduler, scaled = peer(sampler, **knobs), sampler.name in SCALED
    assert len(scheduler.timesteps) == len(sampler.updates)
    generator = torch.Generator().manual_seed(3)
    z, *rest = torch.randn(1 + 2 * len(sampler.updates), *SHAPE, generator=generator)
    theirs, x, earlier = z * scheduler.init_noise_sigma, z * sampler.init_noise_sigma, ()
    largest = float(scheduler.sigmas.max()) if scaled else 0.0
    for index, update in enumerate(sampler.updates):
        timestep, output, noise = scheduler.timesteps[index], rest[2 * index], rest[2 * index + 1]
        assert float(timestep) == pytest.approx(update.timestep, rel=1e-6, abs=1e-3)
        if scaled:
            scheduler.scale_model_input(theirs, timestep)
        monkeypatch.setattr(scheduling_euler_ancestral_discrete, "randn_tensor", lambda *_, v=noise, **__: v)
        given = {"variance_noise": noise} if sampler.name == "sde-dpm-solver++" else {}
        theirs = scheduler.step(output, timestep, theirs, return_dict=False, **given)[0]
        prediction = sampler.predict(STATE, update, x, output)
        x = advance(STATE, update, x, prediction, noise, earlier)
        earlier = (prediction, *earlier)[:4]
        assert x.dtype == torch.float32
        same = theirs * float(update.alpha_cumprod_previous) ** 0.5 if scaled else theirs
        error = float((same - x).abs().max() / same.abs().max())
        assert error < 2**-24 * (128 + 2 * largest), f"{sampler.name}: call {index}, {error}"


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_sigma_samplers__follow_diffusers_along_a_run(
    schedule: str, prediction_type: str, spacing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"timestep_spacing": spacing, "prediction_type": prediction_type}
    knobs = {"timestep_spacing": spacing}
    assert_run_agrees(Euler(SCHEDULES[schedule], 12, **own), monkeypatch, **knobs)
    if prediction_type != "sample":  # diffusers has no such ancestral step
        assert_run_agrees(EulerAncestral(SCHEDULES[schedule], 12, **own), monkeypatch, **knobs)
    if schedule != "zero-snr":  # a knob that diffusers' Heun lacks
        assert_run_agrees(Heun(SCHEDULES[schedule], 12, **own), monkeypatch, **knobs)
    assert_run_agrees(DPMSolver(SCHEDULES[schedule], 12, **own), monkeypatch, **knobs)


@pytest.mark.parametrize("solver_order", [1, 2])
@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.parametrize("algorithm_type", ["dpmsolver++", "sde-dpmsolver++"])
@pytest.mark.parametrize("count", [1, 2, 14, 15])
def test_dpm_solver__multistep_follows_diffusers(
    solver_order: int, solver_type: str, algorithm_type: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"solver_order": solver_order, "solver_type": solver_type, "algorithm_type": algorithm_type}
    for end in (
        {},
        {"final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "lower_order_final": False},
        {"final_sigmas_type": "sigma_min", "euler_at_final": True, "lower_order_final": False},
    ):
        assert_run_agrees(DPMSolver(SCHEDULES["linear"], count, **shared, **end), monkeypatch, **shared, **end)


@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("count", [1, 2, 11, 12])
def test_dpm_solver__singlestep_follows_diffusers(
    solver_type: str, final: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"solver_type": solver_type, "final_sigmas_type": final, "lower_order_final": True}
    assert_run_agrees(DPMSolver(SCHEDULES["linear"], count, solver="singlestep", **shared), monkeypatch, **shared)
    if count % 2 == 0 and final == "sigma_min":
        shared["lower_order_final"] = False
        assert_run_agrees(DPMSolver(SCHEDULES["linear"], count, solver="singlestep", **shared), monkeypatch, **shared)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize("levels", ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_levels__are_diffusers(schedule: str, levels: str, final: str, monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = {levels: True, "final_sigmas_type": final}
    for kind in (Euler, DPMSolver):
        sampler = kind(SCHEDULES[schedule], 9, **knobs)
        ours = [float((1 - n.alpha_cumprod) / n.alpha_cumprod) ** 0.5 for n in sampler.nodes]
        np.testing.assert_allclose(ours, peer(sampler, **knobs).sigmas.numpy(), rtol=2e-7)
        if final == "zero":  # else diffusers' last step of order 2 divides by a step size of 0
            assert_run_agrees(sampler, monkeypatch, **knobs)
    if final == "zero" and levels != "use_beta_sigmas":  # its last ratio of levels, 300, multiplies Heun's rounding
        assert_run_agrees(Heun(SCHEDULES[schedule], 9, **{levels: True}), monkeypatch, **{levels: True})


def test_euler__log_linear_levels_end_at_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = Euler(SCHEDULES["linear"], 9, interpolation_type="log_linear")
    assert_run_agrees(sampler, monkeypatch, interpolation_type="log_linear")
    last = sampler.updates[-1].alpha_cumprod_previous
    assert float(last) == pytest.approx(float(SCHEDULES["linear"].alphas_cumprod[0]), rel=1e-6)


def test_dpm_solver__leaves_out_timesteps_of_small_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    for spacing in ("linspace", "leading"):
        knobs = {"lambda_min_clipped": -4.0, "timestep_spacing": spacing}
        sampler = DPMSolver(SCHEDULES["cosine"], 10, **knobs)
        assert sampler.updates[0].timestep < 990
        assert_run_agrees(sampler, monkeypatch, **knobs)


@pytest.mark.parametrize("thresholding", [False, True])
def test_x0_clipping__bends_steps_as_in_diffusers(thresholding: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if thresholding:
        knobs = {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.0}
        for algorithm_type in ("dpmsolver++", "sde-dpmsolver++"):
            sampler = DPMSolver(SCHEDULES["scaled_linear"], 9, algorithm_type=algorithm_type, **knobs)
            assert_run_agrees(sampler, monkeypatch, algorithm_type=algorithm_type, **knobs)
    else:
        knobs = {"clip_sample": True, "clip_sample_range": 1.5}
        assert_run_agrees(Heun(SCHEDULES["scaled_linear"], 9, **knobs), monkeypatch, **knobs)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize(("spacing", "count", "offset"), [("leading", 30, 0), ("leading", 20, 1), ("trailing", 20, 0)])
@pytest.mark.parametrize("set_alpha_to_one", [False, True])
def test_plms__follows_diffusers_along_a_run(
    schedule: str, spacing: str, count: int, offset: int, set_alpha_to_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    knobs = {"timestep_spacing": spacing, "steps_offset": offset, "set_alpha_to_one": set_alpha_to_one}
    for steps in (count, 1, 2, 4):
        if 1000 % steps and spacing == "trailing":
            continue
        assert_run_agrees(PLMS(SCHEDULES[schedule], steps, **knobs), monkeypatch, skip_prk_steps=True, **knobs)
