"""Claim: one step is measured from full precision's x_t; absorption restores its variance where noise is independent.

The planted cases know the answer; the run's numbers are compared with the sampler's own coefficients.
"""

import numpy as np
import pytest
from planted_noise import planted, recorded_run
from sampler_updates import adams_bashforth

from noise_models import absorb, fit_d2dpm, fit_ptqd, fit_timestep_aware, one_step_change, one_step_variance
from samplers import DDIM, BadInput, NoiseStream
from samplers.method import Method
from simulator import Arm, NoCorrection, QuantizedModel, Scheme, calibrate_ranges, one_step, run_arms


def planted_step(e: np.ndarray, y: np.ndarray, c: float, used: float, name: str):
    """A dataset as of ``one_step``; e on the mean y of x_{t-1}, (step, sample, channel, element)."""
    made = recorded_run(y, e, purpose="evaluate", correction={"name": name}).rename(epsilon_injected="mean_injected")
    steps = len(y)
    made = made.assign(
        residual_injected=made.mean_injected, c=("step", np.full(steps, c)), c_used=("step", np.full(steps, used))
    )
    return made.assign_coords(correction=name)


def test_one_step_variance__excess_is_that_of_the_elements_and_of_fresh_noise() -> None:
    y, e = planted(1, [0.1, -0.2], [[0.3, 0.0]] * 2, [0.2, 0.1], samples=64, mean=0.5)
    found = one_step_variance(planted_step(e, y, 0.4, 0.3, "ptqd"))
    variance = (y + e).var(axis=(1, 3)).mean(1) + 0.3**2
    reference = y.var(axis=(1, 3)).mean(1) + 0.4**2
    np.testing.assert_allclose(found.variance, variance, rtol=1e-9)
    np.testing.assert_allclose(found.variance_reference, reference, rtol=1e-9)
    np.testing.assert_allclose(found.variance_excess, variance - reference, rtol=1e-9)
    np.testing.assert_allclose(found.noise_variance, e.var(axis=(1, 3)).mean(1), rtol=1e-9)
    parts = found.noise_variance + found.noise_covariance + 0.3**2 - 0.4**2
    np.testing.assert_allclose(found.variance_excess, parts, rtol=1e-9)
    assert (found.variance_excess_low < found.variance_excess).all()


def test_absorption__restores_the_measured_one_step_variance_for_independent_noise() -> None:
    b, c, q = -0.5, 0.3, 0.2
    y, e = planted(3, [0.0], [[0.0]], [abs(b) * np.sqrt(q)], samples=256)
    plain = planted_step(e, y, c, c, "ptqd-unabsorbed")
    absorbed = planted_step(e, y, c, np.sqrt(c**2 - b**2 * q), "ptqd")
    before, after = one_step_variance(plain), one_step_variance(absorbed)
    assert before.variance_excess_low[0] < b**2 * q < before.variance_excess_high[0]
    assert after.variance_excess_low[0] < 0 < after.variance_excess_high[0]
    assert one_step_change(plain, absorbed).verdict.values.tolist() == [1]
    assert one_step_change(absorbed, plain).verdict.values.tolist() == [2]


@pytest.fixture(scope="module")
def system(tiny_model):
    sampler = DDIM(tiny_model.schedule, 3, eta=1.0)
    quantized = QuantizedModel(tiny_model, Scheme.parse("w3a3"), calibrate_ranges(tiny_model, sampler, samples=8))
    fit_run = run_arms([Arm(quantized)], sampler, samples=16, purpose="calibrate", sites=False)[0]
    return quantized, sampler, fit_run


def test_one_step__agrees_with_the_paired_run_and_with_the_coefficients(system) -> None:
    quantized, sampler, fit_run = system
    corrections = [
        NoCorrection(), fit_ptqd(fit_run), fit_ptqd(fit_run, "released"), fit_d2dpm(fit_run, sampled=True),
        fit_timestep_aware(fit_run),
    ]  # fmt: skip
    arms = [Arm(quantized, correction) for correction in corrections]
    steps = one_step(arms, sampler, samples=12, batch_size=12)
    paired = run_arms(arms, sampler, samples=12, batch_size=12, sites=False)
    for correction, found, run in zip(corrections, steps, paired, strict=True):
        assert str(found.correction.values) == correction.name
        for moment in ("mean_e", "ee"):  # epsilon' - epsilon at full precision's x_t
            residual, injected = (d.sel(moment=moment) for d in (found.residual_injected, run.epsilon_injected))
            np.testing.assert_allclose(residual, injected, rtol=1e-9, atol=1e-14)
        np.testing.assert_array_equal(found.c_used, run.c_used)
        np.testing.assert_array_equal(found.c, run.c)
        if correction.name != "ptqd-released":  # there b moves too
            for moment, power in (("mean_e", 1), ("ee", 2)):
                expected = found.residual_injected.sel(moment=moment) * run.b**power
                np.testing.assert_allclose(
                    found.mean_injected.sel(moment=moment).transpose("step", ...), expected, rtol=1e-8, atol=1e-12
                )
    released = steps[2].mean_injected.sel(moment="mean_e")
    y, e = (paired[2].epsilon_injected.sel(moment=m) for m in ("mean_y", "mean_e"))
    np.testing.assert_allclose(released, paired[2].b_used * (y + e) - paired[2].b * y, rtol=1e-6, atol=1e-9)


class Multistep(Method):
    """Adams and Bashforth's method of order 2 on epsilon."""

    name = "ab2"

    @property
    def updates(self):
        return tuple(adams_bashforth(DDIM(self.schedule, self.num_inference_steps, set_alpha_to_one=False)))


def test_one_step__of_a_multistep_sampler_takes_earlier_predictions_from_full_precision(system) -> None:
    quantized, sampler, _ = system
    found = one_step([Arm(quantized)], Multistep(sampler.schedule, 5), samples=4)[0]
    b = np.array([update.b for update in Multistep(sampler.schedule, 5).updates])[:, None, None]
    np.testing.assert_allclose(
        found.mean_injected.sel(moment="ee"), b**2 * found.residual_injected.sel(moment="ee"), rtol=1e-8, atol=1e-20
    )
    # without fresh noise the mean of x_{t-1} is the x_t of the next step
    for moment in ("mean_y", "yy"):
        mean, x = (found[name].sel(moment=moment).to_numpy() for name in ("mean_injected", "residual_injected"))
        np.testing.assert_allclose(mean[:-1], x[1:], rtol=1e-12)


def test_one_step__refuses_no_arms_and_the_samples_of_a_fit(system) -> None:
    quantized, sampler, fit_run = system
    with pytest.raises(BadInput, match="share one model"):
        one_step([], sampler)
    with pytest.raises(BadInput, match="other samples"):
        one_step([Arm(quantized, fit_ptqd(fit_run))], sampler, purpose="calibrate")


def test_absorption__adds_the_square_of_its_change_to_the_paired_error_of_a_step(system) -> None:
    quantized, sampler, fit_run = system
    plain, absorbing = (fit_ptqd(fit_run, absorb=a) for a in (False, True))
    before, after = run_arms([Arm(quantized, c) for c in (plain, absorbing)], sampler, samples=32, sites=False)
    first = [
        run.state_accumulated.isel(step=0).sel(moment="ee")
        + run.state_accumulated.isel(step=0).sel(moment="mean_e") ** 2
        for run in (before, after)
    ]
    added = float((first[1] - first[0]).mean())
    update = sampler.updates[0]
    change = update.c - absorb(update, absorbing.k[0], absorbing.residual_variance[0]).c
    # e' = e + (sigma' - sigma) z on the shared z: exactly, with z's own power and its product with e
    count = 32 * 64
    z = NoiseStream(0, "evaluate").step(0, range(32), (1, 8, 8))
    assert float(z.square().mean()) == pytest.approx(1, abs=5 * np.sqrt(2 / count))
    error = float(first[0].mean()) ** 0.5
    assert change > 0.02
    assert added == pytest.approx(change**2, abs=5 * (2 * change * error + change**2 * 2**0.5) / np.sqrt(count))
