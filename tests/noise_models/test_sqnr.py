"""Claim: every SQNR is the one its name says, computed on raw arrays, and every conversion is inverted by its twin."""

import numpy as np
import pytest
from planted_noise import planted, recorded_decoded, recorded_run, recorded_sites

import noise_models as nm
from samplers import BadInput


def test_sqnr_db__equals_the_ratio_of_sums_of_squares_over_all_elements() -> None:
    y, e = planted(1, [0.3, -0.2], [[0.5, -2.0], [0.0, 1.0]], [0.3, 0.01], samples=100, mean=3.0)
    e = (y + e) - y  # the error as it is recorded
    result = nm.sqnr_db(recorded_run(y, e))
    expected = 10 * np.log10((y**2).sum((1, 2, 3)) / (e**2).sum((1, 2, 3)))
    assert result.sqnr_db.dims == ("step",)
    np.testing.assert_allclose(result.sqnr_db, expected, rtol=1e-12)
    assert (result.sqnr_db_low < result.sqnr_db).all()
    assert (result.sqnr_db < result.sqnr_db_high).all()
    assert result.sqnr_db.attrs["units"] == "dB"
    assert "full-precision trajectory" in result.sqnr_db.attrs["definition"]
    np.testing.assert_array_equal(result.timestep, [1, 0])


def test_sqnr_db__of_sites_is_per_step_and_site() -> None:
    generator = np.random.default_rng(2)
    y = generator.standard_normal((2, 9, 3, 10)).astype(np.float32)
    e = (y * 0.01 * generator.standard_normal(y.shape)).astype(np.float32)
    e = (y + e).astype(np.float64) - y  # recorded in float64, of float32 tensors
    result = nm.sqnr_db(recorded_sites(y, e.astype(np.float32)), "site_injected")
    assert result.sqnr_db.dims == ("step", "site")
    expected = 10 * np.log10((y.astype(np.float64) ** 2).sum((1, 3)) / (e**2).sum((1, 3)))
    np.testing.assert_allclose(result.sqnr_db, expected, rtol=1e-12)


def test_sqnr_db__of_decoded_pixels_pools_samples_and_image_channels() -> None:
    generator = np.random.default_rng(7)
    level = np.array([0.2, 1.0, -3.0])[:, None, None]
    y = level + generator.standard_normal((100, 3, 4, 5))  # more samples than blocks
    e = 0.1 * y + 0.05 * level + 0.02 * generator.standard_normal(y.shape)
    run, e = recorded_decoded(y, e, [30, 70]), (y + e) - y
    result = nm.sqnr_db(run, "decoded_accumulated")
    assert result.sqnr_db.dims == ()
    np.testing.assert_allclose(result.sqnr_db, 10 * np.log10((y**2).sum() / (e**2).sum()), rtol=1e-12)
    assert result.sqnr_db_low < result.sqnr_db < result.sqnr_db_high
    assert "decoded x_0" in result.sqnr_db.attrs["definition"]
    ratios = (y**2).sum((1, 2, 3)) / (e**2).sum((1, 2, 3))
    found = nm.mean_ratio_sqnr_db(run, "decoded_sample_accumulated").mean_ratio_sqnr_db
    np.testing.assert_allclose(found, 10 * np.log10(ratios.mean()), rtol=1e-12)


def test_decompose__of_decoded_pixels_finds_what_was_planted() -> None:
    generator = np.random.default_rng(8)
    y = generator.standard_normal((256, 2, 8, 8))
    bias = np.array([0.3, -0.1])
    e = -0.2 * y + bias[:, None, None] + 0.05 * generator.standard_normal(y.shape)
    result = nm.decompose(recorded_decoded(y, e), "decoded_accumulated")
    assert result.bias.dims == ("image_channel",)
    # 32768 pixels: standard errors 0.05 / 181 = 0.0003 of the slope, 0.0004 of a channel's bias, 0.8 % of the variance
    assert float(result.slope) == pytest.approx(-0.2, abs=0.0015)
    np.testing.assert_allclose(result.bias, bias, atol=0.002)
    assert float(result.residual_variance) == pytest.approx(0.0025, rel=0.04)
    assert result.bias_low[0] < 0.3 < result.bias_high[0]


def test_mean_ratio_sqnr_db__averages_ratios_of_samples_and_is_another_number() -> None:
    y, e = planted(3, [0.0], [[0.1, 0.3]], [0.1], samples=70)
    e = e * np.linspace(0.1, 3, 70)[:, None, None]
    run = recorded_run(y, e)
    result = nm.mean_ratio_sqnr_db(run)
    e = (y + e) - y
    ratios = (y**2).sum((2, 3)) / (e**2).sum((2, 3))
    np.testing.assert_allclose(result.mean_ratio_sqnr_db, 10 * np.log10(ratios.mean(1)), rtol=1e-12)
    assert float(result.mean_ratio_sqnr_db[0]) > float(nm.sqnr_db(run).sqnr_db[0]) + 3
    assert result.mean_ratio_sqnr_db_low[0] < result.mean_ratio_sqnr_db[0] < result.mean_ratio_sqnr_db_high[0]


def test_conversions__each_matches_its_formula_on_raw_arrays_and_inverts() -> None:
    y, e = planted(4, [0.1], [[0.1]], [0.2], samples=3)
    db = 10 * np.log10((y**2).sum() / (e**2).sum())
    signal, noise = np.linalg.norm(y), np.linalg.norm(e)
    assert nm.amplitude_ratio_from_db(db) == pytest.approx(signal / noise, rel=1e-12)
    assert nm.power_ratio_from_db(db) == pytest.approx(signal**2 / noise**2, rel=1e-12)
    assert nm.noise_to_signal_from_db(db) == pytest.approx(noise**2 / signal**2, rel=1e-12)
    values = np.linspace(-60, 120, 37)
    for there, back in (
        (nm.amplitude_ratio_from_db, nm.db_from_amplitude_ratio),
        (nm.power_ratio_from_db, nm.db_from_power_ratio),
        (nm.noise_to_signal_from_db, nm.db_from_noise_to_signal),
    ):
        np.testing.assert_allclose(back(there(values)), values, rtol=1e-12, atol=1e-12)
    assert nm.db_from_power_ratio(0) == -np.inf
    assert nm.db_from_noise_to_signal(0) == np.inf
    with pytest.raises(BadInput, match="ratio"):
        nm.db_from_power_ratio(-3.0)


@pytest.mark.parametrize("reading", ["power", "amplitude"])
def test_ptqd_threshold_db__separates_as_its_reading_of_the_rule_does(reading: str) -> None:
    generator = np.random.default_rng(5)
    abar, db = generator.uniform(0.001, 0.999, 5000), generator.uniform(-40, 60, 5000)
    snr_q, snr_f = 10 ** (db / 20), abar / (1 - abar)
    rule = snr_q > snr_f if reading == "amplitude" else snr_q**2 > snr_f
    np.testing.assert_array_equal(db > nm.ptqd_threshold_db(abar, reading), rule)


def test_ptqd_threshold_db__literal_rule_is_twice_the_power_reading_in_db() -> None:
    assert nm.ptqd_threshold_db(10 / 11) == pytest.approx(10)
    assert nm.ptqd_threshold_db(10 / 11, "amplitude") == pytest.approx(20)
    for wrong in (0.0, 1.0, 1.5):
        with pytest.raises(BadInput, match="alpha_cumprod"):
            nm.ptqd_threshold_db(wrong)
    with pytest.raises(BadInput, match="reading"):
        nm.ptqd_threshold_db(0.5, "voltage")


def test_sqnr_db__names_what_the_run_did_not_record() -> None:
    run = recorded_run(*planted(6, [0.1], [[0.1]], [0.2], samples=3))
    for variable in ("epsilon_accumulated", "timestep", "epsilon_sample_injected"):
        with pytest.raises(BadInput, match=variable):
            nm.sqnr_db(run, variable)
    with pytest.raises(BadInput, match="per sample"):
        nm.mean_ratio_sqnr_db(run, "epsilon_injected")
