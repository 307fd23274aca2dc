"""Claim: the input correction undoes, at the next step, the drift of x_t that was recorded after this one."""

import copy

import numpy as np
import pytest
import torch
import xarray as xr
from planted_noise import CONFIG, SAMPLER, planted, recorded_run

from noise_models import TimestepAware, fit_timestep_aware
from samplers import BadInput
from simulator.provenance import canonical

DRIFT = ([-0.2, 0.1, 0.3], [[0.3, -0.2], [0.1, 0.4], [0.0, -0.5]], [0.4, 0.2, 0.3])
NOISE = ([0.3, -0.1, 0.2], [[0.1, 0.0], [0.0, 0.0], [0.2, 0.1]], [0.2, 0.3, 0.1])


def run(samples: int = 64, **config) -> xr.Dataset:
    y, e = planted(1, *DRIFT, samples=samples, mean=0.6)
    state = recorded_run(y, e, **config)
    epsilon = recorded_run(*planted(2, *NOISE, samples=samples), **config)
    return epsilon.assign(state_accumulated=state.epsilon_injected)


def use(**changes) -> dict:
    return {**copy.deepcopy(CONFIG), "purpose": "evaluate", **changes}


def states() -> tuple[np.ndarray, np.ndarray]:
    y, e = planted(1, *DRIFT, samples=64, mean=0.6)
    return y, (y + e)


def corrected(fit: TimestepAware, h: np.ndarray) -> np.ndarray:
    """x_t after each step, as the network sees it at the next."""
    return np.stack([fit.input(step + 1, torch.from_numpy(h[step])).numpy() for step in range(len(h) - 1)])


def test_fit_timestep_aware__bias_takes_off_the_mean_drift_of_each_channel() -> None:
    y, h = states()
    fit = fit_timestep_aware(run())
    seen = corrected(fit, h)
    np.testing.assert_allclose(seen.mean((1, 3)), y[:2].mean((1, 3)), atol=1e-12)
    np.testing.assert_allclose(seen.std((1, 3)), h[:2].std((1, 3)), rtol=1e-12)


def test_fit_timestep_aware__moments_gives_full_precisions_mean_and_deviation() -> None:
    y, h = states()
    seen = corrected(fit_timestep_aware(run(), "moments"), h)
    np.testing.assert_allclose(seen.mean((1, 3)), y[:2].mean((1, 3)), atol=1e-12)
    np.testing.assert_allclose(seen.std((1, 3)), y[:2].std((1, 3)), rtol=1e-10)


def test_fit_timestep_aware__least_squares_is_the_line_from_quantized_to_full_precision() -> None:
    y, h = states()
    fit = fit_timestep_aware(run(), "least_squares")
    for step in range(2):
        for channel in range(2):
            line = np.polyfit(h[step, :, channel].ravel(), y[step, :, channel].ravel(), 1)
            found = fit.scale[step + 1, channel], fit.shift[step + 1, channel]
            np.testing.assert_allclose(found, line, rtol=1e-9, atol=1e-12)
    error = {
        form: ((corrected(fit_timestep_aware(run(), form), h) - y[:2]) ** 2).mean() for form in ("bias", "moments")
    }
    assert ((corrected(fit, h) - y[:2]) ** 2).mean() < min(error.values())


def test_fit_timestep_aware__gain_has_the_least_error_of_epsilon_and_is_1_unasked() -> None:
    y, e = planted(2, *NOISE, samples=64)
    fit = fit_timestep_aware(run(), reconstruct=True)
    h = torch.from_numpy(y + e)
    for step in range(3):
        best = [
            np.linalg.lstsq((y + e)[step, :, c].reshape(-1, 1), y[step, :, c].ravel(), rcond=None)[0][0] for c in (0, 1)
        ]
        np.testing.assert_allclose(fit.gain[step], best, rtol=1e-9)
        np.testing.assert_allclose(fit.epsilon(step, h[step], np.arange(64))[:, 1], best[1] * h[step][:, 1], rtol=1e-9)
    plain = fit_timestep_aware(run())
    assert plain.epsilon(1, h[1], np.arange(64)).numpy().tobytes() == h[1].numpy().tobytes()


def test_timestep_aware__leaves_the_first_input_and_every_update_alone() -> None:
    x = torch.randn(4, 2, 8)
    for form in ("bias", "least_squares", "moments"):
        fit = fit_timestep_aware(run(), form)
        assert fit.input(0, x) is x
        assert fit.input(1, x).dtype == torch.float32
        assert not torch.equal(fit.input(1, x), x)
        assert fit.update(1, SAMPLER.updates[1]) is SAMPLER.updates[1]


def test_timestep_aware__without_drift_passes_x_itself_on() -> None:
    y, _ = planted(3, [0.0, 0.0], [[0.0], [0.0]], [0.0, 0.0], samples=8, mean=0.4)
    still = recorded_run(y, np.zeros_like(y)).rename(epsilon_injected="state_accumulated")
    x = torch.from_numpy(y[0])
    for form in ("bias", "least_squares", "moments"):
        assert fit_timestep_aware(still, form).input(1, x) is x


def test_fit_timestep_aware__refuses_what_is_no_calibration_and_other_uses() -> None:
    fit = fit_timestep_aware(run())
    fit.check(use())
    with pytest.raises(BadInput, match="state"):
        fit.check(use(state_quantized="Float16State"))
    with pytest.raises(BadInput, match="whose scheme"):
        fit.check(use(scheme="w8a8"))
    with pytest.raises(BadInput, match="other samples"):
        fit.check(use(purpose="calibrate"))
    with pytest.raises(BadInput, match="accumulated noise"):
        fit_timestep_aware(run().drop_vars("state_accumulated"))
    with pytest.raises(BadInput, match="injected noise"):
        fit_timestep_aware(run().drop_vars("epsilon_injected"), reconstruct=True)
    with pytest.raises(BadInput, match="8 replicate blocks"):
        fit_timestep_aware(run(7))
    with pytest.raises(BadInput, match="form"):
        fit_timestep_aware(run(), "mean")
    configs = [
        fit_timestep_aware(run(), f, reconstruct=r).config()
        for f in ("bias", "least_squares", "moments")
        for r in (False, True)
    ]
    assert len({canonical(c) for c in configs}) == len({c["name"] for c in configs}) == 6
