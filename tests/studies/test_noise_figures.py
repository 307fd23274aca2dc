"""Figures of the noise draw the numbers of the noise models, with their intervals, on the scales that they name."""

from __future__ import annotations

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from planted_noise import recorded_images
from scipy.special import ndtri

from noise_models import check_normality, check_step_independence, check_whiteness, decompose
from studies.plots.decomposition import decomposition_figure, plot_quantity
from studies.plots.dependence import plot_autocorrelation, plot_spectrum, plot_step_correlation, step_correlation_figure
from studies.plots.noise_scatter import noise_scatter_figure, plot_noise_scatter, steps_shown
from studies.plots.residuals import (
    normality_figure,
    plot_rejections,
    plot_residual_histogram,
    plot_residual_quantiles,
    residuals_figure,
)


@pytest.fixture(scope="module")
def run() -> xr.Dataset:
    generator = np.random.default_rng(1)
    shape = (5, 64, 2, 6, 6)
    y, w = generator.standard_normal(shape), generator.standard_normal(shape)
    w = (w + np.roll(w, 1, -1)) / np.sqrt(2)
    e = np.array([0.1, -0.2, 0.3, 0.0, 0.1])[:, None, None, None, None] * y + 0.2 * w
    e[:, :, 1] += 0.3
    return recorded_images(y, e).assign_coords(scheme="w4a8", correction="none")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_plot_quantity__draws_estimate_and_interval_and_the_largest_channel(run) -> None:
    result = decompose(run)
    _, (left, right) = plt.subplots(1, 2)
    plot_quantity(result, "slope", ax=left)
    np.testing.assert_array_equal(left.lines[0].get_ydata(), result.slope)
    heights = left.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(float(result.slope_low.min()))
    assert heights.max() == pytest.approx(float(result.slope_high.max()))
    plot_quantity(result, "bias", ax=right)
    np.testing.assert_array_equal(right.lines[0].get_ydata(), result.bias[:, 1])


def test_decomposition_figure__samples_from_left_to_right_and_marks_corrections(run) -> None:
    figure = decomposition_figure([run, run.assign_coords(correction="ptqd")])
    assert figure.axes[0].xaxis_inverted()
    assert figure.axes[3].get_yscale() == "log"
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["W4A8", "W4A8 + PTQD"]
    plain, corrected = figure.axes[0].lines[:2]
    assert plain.get_linestyle() != corrected.get_linestyle()


def test_plot_noise_scatter__draws_the_fitted_line_over_every_element(run) -> None:
    fit = decompose(run).isel(step=2)
    _, (few, many) = plt.subplots(1, 2)
    plot_noise_scatter(run.isel(kept=slice(0, 2)), 2, ax=few)
    points = few.lines[0]
    np.testing.assert_allclose(points.get_ydata(), run.noise_kept_injected[2, :2].values.ravel())
    np.testing.assert_allclose(points.get_xdata(), run.epsilon_kept[2, :2].values.ravel())
    plot_noise_scatter(run, 2, ax=many)  # 4608 elements: a density
    assert many.collections[0].get_array().sum() == 4608
    for ax in (few, many):
        x, y = ax.lines[-1].get_xdata(), ax.lines[-1].get_ydata()
        np.testing.assert_allclose(np.diff(y) / np.diff(x), fit.slope)
        assert f"{float(fit.slope):.4f}" in ax.get_legend().get_texts()[0].get_text()
    assert steps_shown(run) == [0, 2, 4]
    assert len(noise_scatter_figure(run).axes) == 3


def test_plot_residuals__are_in_deviations_against_the_normal(run) -> None:
    _, (left, right) = plt.subplots(1, 2)
    plot_residual_histogram(run, 1, ax=left)
    areas = [bar.get_width() * bar.get_height() for bar in left.patches]
    assert sum(areas) == pytest.approx(1)
    grid, density = left.lines[0].get_data()
    np.testing.assert_allclose(density[np.abs(grid).argmin()], 1 / np.sqrt(2 * np.pi), rtol=1e-3)
    plot_residual_quantiles(run, 1, ax=right)
    x, y = right.lines[1].get_data()
    k, bias = decompose(run).slope.values[1], decompose(run).bias.values[1]
    residual = np.sort((run.noise_kept_injected[1] - k * run.epsilon_kept[1]).values - bias[:, None, None], axis=None)
    assert y[0] == pytest.approx(residual[0] / residual.std(), rel=1e-5)
    assert x[-1] == pytest.approx(ndtri(1 - 0.5 / residual.size))
    np.testing.assert_allclose(y, x, atol=0.5)  # the residual is normal
    assert "exc. kurtosis" in residuals_figure(run).axes[0].get_title()


def test_normality_figure__has_the_test_only_where_samples_suffice(run) -> None:
    _, ax = plt.subplots()
    tested = check_normality(run)
    plot_rejections(tested, ax=ax)
    np.testing.assert_array_equal(ax.lines[-2].get_ydata(), tested.rejected_share.mean("step"))
    assert len(normality_figure(run).axes) == 3
    few = run.isel(kept=slice(0, 19))
    assert len(normality_figure(few).axes) == 2


def test_plot_dependence__draws_correlations_with_zero_lag_in_the_middle(run) -> None:
    tested = check_whiteness(run)
    _, (left, middle, right) = plt.subplots(1, 3)
    plot_autocorrelation(tested, 1, ax=left)
    drawn = left.collections[0].get_array().reshape(9, 9)
    assert drawn[4, 4] == pytest.approx(1)
    np.testing.assert_allclose(drawn, drawn[::-1, ::-1], atol=1e-12)
    assert drawn[4, 5] == pytest.approx(0.5, abs=0.05) == drawn[4, 3]
    assert abs(drawn[5, 4]) < 0.05
    plot_spectrum(tested, 1, ax=middle)
    np.testing.assert_array_equal(middle.lines[0].get_ydata(), tested.radial_spectrum[1])
    steps = check_step_independence(run)
    plot_step_correlation(steps, run, ax=right)
    np.testing.assert_allclose(right.collections[0].get_array().reshape(5, 5), steps.step_correlation)
    assert right.yaxis_inverted()  # the first step on top
    assert all(ax.yaxis_inverted() for ax in step_correlation_figure(run).axes[:2])
