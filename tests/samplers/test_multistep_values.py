"""Claim: samplers of several calls or levels are hashable values with plain configurations, and refuse bad input."""

import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
import torch

from noise_models.absorption.rule import absorb
from samplers import (
    DDIM,
    DDPM,
    PLMS,
    BadInput,
    DPMSolver,
    Euler,
    EulerAncestral,
    Float16State,
    Float64State,
    Heun,
    NoiseSchedule,
    NoiseStream,
    Sampler,
    sample,
)
from samplers.learned_variance import LearnedVariance

SCHEDULE = NoiseSchedule()
ZERO_SNR = NoiseSchedule(rescale_betas_zero_snr=True)
KINDS = (PLMS, Euler, EulerAncestral, Heun, DPMSolver)


@pytest.mark.parametrize("kind", KINDS)
def test_samplers__are_hashable_values_with_a_plain_config(kind) -> None:
    sampler = kind(SCHEDULE, 10, prediction_type="v_prediction")
    assert isinstance(sampler, Sampler)
    same = kind(NoiseSchedule(), np.int64(10), prediction_type="v_prediction")
    assert (sampler, hash(sampler)) == (same, hash(same))
    copy = pickle.loads(pickle.dumps(sampler))
    assert copy == sampler
    assert copy.updates == sampler.updates
    config = sampler.config()
    assert json.loads(json.dumps(config)) == config
    assert config["name"] == sampler.name
    assert config != kind(SCHEDULE, 11, prediction_type="v_prediction").config()
    assert dataclasses.replace(sampler, num_inference_steps=11).config() != config


def test_names__tell_methods_apart() -> None:
    sde = DPMSolver(SCHEDULE, 10, algorithm_type="sde-dpmsolver++")
    names = [*(kind(SCHEDULE, 10).name for kind in KINDS), sde.name, "ddim", "ddpm"]
    assert len(set(names)) == len(names)


def test_config__names_a_knob_only_from_when_it_is_used() -> None:
    assert "rescale_betas_zero_snr" not in SCHEDULE.config()
    assert ZERO_SNR.config()["rescale_betas_zero_snr"] is True
    assert "use_clipped_model_output" not in DDIM(SCHEDULE, 5, clip_sample=True).config()
    used = DDIM(SCHEDULE, 5, clip_sample=True, use_clipped_model_output=True).config()
    assert used["use_clipped_model_output"] is True


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        *((kind, {"num_inference_steps": 0}, "num_inference_steps") for kind in KINDS),
        *((kind, {"num_inference_steps": 1001}, "must not exceed") for kind in KINDS),
        *((kind, {"timestep_spacing": "karras"}, "leading, trailing, linspace") for kind in KINDS),
        *((kind, {"steps_offset": -1}, "steps_offset") for kind in KINDS),
        *((kind, {"schedule": None}, "noise schedule") for kind in KINDS),
        (PLMS, {"clip_sample": True}, "plms takes neither clip_sample nor thresholding"),
        (PLMS, {"thresholding": True}, "plms takes neither clip_sample nor thresholding"),
        (PLMS, {"schedule": ZERO_SNR, "timestep_spacing": "trailing"}, "PLMS needs some signal"),
        (Euler, {"use_karras_sigmas": True, "use_beta_sigmas": True}, "at most one of"),
        (Euler, {"use_karras_sigmas": 1}, "use_karras_sigmas must be True or False"),
        (Euler, {"interpolation_type": "cubic"}, "linear, log_linear"),
        (Euler, {"final_sigmas_type": "max"}, "zero, sigma_min"),
        (Euler, {"timestep_spacing": "leading", "steps_offset": 500}, "must lie in 0..999"),
        (DPMSolver, {"solver_order": 3}, "solver_order must be 1 or 2"),
        (DPMSolver, {"algorithm_type": "dpmsolver"}, "dpmsolver\\+\\+, sde-dpmsolver\\+\\+"),
        (DPMSolver, {"solver_type": "logrho"}, "midpoint, heun"),
        (DPMSolver, {"solver": "unipc"}, "multistep, singlestep"),
        (DPMSolver, {"solver": "singlestep", "algorithm_type": "sde-dpmsolver++"}, "singlestep solver is the ODE"),
        (DPMSolver, {"solver": "singlestep", "timestep_spacing": "leading"}, "singlestep solver is the ODE"),
        (DPMSolver, {"solver": "singlestep", "euler_at_final": True}, "euler_at_final belongs to multistep"),
        (DPMSolver, {"timestep_spacing": "leading", "num_inference_steps": 1000}, "must descend"),
        (DPMSolver, {"timestep_spacing": "leading", "steps_offset": 200}, "must lie in 0..999"),
        (DPMSolver, {"lambda_min_clipped": 4.4, "timestep_spacing": "trailing"}, "timesteps must lie in"),
        (DPMSolver, {"lambda_min_clipped": math.inf}, "lambda_min_clipped must be a finite number"),
        (DDIM, {"use_clipped_model_output": True}, "needs clip_sample or thresholding"),
        (DDIM, {"use_clipped_model_output": 1}, "use_clipped_model_output must be True or False"),
    ],
)
def test_samplers__refuse_bad_input(kind, change: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        kind(**{"schedule": SCHEDULE, "num_inference_steps": 10, **change})


def test_schedule__refuses_to_rescale_a_single_timestep() -> None:
    with pytest.raises(BadInput, match="rescaling needs at least 2 timesteps"):
        NoiseSchedule(num_train_timesteps=1, rescale_betas_zero_snr=True)


def test_zero_snr__is_2_to_minus_24_to_samplers_of_sigma() -> None:
    for kind in (Euler, EulerAncestral, Heun, DPMSolver):
        first = kind(ZERO_SNR, 10, timestep_spacing="trailing").updates[0]
        assert float(first.alpha_cumprod) == pytest.approx(2.0**-24, rel=1e-6)
        assert all(map(math.isfinite, (first.a, first.b, first.c)))


# Start


def test_init_noise_sigma__scales_the_start_as_diffusers_where_it_starts_at_sigma() -> None:
    # y = sigma_max z is x = y / sqrt(1 + sigma_max^2) = sqrt(1 - abar) z.
    for kind in (Euler, EulerAncestral, Heun):
        sampler = kind(SCHEDULE, 10)
        abar = float(SCHEDULE.alphas_cumprod[-1])
        assert sampler.init_noise_sigma == pytest.approx(math.sqrt(1 - abar), rel=1e-12)
        assert kind(SCHEDULE, 10, timestep_spacing="leading").init_noise_sigma == 1
    assert PLMS(SCHEDULE, 10).init_noise_sigma == DPMSolver(SCHEDULE, 10).init_noise_sigma == 1
    noise, seen = NoiseStream(0, "test"), []

    def look(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    sampler = Euler(SCHEDULE, 1, timestep_spacing="trailing", use_karras_sigmas=True)
    sample(look, sampler, noise, range(2), (3,), denoiser_dtype=torch.float64)
    assert torch.equal(seen[0], sampler.init_noise_sigma * noise.initial(range(2), (3,)))


def test_fractional_timesteps__reach_the_network_in_float32() -> None:
    seen = []

    def look(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        seen.append(timestep)
        return x

    sampler = Euler(SCHEDULE, 4, use_karras_sigmas=True)
    sample(look, sampler, NoiseStream(0, "test"), range(2), (3,))
    assert [t.dtype for t in seen[:2]] == [torch.int64, torch.float32]
    assert [t[0].item() for t in seen] == [u.timestep for u in sampler.updates] == sampler.timesteps.tolist()


# Learned variance


def learned_update():
    return DDPM(SCHEDULE, 10, "learned_range").updates[3]


def test_learned_sigma__is_the_geometric_mean_of_the_range_at_zero() -> None:
    update = learned_update()
    small, large = (DDPM(SCHEDULE, 10, kind).updates[3].c for kind in ("fixed_small", "fixed_large"))
    values = torch.tensor([-1.0, 0.0, 1.0, torch.nan], dtype=torch.float64)
    sigma = update.learned.sigma(values)
    torch.testing.assert_close(sigma[:3], torch.tensor([small, math.sqrt(small * large), large], dtype=torch.float64))
    assert sigma[3].isnan()
    assert update.learned.sigma(values.half()).dtype == torch.float32
    assert math.isnan(update.c)
    assert float(update.noise_coefficient) == large


def test_learned_sigma__refuses_a_negative_variance() -> None:
    with pytest.raises(BadInput, match="variance_type learned must predict variances"):
        LearnedVariance("learned", 0.1, 0.2).sigma(torch.tensor([0.1, -0.1]))


def test_less_noise__takes_a_variance_out_of_every_element() -> None:
    values, update = torch.tensor([-1.0, 1.0], dtype=torch.float64), learned_update()
    before = update.learned.sigma(values)
    taken = float(before[0]) ** 2 + (float(before[1]) ** 2 - float(before[0]) ** 2) / 2
    after = update.less_noise(taken / 2).less_noise(taken / 2)
    torch.testing.assert_close(after.learned.sigma(values) ** 2, (before**2 - taken).clamp(min=0))
    assert (after.a, after.b) == (update.a, update.b)
    fixed = DDPM(SCHEDULE, 10).updates[3]
    assert fixed.less_noise(fixed.c**2 / 2).c == pytest.approx(fixed.c / math.sqrt(2))
    assert fixed.less_noise(1.0).c == 0
    last = DDPM(SCHEDULE, 10, "learned").updates[-1]
    assert last.less_noise(1.0) is last
    assert last.learned is None
    with pytest.raises(BadInput, match="variance must be at least 0"):
        update.less_noise(-1)


def test_absorption__of_a_learned_sigma_into_one_number_is_refused() -> None:
    with pytest.raises(BadInput, match="whose noise the network predicts has no sigma of its own"):
        learned_update().with_noise(0.1)
    with pytest.raises(BadInput, match="needs a DDIM update"):
        absorb(learned_update(), 0.0, 0.01, "released")


@pytest.mark.parametrize("state", [Float64State(), Float16State()])
def test_step__with_a_learned_sigma_adds_sigma_z(state) -> None:
    sampler = DDPM(SCHEDULE, 10, "learned_range")
    generator = torch.Generator().manual_seed(2)
    x, noise = (state.cast(torch.randn(2, 1, 4, generator=generator)) for _ in range(2))
    output = state.cast(torch.randn(2, 2, 4, generator=generator))
    update = sampler.updates[3]
    prediction = sampler.predict(state, update, x, output)
    quiet = state.combine((update.x0_coefficient, update.x_coefficient), (prediction.x0, x))
    wanted = quiet + state.cast(update.learned.sigma(output[:, 1:]) * noise)
    assert torch.equal(sampler.step(state, 3, x, output, noise), wanted)
