"""``qnoise predict-layers`` prints and draws the comparison's numbers, finds done work, and refuses bad input first."""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from noise_models.theory.layer_comparison import CAUSES
from noise_models.theory.layers import PREDICTORS
from studies import cli
from studies.plots.layer_prediction import layer_prediction_figure, plot_layer_prediction
from studies.plots.style import figure_bytes
from studies.predict_layers import miss_rows, share_rows, summary_of

SMALL = ["--steps", "2", "--samples", "6", "--calibration-samples", "16", "--threads", "1"]


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qnoise", "predict-layers", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_predict_layers__leaves_a_folder_and_finds_it_again(monkeypatch, capsys, tmp_path) -> None:
    arguments = ["--scheme", "w8a8", "--scheme", "w4a8o8", *SMALL, "--out", str(tmp_path)]
    assert qnoise(monkeypatch, *arguments, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert not first["reused"]
    (folder,) = tmp_path.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "job.json", "layers.pdf", "layers.png", "log.json", "w4a8o8.nc", "w8a8.nc",
    ]  # fmt: skip
    plain, requantized = first["schemes"]
    assert len(plain["sites"]) == 26
    assert plain["cells"] == 52
    assert 0.7 < plain["predictors"]["weights"]["sites_within_1_db"] <= 1
    assert all(row["cause"] == "undefined" and row["error_db"] is None for row in requantized["sites"])
    assert requantized["predictors"]["uniform"]["sites_within_1_db"] is None

    assert qnoise(monkeypatch, *arguments) == 0
    text = capsys.readouterr().out
    assert "found, nothing recomputed" in text
    assert "mid.attention:pv" in text
    assert "Shares of predictions" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "no-such-model"], "digits-unet"),
        (["--scheme", "w3q8"], "wXaY"),
        (["--scheme", "w8a8", "--scheme", "w8a8"], "schemes must differ"),
        (["--scheme", "w0a8"], "wXaY"),
        (["--samples", "0"], "samples must be at least 1"),
        (["--steps", "1001"], "1000"),
        (["--guidance", "2"], "guidance needs conditions"),
    ],
)
def test_predict_layers__refuses_bad_input_before_the_work(monkeypatch, capsys, tmp_path, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    assert qnoise(monkeypatch, *arguments) == 2
    assert says in capsys.readouterr().err


@pytest.fixture
def compared() -> xr.Dataset:
    """Four sites: two right, one missed, one undefined."""
    sites = ["a:conv2d", "b:linear", "mid:qk", "c:linear"]
    measured = np.array([30.0, 20.0, 25.0, np.nan])
    error = np.array([0.2, 6.0, -0.5, np.nan])
    spread = np.array([0.5, 0.25, 1.0, np.nan])
    both = {"predictor": list(PREDICTORS), "site": sites}
    error_all = xr.DataArray(np.tile(error, (len(PREDICTORS), 1)), both, ("predictor", "site"))
    return xr.Dataset(
        {
            "site_predicted_sqnr_db": error_all + measured,
            "site_error_db": error_all,
            "error_db": error_all.expand_dims(step=2).transpose("predictor", "step", "site"),
            "site_measured_sqnr_db": ("site", measured),
            "site_measured_sqnr_db_low": ("site", measured - spread),
            "site_measured_sqnr_db_high": ("site", measured + spread),
            "site_cause": ("site", [0, CAUSES.index("errors_correlate"), 0, 1]),
            "site_verdict": ("site", [0, 1, 0, 2]),
        },
        coords={"scheme": "w4a4", "model": "m@1"},
        attrs={"tolerance_db": 1.0},
    )


def test_plot_layer_prediction__draws_defined_sites_with_their_intervals_and_names_the_missed(compared) -> None:
    _, ax = plt.subplots()
    assert plot_layer_prediction(compared, ax=ax) is ax
    found = {c.get_label(): c.lines[0].get_xydata() for c in ax.containers}
    assert {name: points.tolist() for name, points in found.items()} == {
        "convolution": [[30.2, 30.0]], "linear": [[26.0, 20.0]], "attention": [[24.5, 25.0]],
    }  # fmt: skip
    (bar,) = ax.containers[1].lines[2]
    np.testing.assert_allclose(bar.get_segments()[0][:, 1], [19.75, 20.25])
    assert [text.get_text() for text in ax.texts] == ["b"]
    plt.close("all")


def test_layer_prediction_figure__has_a_panel_per_scheme_on_common_axes(compared) -> None:
    figure = layer_prediction_figure([compared, compared, compared])
    drawn = [ax for ax in figure.axes if ax.has_data()]
    assert [ax.get_title() for ax in drawn] == ["W4A4"] * 3
    assert len({ax.get_xlim() for ax in drawn} | {ax.get_ylim() for ax in drawn}) == 1
    assert b"/Type3" not in figure_bytes(figure, "pdf")
    plt.close("all")


def test_tables__hold_shares_per_predictor_and_every_miss(compared) -> None:
    summary = summary_of(compared)
    header, rows = share_rows([summary])
    assert len(header) == len(rows[0])
    assert rows[0] == ["W4A4", "uniform", "67 %", "67 %", "67 %", "67 %", "0.2"]
    assert [row[1] for row in rows] == list(PREDICTORS)
    _, misses = miss_rows([summary])
    assert misses == [["W4A4", "b:linear", "26.0", "20.0", "19.8 to 20.2", "6.0", "errors correlate"]]
