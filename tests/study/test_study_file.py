"""Claim: a study file means one list of runs, and whatever else it holds is refused in one line before any work."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.errors import BadInput
from studies.study.file import read_study
from studies.study.spec import RunSpec
from studies.study.study import FIELDS, Axis, Study

GOOD = """
name = "good"
summary = "A grid."
figures = ["snr"]
[run]
model = "digits-unet"
samples = 8
[grid]
scheme = ["w8a8", "w4a4"]
seed = [0, 1, 2]
[[zip]]
sampler = ["ddim", "ddpm"]
num_inference_steps = [10, 20]
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str, name: str = "good.toml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_read_study__gives_the_product_of_grid_and_zip_last_axis_fastest(write) -> None:
    study = read_study(write(GOOD))
    assert (study.name, study.summary, study.figures, len(study)) == ("good", "A grid.", ("snr",), 12)
    specs = list(study.specs())
    assert len(specs) == 12
    assert [(s.scheme, s.seed, s.sampler, s.num_inference_steps) for s in specs[:3]] == [
        ("w8a8", 0, "ddim", 10), ("w8a8", 0, "ddpm", 20), ("w8a8", 1, "ddim", 10),
    ]  # fmt: skip
    assert all(spec.samples == 8 for spec in specs)


def test_config__gives_the_study_back(write) -> None:
    study = read_study(write(GOOD))
    again = Study.from_config(study.config())
    assert again == study
    assert list(again.specs()) == list(study.specs())


def test_changes__fix_and_vary_fields_wherever_they_stood(write) -> None:
    path = write(GOOD)
    study = read_study(path, ['scheme="w2a2"', "samples=[4, 5]", "seed=[7]", "model=digits-dit"])
    assert study.fixed["scheme"] == "w2a2"
    assert study.fixed["model"] == "digits-dit"
    assert {axis.name: len(axis) for axis in study.axes} == {"seed": 1, "samples": 2, "sampler+num_inference_steps": 2}
    for change, match in (("sampler=ddim", "zipped"), ("sead=1", "seed"), ("seed", "field=value")):
        with pytest.raises(BadInput, match=match):
            read_study(path, [change])


def test_includes__are_laid_under_the_file(write) -> None:
    write('[run]\nmodel = "digits-dit"\nsamples = 4\n[grid]\nseed = [8, 9]\n', "common.toml")
    study = read_study(write('include = ["common.toml"]\n[run]\nseed = 3\n[grid]\nscheme = ["w8a8"]\n', "top.toml"))
    assert study.name == "top"
    assert dict(study.fixed) == {"model": "digits-dit", "samples": 4, "seed": 3}
    assert [axis.name for axis in study.axes] == ["scheme"]


@pytest.mark.parametrize("name", ["/etc/hostname", "../top.toml", "link.toml", "missing.toml", "sub/../../x.toml"])
def test_includes__do_not_leave_the_folder(write, tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "link.toml").symlink_to("/etc/hostname")
    path = write(f'include = ["{name}"]\n', "inner/top.toml")
    with pytest.raises(BadInput, match=r"beside its file|readable"):
        read_study(path)


def test_includes__may_not_go_in_a_circle(write) -> None:
    write('include = ["b.toml"]\n', "a.toml")
    with pytest.raises(BadInput, match="must end"):
        read_study(write('include = ["a.toml"]\n', "b.toml"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nmae = 'x'", "did you mean name"),
        ("[run]\nseeds = 1", "did you mean seed"),
        ("[grid]\nshceme = ['w8a8']", "did you mean scheme"),
        ("[run]\nseed = [1]", "under .grid."),
        ("[grid]\nseed = 1", "under .run."),
        ("[grid]\nseed = []", "needs values"),
        ("[grid]\nseed = [1, 1]", "differ"),
        ("[[zip]]\nseed = [1, 2]\neta = [0.0]", "as many as"),
        ("[run]\nseed = 1\n[grid]\nseed = [1]", "once"),
        ("[run]\nseed = {a = 1}", "one value"),
        ("run = 3", "table"),
        ("zip = 3", "list of tables"),
        ("name = 'a/b'", "name"),
        ("name = 3", "name"),
        ("figures = 'snr'", "figures"),
        ("include = 3", "include"),
        ("summary = 3", "summary"),
        ("seed = 1", "stand in .run."),
        ("a = ", "TOML"),
        ("a = " + "[" * 5000, "TOML"),
        ("\x00", "TOML"),
    ],
)
def test_read_study__refuses(write, text: str, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        read_study(write(text))


def test_read_study__refuses_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(BadInput, match="readable"):
            read_study(path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="TOML"):
        read_study(tmp_path / "bytes.toml")
    (tmp_path / "long.toml").write_bytes(b"# \n" * 2**19)
    with pytest.raises(BadInput, match="bytes"):
        read_study(tmp_path / "long.toml")


def test_study__refuses_more_runs_than_anybody_means() -> None:
    axes = tuple(Axis({name: tuple(range(1, 200))}) for name in ("seed", "samples", "num_inference_steps"))
    with pytest.raises(BadInput, match="at most"):
        Study("big", axes=axes)


def test_specs__name_the_run_that_breaks_a_rule() -> None:
    study = Study("s", fixed={"scheme": "w8a8"}, axes=(Axis({"seed": (0, -1)}),))
    with pytest.raises(BadInput, match="seed = -1"):
        list(study.specs())


VALUES = st.one_of(
    st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.none(), st.just("w8a8"), st.just("minmax"),
    st.just("ddim"), st.just("ddpm:fixed_large"),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
def test_spec__takes_any_values_or_refuses_them_in_one_line(values: dict[str, object]) -> None:
    try:
        spec = RunSpec(**values)
    except BadInput as error:
        said = str(error)
    else:
        said, again = "", RunSpec(**spec.values())
        assert again == spec  # canonical: what is stored makes the same run again
        assert spec.eta is None or math.isfinite(spec.eta)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({}, "a scheme or a recipe"),
        ({"scheme": "w8a8", "recipe": "minmax", "bits": "w4a4"}, "itself"),
        ({"recipe": "minmax"}, "w4a8"),
        ({"recipe": "minmx", "bits": "w4a4"}, "minmax"),
        ({"recipe": "minmax", "bits": "w4a4", "calibration_samples": 8}, "calibration"),
        ({"scheme": "w8a8", "bits": "w4a4"}, "belong to a recipe"),
        ({"scheme": "w8a8@onnxruntime", "target": "onnxruntime"}, "once"),
        ({"scheme": "w8a8", "correction": "ptdq"}, "ptqd"),
        ({"scheme": "w8a8", "sampler": "ddpm", "eta": 0.5}, "ddim only"),
        ({"scheme": "w8a8", "guidance": 2.0}, "conditions"),
        ({"scheme": "w8a8", "rung": "top"}, "complete"),
        ({"scheme": "w8a8", "samples": True}, "integer"),
        ({"scheme": "w8a8", "samples": 10**9}, "at most"),
        ({"scheme": "w8a8", "sites": 1}, "true or false"),
        ({"scheme": "w8a8", "state": "float8"}, "state"),
        ({"scheme": 8}, "text"),
    ],
)
def test_spec__refuses(values: dict[str, object], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        RunSpec(**values)


def test_spec__spells_one_run_in_one_way() -> None:
    plain = RunSpec(scheme="w8a8")
    assert RunSpec(scheme="W8A8", eta=-0.0) == plain
    assert RunSpec(scheme="w8a8", sampler="ddim:0") == plain
    assert RunSpec(scheme="w8a8", calibration_samples=256) == plain
    assert RunSpec(scheme="w8a8", target="onnxruntime") == RunSpec(scheme="w8a8@onnxruntime")
