"""Claim: every sampler runs through a paired run: its reference is ``samplers.sample``, and arms carry earlier noise.

An arm's trajectory is recomputed here from the quantized network alone, by the sampler's public functions.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from samplers import (
    DDIM,
    DDPM,
    PLMS,
    BadInput,
    DPMSolver,
    Euler,
    EulerAncestral,
    FixedPointState,
    Float64State,
    Heun,
    NoiseStream,
    sample,
)
from simulator.calibration.trajectory import calibrate_ranges
from simulator.correction import NoCorrection
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.paired import Arm, run, run_arms

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = {
    "plms": lambda schedule: PLMS(schedule, 4),
    "euler": lambda schedule: Euler(schedule, 4, use_karras_sigmas=True),
    "euler-ancestral": lambda schedule: EulerAncestral(schedule, 4),
    "heun": lambda schedule: Heun(schedule, 3),
    "heun-clipped": lambda schedule: Heun(schedule, 3, clip_sample=True),
    "dpm-2m": lambda schedule: DPMSolver(schedule, 4),
    "dpm-2s": lambda schedule: DPMSolver(schedule, 5, solver="singlestep"),
    "sde-2m": lambda schedule: DPMSolver(schedule, 4, algorithm_type="sde-dpmsolver++"),
    "ddim-derived": lambda schedule: DDIM(schedule, 4, clip_sample=True, use_clipped_model_output=True),
}


@pytest.fixture(scope="module")
def quantized(tiny_model):
    ranges = calibrate_ranges(tiny_model, DDIM(tiny_model.schedule, 4), samples=4)
    return QuantizedModel(tiny_model, Scheme.parse("w4a6"), ranges)


def full_precision(model):
    """The network in float, called as in a run: torch's last bits depend on how its layers are called."""
    return lambda x, t: forward(model.module, lambda site, contraction: contraction.float(), x, t)


@pytest.mark.parametrize("name", METHODS)
def test_run__is_the_samplers_own_trajectory_for_both_networks(name, tiny_model, quantized):
    sampler, noise = METHODS[name](tiny_model.schedule), NoiseStream(0, "evaluate")
    found = run(Arm(quantized), sampler, samples=3, sites=False)
    reference = sample(full_precision(tiny_model), sampler, noise, range(3), (1, 8, 8))
    step = iter(range(len(sampler.updates)))
    arm = sample(lambda x, t: quantized(x, t, step=next(step), audit=False), sampler, noise, range(3), (1, 8, 8))
    np.testing.assert_array_equal(found.sample_reference, reference.float().numpy())
    np.testing.assert_array_equal(found.sample_quantized, arm.float().numpy())
    power = (arm - reference).square().mean().item()
    last = found.state_accumulated.isel(step=-1)
    recorded = (last.sel(moment="ee") + last.sel(moment="mean_e") ** 2).mean().item()
    assert recorded == pytest.approx(power, rel=0.05)  # blocks of one sample each, of equal size
    assert power > 0
    assert found.sizes["step"] == len(sampler.updates)
    assert found.timestep.values.tolist() == [u.timestep for u in sampler.updates]


class ScaledEpsilon(NoCorrection):
    """Halves epsilon, so that the x0 that goes with it must follow, in this call and as an earlier one."""

    name = "scaled"

    def epsilon(self, step, epsilon, members):
        return epsilon / 2


@pytest.mark.parametrize("name", ["plms", "heun", "dpm-2m"])
def test_correction__reaches_later_steps_through_the_history(name, tiny_model, quantized):
    sampler, noise = METHODS[name](tiny_model.schedule), NoiseStream(0, "evaluate")
    found = run(Arm(quantized, ScaledEpsilon()), sampler, samples=3, sites=False)
    step = iter(range(len(sampler.updates)))
    halved = sample(
        lambda x, t: quantized(x, t, step=next(step), audit=False).double() / 2, sampler, noise, range(3), (1, 8, 8)
    )
    np.testing.assert_array_equal(found.sample_quantized, halved.float().numpy())


@pytest.fixture(scope="module")
def float_like(tiny_model):
    """A network so fine that what an arm loses is its state's."""
    ranges = calibrate_ranges(tiny_model, DDIM(tiny_model.schedule, 4), samples=4)
    return QuantizedModel(tiny_model, Scheme.parse("w8a8"), ranges)


def test_fixed_point_arm__shows_the_updates_noise_beside_float64(tiny_model, float_like):
    sampler = DDIM(tiny_model.schedule, 4, 1.0)
    states = [Float64State(), *(FixedPointState(16 + bits, bits, 16) for bits in (2, 6, 12))]
    plain, same, *narrow = run_arms(
        [Arm(float_like), *(Arm(float_like, state=state) for state in states)], sampler, samples=4, sites=False
    )
    np.testing.assert_array_equal(same.state_accumulated, plain.state_accumulated)
    powers = [float(((made.sample_quantized - plain.sample_quantized) ** 2).mean()) for made in narrow]
    assert powers[0] > 4 * powers[1] > 16 * powers[2] > 0
    for made in narrow:
        assert made.state_saturated_accumulated.values.tolist() == [0] * 4
        assert not made.state_accumulated.equals(plain.state_accumulated)
    assert "state_saturated_accumulated" not in plain


def test_fixed_point_arm__rounds_what_a_correction_makes(tiny_model, quantized):
    sampler, state = DDIM(tiny_model.schedule, 4, 0.5), FixedPointState(20, 6, 16)
    found = run(Arm(quantized, ScaledEpsilon(), state), sampler, samples=3, sites=False)
    step = iter(range(4))

    def halved(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return state.cast(quantized(x, timestep, step=next(step), audit=False)) / 2

    own = sample(halved, sampler, NoiseStream(0, "evaluate"), range(3), (1, 8, 8), state=state)
    np.testing.assert_array_equal(found.sample_quantized, own.float().numpy())


def test_fixed_point_arm__saturation_is_counted(tiny_model, float_like):
    sampler = DDIM(tiny_model.schedule, 4)
    # x0 = x / sqrt(abar) is beyond 4 at the first step, where sqrt(abar) is 0.14
    found = run(Arm(float_like, state=FixedPointState(16, 13, 16)), sampler, samples=4, sites=False)
    assert found.state_saturated_accumulated.values[0] > 0
    roomy = run(Arm(float_like, state=FixedPointState(24, 13, 16)), sampler, samples=4, sites=False)
    assert roomy.state_saturated_accumulated.values.sum() == 0


def test_fixed_point_arm__refuses_coefficients_that_do_not_fit(tiny_model, float_like):
    with pytest.raises(BadInput, match="fixed-point combination must be exact"):
        run(Arm(float_like, state=FixedPointState(40, 20, 16)), DDIM(tiny_model.schedule, 4), samples=1, sites=False)


def test_run__refuses_a_correction_of_epsilon_at_zero_snr(tiny_model, quantized):
    rescaled = dataclasses.replace(tiny_model.schedule, rescale_betas_zero_snr=True)
    sampler = DDIM(rescaled, 3, timestep_spacing="trailing", prediction_type="v_prediction")
    model = dataclasses.replace(tiny_model, schedule=rescaled, prediction_type="v_prediction")
    network = QuantizedModel(model, Scheme.parse("w8a8"), calibrate_ranges(model, sampler, samples=2))
    assert run(Arm(network), sampler, samples=2, sites=False).alpha_cumprod.values[0] == 0
    with pytest.raises(BadInput, match="a correction of epsilon needs some signal"):
        run(Arm(network, ScaledEpsilon()), sampler, samples=2, sites=False)


def test_ddpm__with_a_learned_variance_says_what_a_network_lacks(tiny_model, quantized):
    with pytest.raises(BadInput, match="a learned variance needs a network of twice the sample's channels"):
        run(Arm(quantized), DDPM(tiny_model.schedule, 3, "learned_range"), samples=1, sites=False)
    assert torch.get_num_threads() == 1
