"""Claim: a correction fitted on one paired run goes through the next one, as fitted, and through no other."""

import numpy as np
import pytest

from noise_models import absorb, decompose, fit_ptqd, sqnr_db
from samplers import DDIM, DDPM, BadInput
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.paired import Arm, run, run_arms


@pytest.fixture(scope="module")
def system(tiny_model):
    sampler = DDIM(tiny_model.schedule, 3, eta=1.0)
    quantized = QuantizedModel(tiny_model, Scheme.parse("w3a3"), calibrate_ranges(tiny_model, sampler, samples=16))
    return quantized, sampler


@pytest.fixture(scope="module")
def calibration(system):
    quantized, sampler = system
    return run(Arm(quantized), sampler, samples=16, purpose="calibrate", kinds=("injected",))


def test_ptqd__fitted_and_run_corrects_injected_noise_and_uses_the_lower_noise(system, calibration) -> None:
    quantized, sampler = system
    ptqd = fit_ptqd(calibration)
    plain, corrected = run_arms([Arm(quantized), Arm(quantized, ptqd)], sampler, samples=16)
    # With y + e -> (y + e - bias) / (1 + k), slope and bias on the evaluation samples must move by exactly that.
    before, after = decompose(plain), decompose(corrected)
    slope, bias = (1 + before.slope) / (1 + ptqd.k) - 1, (before.bias - ptqd.bias) / (1 + ptqd.k[:, None])
    np.testing.assert_allclose(after.slope, slope, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(after.bias, bias, rtol=1e-9, atol=1e-12)
    assert (sqnr_db(corrected).sqnr_db > sqnr_db(plain).sqnr_db).all()
    used = [absorb(u, k, v).c for u, k, v in zip(sampler.updates, ptqd.k, ptqd.residual_variance, strict=True)]
    np.testing.assert_array_equal(corrected.c_used, used)
    assert (corrected.c_used < corrected.c)[:-1].all()
    np.testing.assert_array_equal(corrected.b_used, corrected.b)
    assert str(corrected.correction.values) == "ptqd"


def test_run__refuses_a_correction_of_another_sampler_or_of_its_own_samples(system, calibration) -> None:
    quantized, sampler = system
    arm = Arm(quantized, fit_ptqd(calibration))
    with pytest.raises(BadInput, match=r"sampler\.eta"):
        run(arm, DDIM(sampler.schedule, 3, eta=0.5), samples=2)
    with pytest.raises(BadInput, match="other samples"):
        run(arm, sampler, samples=2, purpose="calibrate")


def test_run__refuses_the_released_absorption_under_ddpm_before_it_samples(system) -> None:
    quantized, _ = system
    sampler = DDPM(quantized.model.schedule, 2)
    options = {"samples": 8, "kinds": ("injected",), "sites": False}
    calibration = run(Arm(quantized), sampler, purpose="calibrate", **options)
    with pytest.raises(BadInput, match="DDIM"):
        run(
            Arm(quantized, fit_ptqd(calibration, "released")),
            sampler,
            **options,
            progress=lambda *_: pytest.fail("it sampled"),
        )


def test_statistics__of_every_recorded_variable_are_defined_or_say_why(calibration) -> None:
    for variable in ("epsilon_injected", "site_injected"):
        result = sqnr_db(calibration, variable)
        assert ((result.sqnr_db_reason == 0) == np.isfinite(result.sqnr_db_low)).all()
        assert result.attrs["key"] == calibration.attrs["key"]


def test_noise_models__import_loads_neither_torch_nor_xarray(fresh_python) -> None:
    fresh_python("import noise_models, sys; assert not {'torch', 'xarray', 'numpy'} & set(sys.modules), 'heavy'")
    fresh_python("import noise_models as n; assert all(getattr(n, name) is not None for name in n.__all__)")
