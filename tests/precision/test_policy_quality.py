"""``qnoise precision --quality-samples``: the table has the Fréchet distance of each policy's own images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from studies import cli
from studies.results import load_runs
from studies.store.files import read


@pytest.mark.slow
def test_precision__measures_the_images_of_every_policy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    arguments = ["w8a4", "w8a8", "--rule", "exact", "--budget", "0.75", "--steps", "2", "--samples", "8", "--threads",
                 "1", "--calibration-samples", "8", "--quality-samples", "1280", "--out", str(tmp_path)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["qnoise", "precision", *arguments, "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    summary = json.loads(capsys.readouterr().out)
    folder = Path(summary["folder"])
    comparison, quality = load_runs(folder)[0], read(folder / "quality.nc")
    expected = quality.frechet.sel(sample_set=comparison.policy.values, reference="real")
    np.testing.assert_array_equal(comparison.frechet_distance, expected)
    assert [row["frechet_distance"] for row in summary["policies"]] == expected.values.tolist()
    assert len(set(expected.values.tolist())) == comparison.sizes["policy"]  # each policy's own images
    to_full = quality.frechet.sel(reference="full_precision")
    assert to_full.sel(sample_set="w8a8") < to_full.sel(sample_set="w8a4")
    assert "1280 samples of either set" in comparison.frechet_distance.attrs["definition"]
    assert json.loads((folder / "job.json").read_text())["config"]["precision"]["quality_samples"] == 1280
