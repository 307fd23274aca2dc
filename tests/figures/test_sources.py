"""Claim: a store, a results folder and one file give the same runs, by their fields; what is missing is counted."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from samplers.errors import BadInput
from studies.sampler_names import SAMPLERS, build_sampler, read_sampler, sampler_of
from studies.seeds import over_seeds
from studies.sources.curves import curve_of
from studies.sources.groups import arranged
from studies.sources.run import open_run
from studies.sources.source import open_source


def test_open_source__a_store_has_its_studys_runs_failures_and_what_is_missing(made) -> None:
    (part,) = open_source(made.path).parts
    assert part.study.name == "tiny"
    assert [run.fields["scheme"] for run in part.runs] == ["w8a8", "w4a4"] * 3
    assert (len(part.failures), part.missing) == (1, 1)
    assert "onerror" in part.failures[0].error


def test_open_source__one_file_is_one_run(made) -> None:
    source = open_source(made.run)
    (run,) = source.runs
    assert (run.fields["scheme"], run.fields["seed"], run.fields["eta"]) == ("w8a8", 0, 1.0)
    assert run.fields["target"] == "int32-float32"
    assert run.has("site_injected", "noise_kept_injected")
    assert run.dataset().attrs["study_key"] == run.key


def test_open_source__damage_is_a_failure_and_not_a_number(made, tmp_path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(made.path, copy)
    file = copy / "runs" / made.run.name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    (part,) = open_source(copy).parts
    assert len(part.runs) == 5
    assert "damaged" in part.failures[0].error


def test_open_source__two_runs_of_one_seed_are_not_two_seeds(made, tmp_path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(made.path, copy)
    other = copy / "runs" / f"{made.missing}.nc"
    shutil.copy(made.run, other)
    (part,) = open_source(copy).parts
    assert (len(part.runs), part.doubles, part.missing) == (6, 1, 0)


def test_open_source__a_results_folder_has_the_runs_of_its_job(made, tmp_path) -> None:
    from studies.results import complete

    for name, content in complete({made.run.name: made.run.read_bytes()}, {}, [made.run.name]).items():
        (tmp_path / name).write_bytes(content)
    assert [run.key for run in open_source(tmp_path).runs] == [made.run.stem]


def test_open_run__fields_of_a_run_that_no_study_made_come_from_its_configuration(made, tmp_path) -> None:
    from studies.store.files import dataset_bytes, read

    run = read(made.run)
    for name in ("study_spec", "study_key"):
        del run.attrs[name]
    file = tmp_path / "run.nc"
    file.write_bytes(dataset_bytes(run))
    fields, told = open_run(file).fields, open_run(made.run).fields
    for name in set(fields) - {"model", "batch_size", "threads"}:
        assert fields[name] == told[name], name
    assert fields["model"] == "tiny@1"


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_of__is_the_sampler_that_a_run_stored(tiny_model, name) -> None:
    _, eta, knobs = read_sampler(name)
    sampler = build_sampler(name, tiny_model, 7, eta, knobs)
    assert sampler_of(sampler.config()) == sampler


@pytest.mark.parametrize("name", ["", "nothing"])
def test_open_source__anything_else_is_refused(tmp_path, name) -> None:
    with pytest.raises(BadInput, match="a source must be a store"):
        open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("select", "left"),
    [
        (["scheme=w4a4"], 3),
        (["scheme=W4A4", "seed=1"], 1),
        (["seed=1", "seed=2"], 4),
        (["eta=1"], 6),
        (["scheme=w8a8@int32-float32"], 3),
        (["sites=true"], 6),
    ],
)
def test_selected__has_one_of_the_values_of_each_field(made, select, left) -> None:
    assert len(open_source(made.path, select=select).runs) == left


@pytest.mark.parametrize(
    ("select", "says"),
    [("scheme=w9a9", "one of w4a4, w8a8"), ("shceme=w4a4", "did you mean scheme"), ("seed", "field=value"),
     ("eta=none", "one of 1")],
)  # fmt: skip
def test_selected__says_what_there_is(made, select, says) -> None:
    with pytest.raises(BadInput, match=says):
        open_source(made.path, select=[select])


def test_arranged__seeds_are_one_group_and_systems_one_panel(made) -> None:
    (panel,) = arranged(open_source(made.path).runs)
    assert [group.label for group in panel.groups] == ["W8A8", "W4A4"]
    assert [run.fields["seed"] for run in panel.groups[0].runs] == [0, 1, 2]


def test_curve_of__is_students_interval_over_seeds_and_the_runs_own_of_one(made) -> None:
    from noise_models.metrics import sqnr_db

    (panel,) = arranged(open_source(made.path).runs)
    values = [sqnr_db(run.dataset()).sqnr_db.to_numpy() for run in panel.groups[0].runs]
    curve = curve_of(panel.groups[0], sqnr_db, "sqnr_db")
    np.testing.assert_array_equal([curve.value, curve.low, curve.high], over_seeds(values))
    assert curve.seeds == 3
    (panel,) = arranged(open_source(made.run).runs)
    alone = curve_of(panel.groups[0], sqnr_db, "sqnr_db")
    np.testing.assert_array_equal(alone.low, sqnr_db(panel.runs[0].dataset()).sqnr_db_low)


def test_open_run__refuses_a_file_that_is_no_run(tmp_path) -> None:
    import xarray as xr

    from studies.store.files import dataset_bytes

    file = tmp_path / "other.nc"
    file.write_bytes(dataset_bytes(xr.Dataset({"x": 1.0})))
    with pytest.raises(BadInput, match="must hold one run"):
        open_run(file)
