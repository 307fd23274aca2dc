"""Claim: with float32 tables and a float32 state, tables, timesteps and every step are bit-equal to diffusers'.

Bits are compared on this machine's CPU, where diffusers' own float32 coefficients depend on the CPU (see
samplers/table_arithmetic.py). A zero of the other sign counts as equal.
"""

import os

import numpy as np
import pytest
import torch

from samplers import DDIM, DDPM, Float32State, NoiseSchedule
from samplers.timesteps import timesteps

try:
    from diffusers import DDIMScheduler, DDPMScheduler
    from diffusers.schedulers import scheduling_ddpm
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"diffusers is absent: {error}", allow_module_level=True)

STATE = Float32State()
SHAPE = (2, 3, 5, 7)
SCHEDULES = {
    "linear": NoiseSchedule("linear", tables="float32"),
    "scaled_linear": NoiseSchedule("scaled_linear", 1000, 0.00085, 0.012, tables="float32"),
    "squaredcos_cap_v2": NoiseSchedule("squaredcos_cap_v2", tables="float32"),
}


def peer(kind: type, sampler, **arguments):
    schedule = sampler.schedule
    scheduler = kind(
        num_train_timesteps=schedule.num_train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        timestep_spacing=sampler.timestep_spacing,
        steps_offset=sampler.steps_offset,
        prediction_type=sampler.prediction_type,
        clip_sample=False,
        **arguments,
    )
    scheduler.set_timesteps(sampler.num_inference_steps)
    assert scheduler.timesteps.tolist() == sampler.timesteps.tolist()
    return scheduler


def tensors(count: int) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("beta_schedule", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 7, 100, 333, 999, 1000, 1001, 4000])
def test_tables__float32_are_bit_equal(beta_schedule: str, total: int) -> None:
    for start, end in ((1e-4, 0.02), (0.00085, 0.012), (0.0015, 0.0195)):
        ours = NoiseSchedule(beta_schedule, total, start, end, tables="float32")
        theirs = DDIMScheduler(total, start, end, beta_schedule)
        assert np.array_equal(ours.betas, theirs.betas.numpy())
        assert np.array_equal(ours.alphas_cumprod, theirs.alphas_cumprod.numpy())


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("total", [1000, 999])
def test_timesteps__are_equal_wherever_diffusers_stays_inside_its_table(spacing: str, total: int) -> None:
    ddim = DDIMScheduler(total, timestep_spacing=spacing, steps_offset=1)
    ddpm = DDPMScheduler(total, timestep_spacing=spacing, steps_offset=1)
    compared = 0
    for count in range(1, total, 7):
        ddim.set_timesteps(count)
        ddpm.set_timesteps(count)
        if ddim.timesteps.min() < 0 or ddim.timesteps.max() >= total:
            continue
        compared += 1
        ours = timesteps(spacing, count, total, 1).tolist()
        assert ours == ddim.timesteps.tolist() == ddpm.timesteps.tolist()
    assert compared > 100


def assert_ddim_steps_equal(sampler: DDIM) -> None:
    scheduler = peer(DDIMScheduler, sampler, set_alpha_to_one=sampler.set_alpha_to_one)
    count = sampler.num_inference_steps
    x, *rest = tensors(1 + 2 * count)
    for index, timestep in enumerate(scheduler.timesteps):
        output, noise = rest[index], rest[count + index]
        theirs = scheduler.step(output, timestep, x, eta=sampler.eta, variance_noise=noise, return_dict=False)[0]
        ours = sampler.step(STATE, index, x, output, noise)
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs), f"step {index}"
        x = ours


@pytest.mark.parametrize("beta_schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("set_alpha_to_one", [True, False])
@pytest.mark.parametrize(("spacing", "count", "offset"), [("leading", 30, 0), ("leading", 20, 1), ("trailing", 20, 0)])
@pytest.mark.parametrize("eta", [0.0, 0.3, 0.5, 1.0])
def test_ddim__steps_are_bit_equal(
    beta_schedule: str,
    prediction_type: str,
    set_alpha_to_one: bool,
    spacing: str,
    count: int,
    offset: int,
    eta: float,
) -> None:
    assert_ddim_steps_equal(
        DDIM(
            SCHEDULES[beta_schedule],
            count,
            eta,
            timestep_spacing=spacing,
            steps_offset=offset,
            set_alpha_to_one=set_alpha_to_one,
            prediction_type=prediction_type,
        )
    )


def test_ddim__every_timestep_of_the_full_schedule_is_bit_equal() -> None:
    for spacing in ("leading", "trailing", "linspace"):
        assert_ddim_steps_equal(DDIM(SCHEDULES["linear"], 1000, 1.0, timestep_spacing=spacing))


def test_ddim__linspace_differs_because_diffusers_steps_to_a_timestep_it_does_not_visit() -> None:
    sampler = DDIM(SCHEDULES["linear"], 20, timestep_spacing="linspace")
    scheduler = peer(DDIMScheduler, sampler)
    x, output = tensors(2)
    theirs = [scheduler.step(output, int(t), x, return_dict=False)[0] for t in scheduler.timesteps]
    ours = [sampler.step(STATE, index, x, output, None) for index in range(20)]
    assert not all(map(torch.equal, ours, theirs))
    for update, a, b in zip(sampler.updates, ours, theirs, strict=True):
        same_previous = update.previous_timestep == max(update.timestep - 1000 // 20, -1)
        assert torch.equal(a, b) == same_previous


@pytest.mark.parametrize("beta_schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize(
    ("spacing", "count", "offset"),
    [("leading", 30, 0), ("leading", 20, 1), ("trailing", 30, 0), ("linspace", 30, 0), ("leading", 1000, 0)],
)
def test_ddpm__steps_are_bit_equal(
    beta_schedule: str,
    prediction_type: str,
    variance_type: str,
    spacing: str,
    count: int,
    offset: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sampler = DDPM(
        SCHEDULES[beta_schedule],
        count,
        variance_type,
        timestep_spacing=spacing,
        steps_offset=offset,
        prediction_type=prediction_type,
    )
    scheduler = peer(DDPMScheduler, sampler, variance_type=variance_type)
    indices = range(count) if count <= 30 else [0, 1, 500, 997, 998, 999]
    x, *rest = tensors(61)
    for k, index in enumerate(indices):
        output, noise = rest[k], rest[30 + k]
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, value=noise, **__: value)
        timestep = int(scheduler.timesteps[index])
        theirs = scheduler.step(output, timestep, x, return_dict=False)[0]
        update = sampler.updates[index]
        ours = sampler.step(STATE, index, x, output, noise)
        if update.previous_timestep < 0 and timestep > 0:
            # Here alone diffusers adds noise to the finished sample; the same noise, put back, gives its bits.
            sigma = scheduler._get_variance(timestep) ** 0.5
            assert update.c == 0
            assert float(sigma) == pytest.approx(
                1e-10 if variance_type == "fixed_small" else (1 - float(update.alpha_cumprod)) ** 0.5, rel=1e-5
            )
            ours = STATE.combine((1.0, sigma), (ours, noise))
        assert torch.equal(ours, theirs), f"step {index}"
        x = ours
