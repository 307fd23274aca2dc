"""Claim: every figure draws what runs hold or says what it needs, at a venue's width, in the same bytes each time."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from noise_models.metrics import sqnr_db
from samplers.errors import BadInput
from studies.figures.command import drawn
from studies.figures.prediction import PREDICTORS, _powers
from studies.figures.registry import FIGURES, find_figure
from studies.figures.sites import site_map
from studies.figures.targets import between
from studies.plots.style import drawn_for
from studies.plots.venues import STYLES, find_style
from studies.seeds import over_seeds
from studies.sources.groups import Group, arranged
from studies.sources.source import open_source

DRAWN = [name for name in FIGURES if name not in ("targets", "corrections")]


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("style", ["iclr", "talk"])
def test_figures__have_the_venues_width_and_fit_its_height(made, name, style) -> None:
    venue, runs = find_style(style), open_source(made.path).runs
    with drawn_for(venue):
        views = list(find_figure(name).views(runs))
    assert views
    assert len({view.label for view in views}) == len(views)
    for view in views:
        width, height = view.figure.get_size_inches()
        assert width == venue.width()
        assert height <= (venue.most_height or np.inf)
    plt.close("all")


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_drawn__gives_the_same_bytes_again(made, suffix) -> None:
    runs = open_source(made.path).runs

    def once() -> list[tuple[str, bytes]]:
        return [one for name in ("snr", "samples") for one in drawn(name, runs, STYLES["icml"], "single", [suffix])]

    assert once() == once()


def test_snr__draws_means_over_seeds_and_their_intervals(made) -> None:
    runs = open_source(made.path).runs
    (view,) = find_figure("snr").views(runs)
    injected = view.figure.axes[0]
    for label, line, band in zip(("W8A8", "W4A4"), injected.lines, injected.collections, strict=False):
        own = [run for run in runs if run.fields["scheme"].upper() == label]
        mean, low, high = over_seeds([sqnr_db(run.dataset()).sqnr_db.to_numpy() for run in own])
        assert line.get_label() == label
        np.testing.assert_array_equal(line.get_ydata(), mean)
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == pytest.approx((low.min(), high.max()))
    plt.close("all")


def test_site_map__is_the_mean_over_seeds(made) -> None:
    (panel,) = arranged(open_source(made.path).runs)
    group = panel.groups[1]
    expected = np.mean([sqnr_db(run.dataset(), "site_injected").sqnr_db for run in group.runs], axis=0)
    np.testing.assert_array_equal(site_map(group, "site_injected"), expected)


def test_prediction__measures_what_the_metrics_do(made) -> None:
    run = open_source(made.run).runs[0].dataset()
    for kind in PREDICTORS:
        measured, predicted = _powers(run, kind)
        assert measured == pytest.approx(float(sqnr_db(run, "state_accumulated").sqnr_db[-1]))
        assert np.isfinite(predicted)


def test_between__is_the_ratio_of_stored_samples(made) -> None:
    groups = [Group(group.label, group.runs) for group in arranged(open_source(made.path).runs)[0].groups]
    found = between(groups)
    one, other = (np.concatenate([run.dataset().sample_quantized for run in group.runs]) for group in groups)
    full = np.concatenate([run.dataset().sample_reference for run in groups[0].runs])
    expected = 10 * np.log10((full**2).sum(dtype=np.float64) / ((one - other) ** 2).sum(dtype=np.float64))
    assert found[1, 1] == pytest.approx(expected)
    assert np.isnan(found[0, 1])
    assert np.isposinf(between([groups[0], groups[0]])[1, 1])


@pytest.mark.parametrize(("name", "says"), [("targets", "differ in their target"), ("corrections", "with and without")])
def test_figures__say_what_runs_lack(made, name, says) -> None:
    with pytest.raises(BadInput, match=says):
        list(find_figure(name).views(open_source(made.path).runs))


@pytest.mark.parametrize(
    ("name", "says"), [("residual", "did you mean residuals"), ("heat", "there is no such figure")]
)
def test_find_figure__names_the_nearest(name, says) -> None:
    with pytest.raises(BadInput, match=says):
        find_figure(name)


def test_styles__have_the_venues_columns() -> None:
    assert [STYLES[name].width() for name in ("neurips", "iclr", "talk")] == [5.5, 5.5, 10.0]
    assert [STYLES["icml"].width(column) for column in ("single", "double")] == [3.25, 6.75]
    assert STYLES["cvpr"].width(wide=True) == 6.875
    with pytest.raises(BadInput, match="one of single for neurips"):
        STYLES["neurips"].width("double")
    with pytest.raises(BadInput, match="did you mean neurips"):
        find_style("neurisp")
