"""Claim: DDIM's and DDPM's clipping, learned variances, zero terminal SNR and configurations are diffusers'.

With float32 tables and a float32 state every step is bit-equal, but for DDIM's use_clipped_model_output: it is one
linear update of x0 and x here and two of them in diffusers.
"""

import os

import numpy as np
import pytest
import torch

from samplers import DDIM, DDPM, BadInput, Float32State, NoiseSchedule, sampler_from_config

try:
    import diffusers
    from diffusers.schedulers import scheduling_ddpm
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"diffusers is absent: {error}", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
STATE = Float32State()
SHAPE = (2, 3, 5, 7)
LINEAR = NoiseSchedule("linear", tables="float32")
SCALED = NoiseSchedule("scaled_linear", 1000, 0.00085, 0.012, tables="float32")
ZERO_SNR = NoiseSchedule("scaled_linear", 1000, 0.00085, 0.012, tables="float32", rescale_betas_zero_snr=True)
CLIPPING = {
    "clip": {"clip_sample": True},
    "clip-range": {"clip_sample": True, "clip_sample_range": 2.0},
    "threshold": {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.7},
}


def peer(sampler, **knobs):
    schedule = sampler.schedule
    scheduler = {"ddim": diffusers.DDIMScheduler, "ddpm": diffusers.DDPMScheduler}[sampler.name](
        schedule.num_train_timesteps, schedule.beta_start, schedule.beta_end, schedule.beta_schedule,
        prediction_type=sampler.prediction_type, timestep_spacing=sampler.timestep_spacing,
        rescale_betas_zero_snr=schedule.rescale_betas_zero_snr, **knobs,
    )  # fmt: skip
    scheduler.set_timesteps(sampler.num_inference_steps)
    return scheduler


def randoms(count: int, *shape: int) -> list[torch.Tensor]:
    return list(torch.randn(count, *shape, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("clipping", CLIPPING)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("derived", [False, True])
def test_ddim__clips_as_diffusers(clipping: str, prediction_type: str, eta: float, derived: bool) -> None:
    knobs = CLIPPING[clipping]
    sampler = DDIM(SCALED, 20, eta, prediction_type=prediction_type, use_clipped_model_output=derived, **knobs)
    scheduler = peer(sampler, **{"clip_sample": False, **knobs})
    x, *rest = randoms(41, *SHAPE)
    clipped = 0
    for index, timestep in enumerate(scheduler.timesteps):
        output, noise = rest[2 * index : 2 * index + 2]
        given = {"eta": eta, "use_clipped_model_output": derived, "variance_noise": noise, "return_dict": False}
        theirs = scheduler.step(output, timestep, x, **given)[0]
        clipped += sampler.predict(STATE, sampler.updates[index], x, output).clipped
        ours = sampler.step(STATE, index, x, output, noise)
        if derived:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6 * float(theirs.abs().max()))
        else:
            assert torch.equal(ours, theirs), f"step {index}"
        x = theirs
    assert clipped > 0


@pytest.mark.parametrize("clipping", ["none", *CLIPPING])
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large", "learned", "learned_range"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_ddpm__clips_and_learns_variances_as_diffusers(
    clipping: str, variance_type: str, prediction_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    knobs = CLIPPING.get(clipping, {})
    sampler = DDPM(LINEAR, 25, variance_type, prediction_type=prediction_type, **knobs)
    scheduler = peer(sampler, variance_type=variance_type, **{"clip_sample": False, **knobs})
    x, *noises = randoms(26, *SHAPE)
    learns = variance_type.startswith("learned")
    outputs = randoms(25, 2, 6 if learns else 3, 5, 7)
    for index, (timestep, output, noise) in enumerate(zip(scheduler.timesteps, outputs, noises, strict=True)):
        if variance_type == "learned":
            output[:, 3:] = output[:, 3:].abs() / 100
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, value=noise, **__: value)
        theirs = scheduler.step(output, int(timestep), x, return_dict=False)[0]
        ours = sampler.step(STATE, index, x, output, noise)
        assert torch.equal(ours, theirs), f"step {index}"
        x = ours


def test_schedule__rescaled_to_zero_snr_is_diffusers() -> None:
    for kind in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        for total in (2, 333, 1000):
            ours = NoiseSchedule(kind, total, 1e-4, 0.02, "float32", rescale_betas_zero_snr=True)
            theirs = diffusers.DDIMScheduler(total, 1e-4, 0.02, kind, rescale_betas_zero_snr=True)
            assert np.array_equal(ours.betas, theirs.betas.numpy())
            assert np.array_equal(ours.alphas_cumprod, theirs.alphas_cumprod.numpy())
            assert ours.alphas_cumprod[-1] == 0


@pytest.mark.parametrize("kind", [DDIM, DDPM])
@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_zero_snr__first_step_from_pure_noise_is_diffusers(kind, prediction_type: str, monkeypatch) -> None:
    sampler = kind(ZERO_SNR, 20, timestep_spacing="trailing", prediction_type=prediction_type)
    scheduler = peer(sampler, clip_sample=False)
    x, output, noise = randoms(3, *SHAPE)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, value=noise, **__: value)
    theirs = scheduler.step(output, int(scheduler.timesteps[0]), x, return_dict=False)[0]
    assert torch.equal(sampler.step(STATE, 0, x, output, noise), theirs)
    assert sampler.updates[0].alpha_cumprod == 0
    assert np.isnan([sampler.updates[0].a, sampler.updates[0].b]).all()


def test_zero_snr__refuses_epsilon_where_diffusers_divides_by_zero() -> None:
    scheduler = peer(DDIM(ZERO_SNR, 20, timestep_spacing="trailing", prediction_type="sample"), clip_sample=False)
    scheduler.register_to_config(prediction_type="epsilon")
    x, output = randoms(2, *SHAPE)
    assert not scheduler.step(output, 999, x, return_dict=False)[0].isfinite().all()
    for kind in (DDIM, DDPM):
        with pytest.raises(BadInput, match="needs some signal at every timestep"):
            kind(ZERO_SNR, 20, timestep_spacing="trailing")
        assert kind(ZERO_SNR, 20).updates[0].alpha_cumprod > 0  # leading does not visit it


SCHEDULERS = [
    ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    ("DDIMScheduler", {"thresholding": True}),
    ("DDPMScheduler", {"variance_type": "fixed_large", "timestep_spacing": "trailing"}),
    ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1, "beta_schedule": "scaled_linear"}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "beta_schedule": "scaled_linear"}),
    ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}),
    ("HeunDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"solver_order": 1, "beta_schedule": "squaredcos_cap_v2"}),
    ("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
]


@pytest.mark.parametrize(("name", "knobs"), SCHEDULERS)
def test_sampler_from_config__visits_the_scheduler_s_timesteps_and_levels(name: str, knobs: dict) -> None:
    scheduler = getattr(diffusers, name)(**knobs)
    scheduler.set_timesteps(10)
    sampler = sampler_from_config({**scheduler.config, "_class_name": name}, 10)
    np.testing.assert_allclose([u.timestep for u in sampler.updates], scheduler.timesteps.numpy(), 1e-4, 1e-3)
    assert sampler.clip_sample == (scheduler.config.get("clip_sample", False) and "thresholding" not in knobs)
    assert sampler.prediction_type == "epsilon"
    if hasattr(sampler, "nodes"):
        ours = [float((1 - n.alpha_cumprod) / n.alpha_cumprod) ** 0.5 for n in sampler.nodes]
        theirs = scheduler.sigmas.numpy()
        if name.startswith("Heun"):
            theirs = np.append(theirs[:-1:2], theirs[-1])
        np.testing.assert_allclose(ours, theirs, rtol=2e-3)  # float64 tables against float32 ones


def test_sampler_from_config__fills_in_diffusers_defaults() -> None:
    for name in ("DDIMScheduler", "DDPMScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler"):
        sparse = sampler_from_config({"_class_name": name}, 10)
        full = sampler_from_config({**getattr(diffusers, name)().config, "_class_name": name}, 10)
        assert sparse == full


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "LCMScheduler"}, "must be one of DDIMScheduler"),
        ({}, "must be one of DDIMScheduler"),
        ({"_class_name": "PNDMScheduler"}, "skip_prk_steps of PNDMScheduler must be True"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}, "algorithm_type"),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}, "solver_order must be 1 or 2"),
        ({"_class_name": "DDIMScheduler", "beta_schedule": "exp"}, "beta_schedule"),
        ({"_class_name": "DDPMScheduler", "variance_type": "fixed_large_log"}, "variance_type"),
    ],
)
def test_sampler_from_config__refuses_what_has_no_counterpart(config: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        sampler_from_config(config, 10)
