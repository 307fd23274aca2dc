"""Claim: slope, correlation, bias and residual variance are numpy's least squares on the raw elements."""

import numpy as np
import pytest
from planted_noise import planted, recorded_run, recorded_sites

from noise_models import decompose
from samplers import BadInput


def test_decompose__equals_least_squares_on_raw_arrays() -> None:
    y, e = planted(1, [0.3, -0.2], [[0.5, -2.0], [0.0, 1.0]], [0.3, 0.05], samples=100, elements=20, mean=3.0)
    y[:, :, 1] -= 1.5  # a channel mean of its own, so that pooled and per-channel quantities differ
    e = (y + e) - y
    result = decompose(recorded_run(y, e))
    assert result.slope.dims == ("step",)
    assert result.bias.dims == ("step", "channel")
    for step in range(2):
        design = np.stack([y[step].ravel(), np.ones(y[step].size)], 1)
        k, intercept = np.linalg.lstsq(design, e[step].ravel(), rcond=None)[0]
        residual = e[step] - k * y[step]
        r = np.corrcoef(y[step].ravel(), e[step].ravel())[0, 1]
        bias = residual.mean((0, 2))
        expected = {"slope": k, "intercept": intercept, "correlation": r, "r_squared": r**2, "bias": bias}
        expected["residual_variance"] = np.mean((residual - bias[:, None]) ** 2)
        for name, value in expected.items():
            np.testing.assert_allclose(result[name][step], value, rtol=1e-10, err_msg=name)
            assert (result[f"{name}_low"][step] < value).all(), name
            assert (result[f"{name}_high"][step] > value).all(), name


def test_decompose__by_channel_draws_a_line_through_each() -> None:
    y, e = planted(6, [0.3, -0.2], [[0.5, -2.0], [0.0, 1.0]], [0.3, 0.05], samples=100, elements=20, mean=3.0)
    e[:, :, 1] += 0.4 * y[:, :, 1]
    e = (y + e) - y
    result = decompose(recorded_run(y, e), by="channel")
    assert "bias" not in result
    for step, channel in np.ndindex(2, 2):
        signal, noise = y[step, :, channel].ravel(), e[step, :, channel].ravel()
        k, intercept = np.polyfit(signal, noise, 1)
        expected = {"slope": k, "intercept": intercept, "r_squared": np.corrcoef(signal, noise)[0, 1] ** 2}
        expected["residual_variance"] = np.mean((noise - k * signal - intercept) ** 2)
        for name, value in expected.items():
            assert result[name].dims == ("step", "channel")
            np.testing.assert_allclose(result[name][step, channel], value, rtol=1e-9, err_msg=name)
            assert result[f"{name}_low"][step, channel] < value < result[f"{name}_high"][step, channel], name
    with pytest.raises(BadInput, match="per channel"):
        decompose(recorded_sites(*np.zeros((2, 2, 9, 3, 10), np.float32)), "site_injected", by="channel")
    with pytest.raises(BadInput, match="by"):
        decompose(recorded_run(y, e), by="pixel")


def test_decompose__of_sites_has_one_bias_per_site() -> None:
    generator = np.random.default_rng(2)
    y = generator.standard_normal((2, 9, 3, 10)).astype(np.float32)
    e = (0.1 * y + 0.3 + 0.01 * generator.standard_normal(y.shape)).astype(np.float32)
    e = ((y + e).astype(np.float64) - y).astype(np.float32)
    result = decompose(recorded_sites(y, e), "site_injected")
    assert result.bias.dims == result.slope.dims == ("step", "site")
    k = np.polyfit(y[1, :, 2].ravel().astype(np.float64), e[1, :, 2].ravel().astype(np.float64), 1)
    np.testing.assert_allclose([result.slope[1, 2], result.bias[1, 2]], k, rtol=1e-6)


def test_decompose__leaves_nothing_undefined_unsaid() -> None:
    y, e = planted(3, [0.1] * 3, [[0.0]] * 3, [0.1] * 3, samples=12)
    y[1] = 0.1  # a signal that does not vary, of a value that float64 rounds
    e[2] = 0  # no noise
    result = decompose(recorded_run(y, e))
    assert np.isnan(result.slope[1])
    assert np.isnan(result.correlation[1])
    assert result.slope_reason[1] == 2
    assert result.slope[2] == result.bias[2, 0] == result.residual_variance[2] == 0
    assert np.isnan(result.correlation[2])
    assert not result.slope_reason[2]


def test_decompose__r_squared_interval_reaches_0_where_the_correlation_may_be_0() -> None:
    result = decompose(recorded_run(*planted(4, [0.0], [[0.0]], [1.0], samples=64, elements=4)))
    assert result.correlation_low[0] < 0 < result.correlation_high[0]
    assert result.r_squared_low[0] == 0 <= result.r_squared[0] < result.r_squared_high[0]
