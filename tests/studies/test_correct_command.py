"""Claim: ``qnoise correct`` and ``qnoise feasibility`` write what they computed, print it, and find bad input first."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import studies.corrections.command
from noise_models import decompose, feasibility_map, final_distribution, one_step_variance, paired_change
from samplers import DDIM, DDPM, BadInput, NoiseSchedule
from studies import cli
from studies.corrections.comparison import (
    FITS,
    Comparison,
    account_line,
    change_rows,
    compare_corrections,
    require_names,
)
from studies.corrections.feasibility import feasibility_rows
from studies.plots.corrections import corrections_figure, plot_change, plot_final, plot_injected, plot_one_step_variance
from studies.plots.feasibility import feasibility_figure, plot_feasibility, plot_residual
from studies.store.files import dataset_bytes, read

NAMES = ("ptqd-unabsorbed", "ptqd", "ptqd-signed", "d2dpm-sampled", "tac")


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qnoise", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def comparison(tiny_model) -> Comparison:
    sampler = DDIM(tiny_model.schedule, 4, eta=1.0)
    return compare_corrections(tiny_model, "w5a5", sampler, NAMES, samples=16, calibration_samples=16, batch_size=16)


@pytest.fixture(scope="module")
def found(comparison) -> xr.Dataset:
    return comparison.changes


def test_compare_corrections__judges_every_correction_on_other_samples_than_those_of_the_fit(comparison, found) -> None:
    assert found.correction.values.tolist() == list(NAMES)
    assert [str(run.correction.values) for run in comparison.runs] == ["none", *NAMES]
    fit, use = (json.loads(d.attrs["config"]) for d in (comparison.calibration, comparison.runs[1]))
    assert (fit["purpose"], use["purpose"]) == ("calibrate", "evaluate")
    plain, run = comparison.runs[0], comparison.runs[2]
    own = paired_change(plain, run)
    at = found.sel(correction="ptqd")
    np.testing.assert_array_equal(at.injected_mse_change_db, own.mse_change_db)
    last = paired_change(plain, run, "state_accumulated").isel(step=-1)
    assert float(at.final_sqnr_change_db) == float(last.sqnr_change_db)
    np.testing.assert_array_equal(
        at.variance_after_variance_excess, one_step_variance(comparison.steps[2]).variance_excess
    )
    ratio = final_distribution(run).variance_ratio
    assert float(at.distribution_after_variance_ratio) == float(ratio)
    same = ("injected_mse_before", "variance_before_variance_excess", "distribution_before_variance_ratio")
    for name in same:
        assert (found[name] == found[name].isel(correction=0)).all()


def test_change_rows__count_the_verdicts(found) -> None:
    rows = {row["correction"]: row for row in change_rows(found)}
    for row in rows.values():
        assert sum(row["injected"].values()) == sum(row["variance"].values()) == sum(row["endpoint"].values()) == 4
        assert row["final_sqnr_change_db_low"] < row["final_sqnr_change_db"] < row["final_sqnr_change_db_high"]
    for name in NAMES:
        verdicts = found.sel(correction=name).injected_verdict
        for code, word in ((1, "falls"), (2, "rises"), (3, "inconclusive")):
            assert rows[name]["injected"].get(word, 0) == int((verdicts == code).sum())


def test_account_line__says_what_remains_and_where(comparison) -> None:
    assert set(comparison.accounts) == {"ptqd", "ptqd-signed"}
    account = comparison.accounts["ptqd"].copy(deep=True)
    account["requested_variance"][:] = [0.1, 0.2, 0.3, 0.4]
    account["remaining_variance"][:] = [0.0, 0.0, 0.05, 0.2]
    at = ", ".join(f"{t:g}" for t in account.timestep.values[2:])
    left = f"25 % of the requested variance remains, at timesteps {at}"
    expected = f"ptqd: 2 of 4 steps absorb all that they are asked to; {left}"
    assert account_line("ptqd", account) == expected
    account["remaining_variance"][:] = 0.0
    assert account_line("ptqd", account) == "ptqd: 4 of 4 steps absorb all that they are asked to"


@pytest.mark.parametrize(
    ("names", "sampler", "fault"),
    [
        ((), DDIM, "one or more"),
        (("ptqd", "ptqd"), DDIM, "one or more"),
        (("gptq",), DDIM, "choose among ptqd-unabsorbed"),
        (("ptqd-released",), DDPM, "DDIM update"),
    ],
)
def test_require_names__finds_what_would_fail_after_the_work(names, sampler, fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        require_names(names, sampler(NoiseSchedule(), 5))
    require_names(tuple(FITS), DDIM(NoiseSchedule(), 5, eta=1.0))


def test_require_names__lets_clipped_samplers_correct_without_absorption() -> None:
    clipped = DDIM(NoiseSchedule(), 5, eta=1.0, clip_sample=True)
    require_names(("ptqd-unabsorbed", "d2dpm"), clipped)
    with pytest.raises(BadInput, match="linear update"):
        require_names(("ptqd",), clipped)


def test_plots__draw_the_changes(found) -> None:
    _, axes = plt.subplots(2, 2)
    plot_injected(found, ax=axes[0, 0])
    np.testing.assert_array_equal(axes[0, 0].lines[0].get_ydata(), found.injected_mse_before[0])
    plot_change(found, ax=axes[0, 1])
    plot_one_step_variance(found, ax=axes[1, 0])
    plot_final(found, ax=axes[1, 1])
    for i, name in enumerate(NAMES):
        of = found.sel(correction=name)
        assert axes[0, 0].lines[i + 1].get_label() == name
        np.testing.assert_array_equal(axes[0, 0].lines[i + 1].get_ydata(), of.injected_mse_after)
        np.testing.assert_array_equal(axes[0, 1].lines[i + 1].get_ydata(), of.injected_mse_change_db)
        share = of.variance_after_variance_excess / of.variance_before_variance_reference
        np.testing.assert_allclose(axes[1, 0].lines[i + 2].get_ydata(), 100 * share)
    assert [text.get_text() for text in axes[1, 1].get_yticklabels()] == list(NAMES)
    assert len(corrections_figure(found).axes) == 4
    plt.close("all")


def test_correct__writes_once_prints_and_finds_again(monkeypatch, capsys, tmp_path: Path, comparison) -> None:
    calls = []

    def computed(*arguments, **options) -> Comparison:
        calls.append((arguments[3], options["samples"], options["calibration_samples"]))
        return dataclasses.replace(comparison, runs=comparison.runs[::2][:2], steps=comparison.steps[::2][:2])

    monkeypatch.setattr("studies.corrections.comparison.compare_corrections", computed)
    options = ("--steps", "4", "--eta", "1", "--samples", "16", "--calibration-samples", "8", "--threads", "1")
    command = ("correct", *options, "--out", str(tmp_path), "--correction", "ptqd", "--correction", "d2dpm")
    assert qnoise(monkeypatch, *command) == 0
    text = capsys.readouterr().out
    assert "injected: squared error" in text
    assert all(account_line(name, account) in text for name, account in comparison.accounts.items())
    (folder,) = tmp_path.iterdir()
    names = {path.name for path in folder.iterdir()}
    assert {"changes.nc", "calibration.nc", "corrections.pdf", "corrections.png", "job.json"} <= names
    assert {"one-step-none.nc", "one-step-ptqd.nc", "absorption-ptqd.nc", "absorption-ptqd-signed.nc"} <= names
    assert qnoise(monkeypatch, *command, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["reused"] is True
    assert [row["correction"] for row in summary["corrections"]] == ["ptqd"]
    assert calls == [(("ptqd", "d2dpm"), 16, 8)]
    assert studies.corrections.command.CHANGES_FILE in names


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("correct", "--correction", "gptq"), "choose among"),
        (("correct", "--sampler", "ddpm", "--correction", "ptqd-released"), "DDIM update"),
        (("feasibility", "--eta", "0"), "eta above 0"),
        (("feasibility", "--measured", "nowhere.nc"), "must be a file"),
        (("feasibility", "--steps", "20", "--steps", "20"), "different numbers"),
        (("feasibility", "--beta-schedule", "flat"), "beta_schedule"),
    ],
)
def test_commands__bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path, arguments, fault) -> None:
    monkeypatch.chdir(tmp_path)
    assert qnoise(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("qnoise: ")
    assert fault in error
    assert not list(tmp_path.iterdir())


def test_feasibility__writes_the_map_with_measured_noise_over_it(monkeypatch, capsys, tmp_path, comparison) -> None:
    run = tmp_path / "run.nc"
    run.write_bytes(dataset_bytes(comparison.calibration))
    options = ("--beta-schedule", "linear", "--steps", "4", "--steps", "10", "--eta", "1", "--eta", "0.5")
    out = tmp_path / "map"
    command = ("feasibility", *options, "--measured", str(run), "--out", str(out), "--json")
    assert qnoise(monkeypatch, *command) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    (folder,) = out.iterdir()
    assert folder.name.startswith("linear-feasibility-")
    bounds = read(folder / "feasibility.nc")
    expected = feasibility_map(NoiseSchedule(), [1.0, 0.5], [4, 10])
    np.testing.assert_array_equal(bounds.absorbable_variance, expected.absorbable_variance)
    names = {"feasibility.nc", "feasibility.pdf", "feasibility.png", "job.json"}
    assert {path.name for path in folder.iterdir()} == names
    split = decompose(comparison.calibration)
    reduced = split.residual_variance / (1 + np.maximum(split.slope, 0)) ** 2
    bound = expected.absorbable_variance.sel(eta=0.5, steps=4).dropna("timestep")
    row = next(row for row in rows if (row["eta"], row["steps"]) == (0.5, 4))
    assert row["absorbed"] == int((reduced.values <= bound.values).sum())
    assert row["smallest"] == float(bound[bound > 0].min())
    assert row["without_noise"] == 1
    assert [row["absorbed"] for row in rows if row["steps"] == 10] == [None, None]
    assert qnoise(monkeypatch, *command) == 0
    assert json.loads(capsys.readouterr().out)["reused"]


def test_plot_feasibility__draws_a_line_per_number_of_steps_and_the_measured_one(comparison) -> None:
    bounds = feasibility_map(NoiseSchedule(), [0.0, 0.5, 1.0], [4, 20])
    assert "absorbed" not in feasibility_rows(bounds)[0]
    _, ax = plt.subplots()
    plot_feasibility(bounds.sel(eta=1.0), ax=ax)
    assert [line.get_label() for line in ax.lines] == ["4 steps", "20 steps"]
    drawn = bounds.absorbable_variance.sel(eta=1.0, steps=20).dropna("timestep")
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), drawn.timestep)
    np.testing.assert_array_equal(ax.lines[1].get_ydata()[:-1], drawn[:-1])
    assert np.isnan(ax.lines[1].get_ydata()[-1])  # the last step adds no noise
    plot_residual(comparison.calibration, ax=ax)
    split = decompose(comparison.calibration)
    np.testing.assert_allclose(ax.lines[2].get_ydata(), split.residual_variance / (1 + np.maximum(split.slope, 0)) ** 2)
    figure = feasibility_figure(bounds, comparison.calibration)
    assert [axes.get_title() for axes in figure.axes] == ["$\\eta$ = 0.5", "$\\eta$ = 1"]
    plt.close("all")


@pytest.mark.slow
def test_correct__absorbs_under_the_other_stochastic_samplers(monkeypatch, capsys, tmp_path: Path) -> None:
    small = ["--steps", "3", "--samples", "16", "--calibration-samples", "16", "--threads", "1", "--correction", "ptqd"]
    for sampler in (["euler-ancestral"], ["sde-dpm-solver++", "--knob", "solver_order=1"]):
        assert qnoise(monkeypatch, "correct", "--sampler", *sampler, *small, "--out", str(tmp_path), "--json") == 0
        folder = Path(json.loads(capsys.readouterr().out)["folder"])
        own = json.loads((folder / "job.json").read_text())["config"]["parts"][0]
        assert own["sampler"] == sampler[0]
        assert own.get("knobs", {}) == ({"solver_order": 1} if len(sampler) > 1 else {})
        account = read(next(folder.glob("*absor*ptqd*.nc")))
        assert (account.sigma_used <= account.sigma).all()
        assert (account.absorbed_variance > 0).any()
