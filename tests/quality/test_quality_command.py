"""``qnoise quality``: bad input is one line before any work; a run leaves dataset, figure and tables, once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from studies import cli
from studies.results import load_runs

SMALL = [
    "quality",
    "--steps",
    "2",
    "--samples",
    "220",
    "--calibration-samples",
    "16",
    "--threads",
    "1",
    "--allow-small",
]


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["qnoise", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--samples", "1279"], "at least 1280 samples"),
        (["--features", "vgg"], "features must be"),
        (["--real", "nowhere.safetensors"], "safetensors file"),
        (["--scheme", "w3q8"], "wXaY"),
        (["--sampler", "ddpm", "--eta", "0.5"], "eta belongs to ddim"),
        (["--steps", "0"], "at least 1"),
    ],
)
def test_quality__bad_input_is_one_line_and_exit_code_2_with_nothing_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, arguments: list[str], says: str
) -> None:
    pytest.importorskip("sklearn")
    assert qnoise(monkeypatch, "quality", "--out", str(tmp_path / "results"), *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("qnoise: ")
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_quality__leaves_dataset_figure_and_tables_and_finds_them_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    arguments = [*SMALL, "--allow-small", "--scheme", "w4a8", "--ptqd", "--out", str(tmp_path)]
    assert qnoise(monkeypatch, *arguments) == 0
    text = capsys.readouterr().out
    for part in ("Against real images", "on other noise", "held_out (floor)", "w4a8+ptqd", "for orientation", "wrote:"):
        assert part in text
    assert qnoise(monkeypatch, *arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reused"]
    assert found["features"] == "digits-classifier@1"
    assert {row["sample_set"] for row in found["differences"]} == {"w4a8", "w4a8+ptqd"}
    folder = Path(found["folder"])
    assert {path.name for path in folder.iterdir()} == {
        "quality.nc", "quality.pdf", "quality.png", "job.json", "log.json",
    }  # fmt: skip
    (dataset,) = load_runs(folder)
    assert np.isfinite(dataset.frechet.sel(sample_set="w4a8")).all()
    assert json.loads(dataset.attrs["config"])["features"] == "digits-classifier@1"
