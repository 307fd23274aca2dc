"""``qnoise explain`` on guided runs of a real model: classes from the labels of a file, and weights compared."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from noise_models import check_homogeneity, compare_guidance
from studies import cli
from studies.explain.runs import stored
from studies.store.files import read

WEIGHTS = (1.0, 3.0)


def explain(*arguments: str) -> int:
    """Run the command in this process, figures made but not rendered; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("studies.plots.style.figure_bytes", lambda figure, suffix: suffix.encode())
        patch.setattr(sys, "argv", ["qnoise", "explain", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the guided transformer at two weights, five classes in turn, and their analysis."""
    out = tmp_path_factory.mktemp("guided")
    save_file({"label": torch.arange(5)}, out / "labels.safetensors")
    weights = [text for weight in WEIGHTS for text in ("--guidance", f"{weight:g}")]
    small = ["--steps", "2", "--samples", "20", "--keep", "0", "--calibration-samples", "16", "--threads", "1"]
    arguments = ["--model", "digits-dit", "--scheme", "w4a8", "--conditioning", str(out / "labels.safetensors")]
    assert explain(*arguments, *weights, *small, "--out", str(out)) == 0
    return out


def test_explain__compares_classes_and_guidance_weights(made: Path) -> None:
    runs = [run for run in stored(*sorted(made.glob("*-runs-*"))).evaluated if run.correction.item() == "none"]
    runs = sorted(runs, key=lambda run: float(run.guidance))
    assert [float(run.guidance) for run in runs] == list(WEIGHTS)
    (folder,) = made.glob("*-explained-*")
    (by_weight,) = folder.glob("guidance-w4a8-*.nc")
    compared, expected = read(by_weight), compare_guidance(runs)
    np.testing.assert_array_equal(compared.residual_variance_ratio, expected.residual_variance_ratio)
    np.testing.assert_array_equal(compared.guidance, WEIGHTS)
    assert compared.residual_variance_ratio_low[1, 0].item() > 1  # guidance scales the noise of a difference
    own = next(path for path in folder.glob("explained-w4a8-none-*.nc") if float(read(path).guidance) == 3)
    classes = check_homogeneity(runs[1], groups=np.arange(20) % 5)
    np.testing.assert_array_equal(read(own).assumptions_class_share, classes.class_share)
    assert len({path.name for path in folder.glob("decomposition-guidance*.pdf")}) == len(WEIGHTS)


@pytest.mark.slow
def test_explain__takes_stored_runs_of_several_weights(made: Path, capsys: pytest.CaptureFixture) -> None:
    folders = [str(path) for path in sorted(made.glob("*-runs-*"))]
    assert explain(*folders, "--json", "--out", str(made / "again")) == 0
    summary = json.loads(capsys.readouterr().out)
    assert sorted(run["guidance"] for run in summary["runs"]) == sorted([*WEIGHTS, *WEIGHTS])
    (table,) = summary["guidance"]
    assert [row[0] for row in table["rows"]] == ["1", "3"]
    assert not any(row["effect"] == "class_share" for run in summary["runs"] for row in run["assumptions"])


def test_explain__refuses_labels_of_other_samples_and_weights_without_them(
    made: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    save_file({"label": torch.arange(5).flip(0)}, tmp_path / "other.safetensors")
    folder = str(next(made.glob("*-runs-*")))
    assert explain(folder, "--conditioning", str(tmp_path / "other.safetensors"), "--out", str(tmp_path / "r")) == 2
    assert "the conditions that the run was made with" in capsys.readouterr().err
    assert explain("--guidance", "2", "--out", str(tmp_path / "r")) == 2
    assert "guidance needs conditions" in capsys.readouterr().err
    assert explain("--guidance", "2", "--guidance", "2", "--out", str(tmp_path / "r")) == 2
    assert "must differ" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
