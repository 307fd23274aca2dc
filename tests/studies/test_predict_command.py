"""``qnoise predict`` takes any linear sampler, goes on where it stopped, finds what is done, refuses bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from studies import cli

SMALL = (
    "--steps", "2", "--scheme", "w8a8", "--most-samples", "64", "--most-prediction-samples", "64",
    "--other-samples", "64", "--calibration-samples", "16", "--threads", "1",
)  # fmt: skip


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qnoise", "predict", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cells that are computed, with made-up numbers, one of them not finite; the third one is interrupted once."""
    from studies.prediction import cells

    names: list[str] = []

    def cell(model, sampler, schemes, effort, report, *, name, conditioning, have) -> xr.Dataset:
        if have is not None and have.sizes["measured_sample"] >= effort.most_samples:
            return have
        names.append(name)
        if len(names) == 3:
            raise KeyboardInterrupt
        predictors = [one.name for one in cells.PREDICTORS]
        shape = (len(schemes), 2, effort.most_samples)
        powers = np.random.default_rng(len(names)).uniform(1, 2, (len(predictors), *shape))
        data = {
            "measured_power": (("scheme", "term", "measured_sample"), powers[0]),
            "predicted_power": (("predictor", "scheme", "term", "predicted_sample"), powers),
            "naive_sqnr_db": (("naive", "scheme"), [[float("nan")]] * len(cells.NAIVE)),
        }
        coords = {
            "scheme": ["w8a8"], "predictor": predictors, "naive": list(cells.NAIVE), "term": ["reference", "error"],
            "sampler": name, "steps": len(sampler.updates), "model": "tiny",
        }  # fmt: skip
        return xr.Dataset(data, coords)

    monkeypatch.setattr(cells, "predict_cell", cell)
    return names


def test_predict__goes_on_where_it_stopped_and_then_finds_all(monkeypatch, capsys, tmp_path: Path, walked) -> None:
    samplers = ("ddim:0.5", "ddpm:fixed_large", "dpm-solver++:solver_order=1", "heun")
    command = (*SMALL, *(word for name in samplers for word in ("--sampler", name)), "--out", str(tmp_path))
    assert qnoise(monkeypatch, *command) == 130
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("digits-unet-predict-")
    assert {path.name for path in folder.iterdir()} == {"job.json", "ddim-0.5-2.nc", "ddpm-fixed_large-2.nc"}
    capsys.readouterr()
    assert qnoise(monkeypatch, *command, "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert walked == [*samplers[:3], *samplers[2:]]
    assert not found["reused"]
    assert [row["sampler"] for row in found["predictions"]] == list(samplers)
    assert {"prediction.json", "prediction.pdf", "prediction.png"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.glob(".*"))
    assert qnoise(monkeypatch, *command) == 0
    assert f"found, nothing recomputed: {folder}" in capsys.readouterr().out
    assert len(walked) == 5
    capsys.readouterr()
    assert qnoise(monkeypatch, *command, "--most-samples", "128") == 0  # the last one given counts
    assert f"wrote: {folder}" in capsys.readouterr().out
    assert len(walked) == 9  # every cell was gone on with, in the same folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "no-such-model"), "digits-unet"),
        (("--sampler", "pndm"), "sampler must be one of ddim"),
        (("--sampler", "ddim:fast"), "eta must be a number"),
        (("--sampler", "ddpm:wide"), "variance_type"),
        (("--sampler", "ddim:clip_sample=true"), "linear updates"),
        (("--sampler", "ddim", "--sampler", "ddim:0"), "must differ"),
        (("--steps", "3", "--steps", "3"), "must differ"),
        (("--steps", "-1"), "num_inference_steps"),
        (("--scheme", "w8a8", "--scheme", "W8A8"), "schemes must differ"),
        (("--threads", "99999999"), "threads must be at most"),
        (("--guidance", "2"), "guidance needs conditions"),
        (("--most-samples", "3"), "most_samples"),
        (("--standard-error", "0"), "standard_error must be above 0"),
        (("--other-samples", "2048"), "other_samples must be at most 1024"),
    ],
)
def test_predict__bad_input_is_one_line_and_exit_code_2_with_nothing_written(
    monkeypatch, capsys, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    assert qnoise(monkeypatch, *arguments, "--out", str(tmp_path / "results")) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
