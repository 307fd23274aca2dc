"""``qnoise explain``: from nothing or from stored runs to tables, datasets and figures; bad input is exit code 2."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from noise_models import decompose, evaluate_held_out
from studies import cli
from studies.explain.runs import stored
from studies.store.files import read

SMALL = ["--scheme", "w4a8", "--steps", "3", "--samples", "24", "--keep", "20", "--calibration-samples", "16",
         "--threads", "1"]  # fmt: skip


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["qnoise", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder under which the command ran once; its figures are made but not rendered, to save time."""
    out = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("studies.plots.style.figure_bytes", lambda figure, suffix: suffix.encode())
        assert qnoise(patch, "explain", *SMALL, "--out", str(out)) == 0
    return out


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_explain__leaves_runs_datasets_and_every_figure(made: Path) -> None:
    runs = stored(only(made, "*-runs-*"))
    assert [run.correction.item() for run in runs.evaluated] == ["none", "ptqd"]
    folder = only(made, "*-explained-*")
    explained = read(only(folder, "explained-w4a8-none-*.nc"))
    run = runs.evaluated[0]
    np.testing.assert_array_equal(explained.decomposition_slope, decompose(run).slope)
    expected = evaluate_held_out(runs.fits[0], run, "observable").explained_share
    np.testing.assert_array_equal(explained.held_out_explained_share.sel(predictor="observable"), expected)
    np.testing.assert_array_equal(explained.timestep, run.timestep)
    prefixes = {str(name).split("_")[0] for name in explained.data_vars}
    assert {"sqnr", "decomposition", "sites", "observable", "trimmed", "ptqd", "drift", "assumptions"} <= prefixes
    corrected = read(only(folder, "explained-w4a8-ptqd-*.nc"))
    assert any(str(name).startswith("correction_") for name in corrected)
    assert not any(str(name).startswith("held_out") for name in corrected)
    drawn = {path.stem.split("-")[0] for path in folder.glob("*.pdf")}
    assert drawn == {"decomposition", "normality", "scatter", "residuals", "whiteness", "steps"}
    assert {path.stem for path in folder.glob("*.png")} == {path.stem for path in folder.glob("*.pdf")}


def test_explain__prints_the_tables_again_without_computing(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    before = sorted(path.stat().st_mtime_ns for path in made.rglob("*"))
    monkeypatch.setattr("simulator.paired.run_arms", None)
    assert qnoise(monkeypatch, "explain", *SMALL, "--out", str(made)) == 0
    printed = capsys.readouterr().out
    for says in (
        "Injected noise",
        "held-out samples",
        "Sites whose noise",
        "Drift",
        "uncorrected",
        "violated",
        "white in",
    ):
        assert says in printed
    assert sorted(path.stat().st_mtime_ns for path in made.rglob("*")) == before


@pytest.mark.slow
def test_explain__takes_a_folder_or_one_file_and_says_what_it_lacks(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    folder = only(made, "*-runs-*")
    assert qnoise(monkeypatch, "explain", str(folder), "--json", "--out", str(tmp_path)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [run["correction"] for run in summary["runs"]] == ["none", "ptqd"]
    claims = {row["claim"]: row for row in summary["runs"][0]["assumptions"]}
    assert sum(claims["white in space"][name] for name in ("holds", "violated", "inconclusive")) == 3
    kept = [path for path in folder.glob("w4a8-none-*.nc") if "noise_kept_injected" in read(path)]
    run = shutil.copy(kept[0], tmp_path)
    assert qnoise(monkeypatch, "explain", str(run), "--method", "bootstrap", "--out", str(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "held-out" not in printed
    explained = read(only(tmp_path, "w4a8-none*-explained-*/*.nc"))
    assert "BCa" in explained.decomposition_slope_low.attrs["interval"]
    pages = [path.read_bytes()[:4] for path in tmp_path.rglob("*.pdf")]
    assert pages
    assert set(pages) == {b"%PDF"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.nc"], "a run's file or a results folder"),
        (["--method", "guess"], "method"),
        (["--keep", "300"], "--keep must be 0 to 256"),
        (["--scheme", "w3q8"], "wXaY"),
        (["--steps", "0"], "at least 1"),
        (["--calibration-samples", "7"], "at least 8"),
    ],
)
def test_explain__bad_input_is_one_line_and_exit_code_2_with_nothing_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, arguments: list[str], says: str
) -> None:
    assert qnoise(monkeypatch, "explain", "--out", str(tmp_path / "results"), *arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_explain__refuses_a_damaged_file_and_a_folder_of_calibration_runs(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    runs = only(made, "*-runs-*")
    whole = next(runs.glob("*.nc"))
    (tmp_path / "cut.nc").write_bytes(whole.read_bytes()[:-9])
    assert qnoise(monkeypatch, "explain", str(tmp_path / "cut.nc"), "--out", str(tmp_path)) == 2
    assert "damaged" in capsys.readouterr().err
    fit = next(path for path in runs.glob("*.nc") if json.loads(read(path).attrs["config"])["purpose"] == "calibrate")
    assert qnoise(monkeypatch, "explain", str(fit), "--out", str(tmp_path)) == 2
    assert "evaluation run" in capsys.readouterr().err
