"""Figures draw the numbers of the noise models, thresholds over measurement, and carry no time stamp."""

from __future__ import annotations

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import simulator
from noise_models import ptqd_threshold_db, sqnr_db
from samplers import DDIM
from studies.console import print_summary
from studies.plots.samples import samples_figure
from studies.plots.sites import plot_by_site, plot_sites, sites_figure
from studies.plots.snr import plot_snr, plot_thresholds, snr_figure
from studies.plots.style import figure_bytes, save
from studies.tables import site_rows, summary_rows


@pytest.fixture(scope="module")
def runs(tiny_model) -> tuple[xr.Dataset, ...]:
    sampler = DDIM(tiny_model.schedule, 4)
    ranges = simulator.calibrate_ranges(tiny_model, sampler, samples=8)
    arms = [
        simulator.Arm(simulator.QuantizedModel(tiny_model, simulator.Scheme.parse(s), ranges)) for s in ("w8a8", "w4a4")
    ]
    return simulator.run_arms(arms, sampler, samples=9)


@pytest.mark.parametrize("variable", ["epsilon_injected", "epsilon_accumulated"])
def test_plot_snr__draws_the_sqnr_and_its_interval(runs, variable: str) -> None:
    _, ax = plt.subplots()
    plot_snr(runs, variable, ax=ax)
    for run, line, band in zip(runs, ax.lines, ax.collections, strict=True):
        found = sqnr_db(run, variable)
        assert line.get_label() == run.scheme.item().upper()
        np.testing.assert_array_equal(line.get_xdata(), run.timestep)
        np.testing.assert_array_equal(line.get_ydata(), found.sqnr_db)
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(float(found.sqnr_db_low.min()))
        assert heights.max() == pytest.approx(float(found.sqnr_db_high.max()))
    plt.close("all")


def test_plot_thresholds__draws_both_readings_labelled_as_thresholds(runs) -> None:
    _, ax = plt.subplots()
    plot_thresholds(runs[0], ax=ax)
    power, amplitude = ax.lines
    assert all("threshold" in line.get_label() for line in ax.lines)
    np.testing.assert_allclose(power.get_ydata(), ptqd_threshold_db(runs[0].alpha_cumprod, "power"))
    np.testing.assert_allclose(np.asarray(amplitude.get_ydata()), 2 * np.asarray(power.get_ydata()))
    plt.close("all")


def test_snr_figure__has_a_row_per_part_and_time_runs_from_left_to_right(runs) -> None:
    figure = snr_figure([("A", runs), ("B", runs[:1])])
    assert [ax.get_title() for ax in figure.axes] == ["A, injected", "A, accumulated", "B, injected", "B, accumulated"]
    left, right = figure.axes[0].get_xlim()
    assert left > right
    colors = {line.get_label(): line.get_color() for line in figure.axes[0].lines}
    assert figure.axes[2].lines[0].get_color() == colors["W8A8"]
    plt.close("all")


def test_samples_figure__shows_full_precision_and_every_run(runs) -> None:
    figure = samples_figure([("A", runs)])
    assert [ax.texts[0].get_text() for ax in figure.axes] == ["full precision\n(A)", "W8A8", "W4A4"]
    shown = figure.axes[1].images[0].get_array()
    np.testing.assert_array_equal(shown[1:9, 1:9], runs[0].sample_quantized[0, 0])
    plt.close("all")


@pytest.fixture(scope="module")
def latent_run() -> xr.Dataset:
    model = simulator.load("digits-latent")
    sampler = DDIM(model.schedule, 3)
    ranges = simulator.calibrate_ranges(model, sampler, samples=8)
    network = simulator.QuantizedModel(model, simulator.Scheme.parse("w8a8"), ranges)
    return simulator.run(simulator.Arm(network), sampler, samples=5)


def test_samples_figure__shows_decoded_images_of_latent_models(latent_run) -> None:
    figure = samples_figure([("A", [latent_run])])
    for ax, name in zip(figure.axes, ("reference", "quantized"), strict=True):
        shown = ax.images[0].get_array()
        assert shown.shape == (10, 5 * 10)
        np.testing.assert_array_equal(shown[1:9, 11:19], latent_run[f"decoded_{name}"][1, 0])
    plt.close("all")


def test_summary_rows__of_a_latent_model_add_the_noise_of_its_pixels(runs, latent_run, capsys) -> None:
    (row,) = summary_rows([latent_run])
    y, other = (latent_run[f"decoded_{name}"].values.astype(float) for name in ("reference", "quantized"))
    assert row["decoded_db"] == pytest.approx(10 * np.log10((y**2).sum() / ((other - y) ** 2).sum()), abs=1e-9)
    ratios = (y**2).sum((1, 2, 3)) / ((other - y) ** 2).sum((1, 2, 3))
    assert row["decoded_median_db"] == pytest.approx(10 * np.log10(np.median(ratios)), abs=1e-9)
    assert row["decoded_db_low"] < row["decoded_db"] < row["decoded_db_high"]
    print_summary([row])
    assert "pixels" in capsys.readouterr().out
    plain = summary_rows(runs)
    assert not any("decoded" in name for name in plain[0])
    print_summary(plain)
    assert "pixels" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["pdf", "png", "svg"])
def test_figure_bytes__are_the_same_at_any_time(runs, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    for epoch in ("0", "1000000000"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)  # what matplotlib would stamp
        written.append(figure_bytes(snr_figure([("A", runs)]), suffix))
    assert written[0] == written[1]
    plt.close("all")


def test_summary_rows__are_the_noise_models_numbers(runs) -> None:
    for run, row in zip(runs, summary_rows(runs), strict=True):
        assert row["scheme"] == run.scheme.item()
        assert row["epsilon_injected_median_db"] == float(sqnr_db(run, "epsilon_injected").sqnr_db.median())
        reference, quantized = (run[f"sample_{name}"].values.astype(float) for name in ("reference", "quantized"))
        direct = 10 * np.log10((reference**2).sum() / ((quantized - reference) ** 2).sum())
        assert row["final_sample_db"] == pytest.approx(direct, abs=1e-4)  # images are stored in float32
        assert row["final_sample_db_low"] < row["final_sample_db"] < row["final_sample_db_high"]


def test_site_rows__name_every_site_with_the_bits_of_each_scheme(runs) -> None:
    header, rows = site_rows(runs)
    assert header == ["site", "MACs per sample", "w8a8", "w4a4"]
    assert [row[0] for row in rows] == [str(site) for site in runs[0].site.values]
    bits = {row[0]: row[2:] for row in rows}
    assert bits["first:conv2d"] == bits["last:conv2d"] == ["8/8", "8/8"]
    assert bits["down:conv2d"] == ["8/8", "4/4"]
    assert bits[":qk" if ":qk" in bits else "qk"] == ["-/8", "-/4"]


def test_figure_bytes__embed_fonts_as_outlines_that_publishers_accept(runs) -> None:
    content = figure_bytes(snr_figure([("A", runs)]), "pdf")
    assert b"/Type3" not in content
    assert b"/CIDFontType2" in content
    plt.close("all")


def test_plot_sites__draws_the_sqnr_of_sites_from_top_to_bottom_and_steps_from_left_to_right(runs) -> None:
    _, ax = plt.subplots()
    assert plot_sites(runs[0], variable="site_accumulated", ax=ax) is ax
    found = sqnr_db(runs[0], "site_accumulated").sqnr_db
    (mesh,) = ax.collections
    np.testing.assert_array_equal(mesh.get_array().filled(np.nan), found.transpose("site", "step"))
    assert mesh.get_clim() == (float(found.min()), float(found.max()))
    assert [label.get_text() for label in ax.get_yticklabels()] == list(found.site.values)
    bottom, top = ax.get_ylim()
    assert bottom > top, "the first site is at the top"
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(t) for t in runs[0].timestep.values]
    plt.close("all")


def test_plot_by_site__leaves_white_what_is_not_finite() -> None:
    values = xr.DataArray([[1.0, np.inf], [np.nan, -2.0]], {"bits": [4, 8], "site": ["a", "b"]}, ("bits", "site"))
    _, ax = plt.subplots()
    (mesh,) = plot_by_site(values, ax=ax, cmap="viridis").collections
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array()), [[False, True], [True, False]])
    assert ax.get_xlim() == (2, 10), "columns lie at the other dimension's values"
    plt.close("all")


def test_sites_figure__shares_colours_and_has_one_bar_with_its_unit(runs) -> None:
    *maps, bar = sites_figure(runs).axes
    assert [ax.get_title() for ax in maps] == ["W8A8", "W4A4"]
    assert len({ax.collections[0].get_clim() for ax in maps}) == 1
    assert bar.get_ylabel().endswith("(dB)")
    plt.close("all")


def test_save__writes_pdf_and_small_png_of_the_same_bytes_at_any_time(runs, tmp_path, monkeypatch) -> None:
    for when in ("0", "1000000000"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", when)
        save(sites_figure(runs), tmp_path / when / "sites")
    assert not plt.get_fignums()
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["sites.pdf", "sites.png"]
    for name in ("sites.pdf", "sites.png"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1000000000" / name).read_bytes()
    assert (tmp_path / "0" / "sites.png").stat().st_size < len(figure_bytes(sites_figure(runs), "png")) / 2
    plt.close("all")
