"""``qnoise precision``: a whole study on the shipped model, found again the second time; bad input before the work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from studies import cli
from studies.results import load_runs
from studies.store.files import read

SMALL = ["--steps", "3", "--samples", "8", "--calibration-samples", "8", "--threads", "1"]


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qnoise", "precision", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_precision__leaves_policies_a_table_and_figures(monkeypatch, capsys, tmp_path: Path) -> None:
    arguments = ["w8a4", "w8a6", "w8a8", "--rounding", "floor", "--range-sets", "2", "--budget", "0.9", *SMALL]
    assert qnoise(monkeypatch, *arguments, "--out", str(tmp_path), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    folder = Path(summary["folder"])
    assert not summary["reused"]
    rows = {row["policy"]: row for row in summary["policies"]}
    names = {name for row in summary["policies"] for name in (row["policy"], *row["same"])}
    assert names == {
        "w8a4", "w8a6", "w8a8", "ptqd-power", "ptqd-amplitude", "sigmoid-floor", "exact-0.9", "greedy-0.9",
    }  # fmt: skip
    exact = next(row for row in summary["policies"] if "exact-0.9" in (row["policy"], *row["same"]))
    assert exact["total_bops"] <= 0.9 * rows["w8a8"]["total_bops"]
    comparison, table = load_runs(folder)
    assert comparison.sizes == {"policy": len(rows), "step": 3, "group": 1, "baseline": 3}
    np.testing.assert_array_equal(comparison.total_bops, comparison.step_bops.sum("step"))
    assert table.sqnr_db.shape == (3, 1, 3)
    for policy in set(rows) - {"w8a4", "w8a6", "w8a8"}:
        stored = read(folder / f"policy-{policy}.nc")
        np.testing.assert_array_equal(stored.activation_bits, comparison.activation_bits.sel(policy=policy))
    for name in ("bits", "pareto"):
        for suffix in ("pdf", "png"):
            assert (folder / f"{name}.{suffix}").stat().st_size > 1000
    assert qnoise(monkeypatch, *arguments, "--out", str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert "found, nothing recomputed" in text
    assert all(name in text for name in names)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["w8a4", "w8a4"], "candidates must differ"),
        (["w8a4", "w3q8"], "wXaY"),
        (["--rule", "best"], "rule must be"),
        (["w8a4", "w4a8", "--rule", "ptqd-power"], "at one weight width"),
        (["w8a4", "w8a5", "--rule", "sigmoid"], "from 4 to 6 and no groups"),
        (["--base-bits", "9", "--rule", "sigmoid"], "from 9 to 11"),
        (["--base-bits", "9"], "from 9 to 11"),
        (["--budget", "w8a9"], "a budget is a candidate's name or a share"),
        (["--budget", "1.5"], "a budget is a candidate's name or a share"),
        (["--budget", "0.2"], "a budget must allow the cheapest policy"),
        (["--budget", "nan"], "a budget is a candidate's name or a share"),
        (["--gains", "guess"], "gains must be"),
        (["--data-variance", "-1"], "data_variance"),
        (["--parts", "9"], "parts must be 1 to 3"),
        (["--range-sets", "0"], "parts must be 1 to 3"),
        (["--rounding", "budget"], "rounding must be"),
        (["--importance", "guess"], "importance must be"),
        (["--group", "attention"], "a group must read"),
        (["--group", "a=nowhere"], "must name a site"),
        (["--group", "a=@attention", "--rule", "sigmoid"], "no groups"),
        (["--margin", "nan"], "margin_db"),
        (["--calibration-samples", "7"], "at least 8"),
        (["--quality-samples", "-1"], "quality_samples"),
        (["--quality-samples", "1279"], "1280"),
        (["--eta", "-1"], "eta must be at least 0"),
    ],
)
def test_precision__bad_input_is_one_line_and_exit_code_2_with_nothing_written(
    monkeypatch, capsys, tmp_path: Path, arguments, says
) -> None:
    monkeypatch.chdir(tmp_path)
    assert qnoise(monkeypatch, *SMALL, *arguments, "--out", str(tmp_path / "results")) == 2
    error = capsys.readouterr().err
    assert error.startswith("qnoise: ")
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
