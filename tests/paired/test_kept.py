"""Claim: a subsample is the run's first samples, whole, whose moments are the recorded ones; no other byte changes."""

from __future__ import annotations

import numpy as np
import pytest

from noise_models import fit_ptqd
from samplers import DDIM, BadInput
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.moments import moment_names, row_moments
from simulator.paired import Arm, run, run_arms
from simulator.record import central_moments
from simulator.variables import BY_NAME

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 3


@pytest.fixture(scope="module")
def system(tiny_model):
    sampler = DDIM(tiny_model.schedule, STEPS, eta=1.0)
    return QuantizedModel(tiny_model, Scheme.parse("w3a3"), calibrate_ranges(tiny_model, sampler, samples=8)), sampler


@pytest.fixture(scope="module")
def arms(system):
    quantized, sampler = system
    fit = run(Arm(quantized), sampler, samples=8, purpose="calibrate", kinds=("injected",), sites=False)
    return Arm(quantized), Arm(quantized, fit_ptqd(fit))


def test_subsample__holds_the_first_samples_whose_moments_are_the_recorded_ones(system, arms) -> None:
    _, sampler = system
    options = {"samples": 9, "batch_size": 4, "sites": False}
    for found, plain in zip(
        run_arms(arms, sampler, subsample=6, **options), run_arms(arms, sampler, **options), strict=True
    ):
        added = set(found) - set(plain)
        assert added == {"epsilon_kept", "noise_kept_injected", "noise_kept_accumulated"}
        assert plain.equals(found.drop_vars(added))
        assert plain.attrs["key"] != found.attrs["key"]
        assert "subsample" not in plain.attrs["config"]
        for kind in ("injected", "accumulated"):
            y, e = found.epsilon_kept, found[f"noise_kept_{kind}"]
            assert y.dims == e.dims == BY_NAME["epsilon_kept"].dims
            assert y.dtype == e.dtype == np.float32
            assert y.shape == (STEPS, 6, 1, 8, 8)
            rows = (v.values.astype(np.float64).reshape(STEPS * 6, -1) for v in (y, e))
            signal, error = rows
            moments = central_moments(row_moments(signal, signal + error)).reshape(STEPS, 6, -1)
            recorded = found[f"epsilon_sample_{kind}"][:, 0, :6]
            for name in ("mean_y", "mean_e", "yy", "ye", "ee"):  # up to the rounding to float32
                expected = recorded.sel(moment=name)
                at = moment_names().index(name)
                np.testing.assert_allclose(moments[..., at], expected, rtol=2e-5, atol=1e-6, err_msg=name)


def test_subsample__does_not_depend_on_the_batch_but_for_float_rounding(system, arms) -> None:
    _, sampler = system
    whole, parts = (
        run(arms[0], sampler, samples=6, subsample=5, batch_size=size, sites=False, kinds=("injected",))
        for size in (6, 2)
    )
    assert "noise_kept_accumulated" not in whole
    np.testing.assert_allclose(whole.epsilon_kept, parts.epsilon_kept, atol=1e-5)


@pytest.mark.parametrize("subsample", [-1, 7])
def test_subsample__beyond_the_run_is_refused(system, arms, subsample: int) -> None:
    _, sampler = system
    with pytest.raises(BadInput, match="subsample must be 0 to 6"):
        run(arms[0], sampler, samples=6, subsample=subsample)
