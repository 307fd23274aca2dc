"""``qnoise``: bad input is one line and exit code 2 before any work; a run is repeatable to the byte; help is light."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from studies import cli
from studies.store.files import read

SMALL = ["run", "--steps", "3", "--samples", "6", "--calibration-samples", "16", "--threads", "1"]
ONE_SCHEME = [*SMALL, "--scheme", "w8a8"]


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["qnoise", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "digits-vae"], "digits-unet"),
        (["--scheme", "w3q8"], "wXaY"),
        (["--scheme", "w8a8", "--scheme", "w1a8"], "weight_bits must lie in 2..16"),
        (["--scheme", "w8a8", "--scheme", "W08A8"], "schemes must differ"),
        (["--eta", "nan"], "eta"),
        (["--eta", "1e9"], "eta must keep"),
        (["--seed", str(2**63)], "below 2**63"),
        (["--samples", "100000000000000"], "at most"),
        (["--threads", "99999999999"], "at most"),
        (["--eta", "-0.1"], "eta must be at least 0"),
        (["--steps", "0"], "at least 1"),
        (["--steps", "1001"], "1000"),
        (["--sampler", "pndm"], "ddim, ddpm"),
        (["--sampler", "ddpm", "--eta", "0.5"], "eta belongs to ddim"),
        (["--samples", "0"], "at least 1"),
        (["--seed", "-1"], "at least 0"),
        (["--threads", "0"], "at least 1"),
        (["--calibration-samples", "1"], "samples"),
        (["--state", "float8"], "fixed:BITS"),
        (["--state", "fixed:60:10"], "at most 52"),
    ],
)
def test_run__bad_input_is_one_line_and_exit_code_2_with_nothing_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, arguments: list[str], says: str
) -> None:
    assert qnoise(monkeypatch, "run", "--out", str(tmp_path / "results"), *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("qnoise: ")
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_run__unwritable_results_folder_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert qnoise(monkeypatch, *SMALL, "--out", str(tmp_path / "file")) == 2
    assert "must be writable" in capsys.readouterr().err


def test_run__truncated_weights_are_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    from simulator.models import registry

    shutil.copytree(registry.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "weights")
    file = tmp_path / "weights" / "digits-unet@1.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert qnoise(monkeypatch, *SMALL, "--model", "digits-unet@1", "--out", str(tmp_path / "results")) == 2
    error = capsys.readouterr().err
    assert "truncated" in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder under which the main job ran once, and the one of its first scheme alone."""
    out = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        assert qnoise(patch, *SMALL, "--out", str(out / "all")) == 0
        assert qnoise(patch, *ONE_SCHEME, "--out", str(out / "one")) == 0
    return out


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_run__two_runs_give_identical_files_and_a_third_finds_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, made: Path
) -> None:
    shutil.copytree(made / "all", tmp_path / "a")
    assert qnoise(monkeypatch, *SMALL, "--json", "--out", str(tmp_path / "b")) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found["reused"]
    folders = [only(tmp_path / "a"), Path(found["folder"])]
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert len([name for name in first if name.endswith(".nc")]) == 8
    assert {"snr.pdf", "snr.png", "samples.pdf", "samples.png", "job.json", "log.json"} <= set(first)
    assert first.keys() == second.keys()
    for name in first.keys() - {"log.json"}:
        assert first[name] == second[name], name
    assert qnoise(monkeypatch, *SMALL, "--json", "--out", str(tmp_path / "a")) == 0
    assert json.loads(capsys.readouterr().out)["reused"]
    assert list((tmp_path / "a").iterdir()) == [folders[0]]


def test_run__damaged_results_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, made: Path
) -> None:
    shutil.copytree(made / "one", tmp_path / "results")
    file = next(only(tmp_path / "results").glob("*.nc"))
    file.write_bytes(file.read_bytes()[:-1])
    assert qnoise(monkeypatch, *ONE_SCHEME, "--json", "--out", str(tmp_path / "results")) == 2
    assert "digest" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", '{"runs": 3}', '{"config": {}, "files": [], "runs": ["../../a.nc"]}', "{"])
def test_run__results_of_another_job_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, content: str
) -> None:
    arguments = [*SMALL, "--scheme", "w8a8", "--json", "--out", str(tmp_path)]
    monkeypatch.setattr("studies.execute.execute", lambda *a: pytest.fail("computed"))
    import simulator
    from studies.job import Job, Part

    job = Job("digits-unet", (Part("ddim", 0.0, ("w8a8",)),), 3, 6, 0, 16, threads=1)
    simulator.set_threads(1)
    model = simulator.load("digits-unet")
    folder = tmp_path / f"digits-unet-{job.key(model)[:8]}"
    folder.mkdir()
    (folder / "job.json").write_text(content)
    assert qnoise(monkeypatch, *arguments) == 2
    assert "results folder must" in capsys.readouterr().err


def test_run__that_finishes_second_shows_the_first_ones_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path, made: Path
) -> None:
    from studies import main_job

    finished, write_files = only(made / "one"), main_job._files

    def publish_meanwhile(*details) -> dict[str, bytes]:
        files = write_files(*details)
        shutil.copytree(finished, tmp_path / "second" / finished.name)
        return files

    monkeypatch.setattr(main_job, "_files", publish_meanwhile)
    assert qnoise(monkeypatch, *ONE_SCHEME, "--json", "--out", str(tmp_path / "second")) == 0
    assert json.loads(capsys.readouterr().out)["reused"]
    assert [path.name for path in (tmp_path / "second").iterdir()] == [finished.name]


def test_run__one_sample_gives_valid_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    assert qnoise(monkeypatch, *SMALL, "--samples", "1", "--scheme", "w8a8", "--json", "--out", str(tmp_path)) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["runs"][0]["final_sample_db_low"] is None


def test_run__under_a_clipping_sampler_corrects_without_absorbing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    options = ["--scheme", "w8a8", "--sampler", "ddpm", "--knob", "clip_sample=true", "--state", "fixed:24:14"]
    assert qnoise(monkeypatch, *SMALL, *options, "--json", "--out", str(tmp_path)) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["correction"] for run in found["runs"]] == ["none", "ptqd-unabsorbed"]
    run = read(next(Path(found["folder"]).glob("*none*.nc")))
    assert (run.x0_clipped_accumulated > 0).any()
    assert "state_saturated_accumulated" in run


def test_run__calibration_and_evaluation_streams_are_stored_and_disjoint(made: Path) -> None:
    from studies.results import load_runs

    for run in load_runs(only(made / "all")):
        config = json.loads(run.attrs["config"])
        evaluation = (config["seed"], config["purpose"])
        fitted_on = [config["ranges"]]
        if config["correction"]["name"] != "none":
            fitted_on.append(config["correction"]["fit"])
        for source in fitted_on:
            assert (source["seed"], source["purpose"]) != evaluation
            assert source["samples"] == 16


def test_help__imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['qnoise', 'run', '--help']\n"
        "from studies import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'numba', 'xarray', 'matplotlib', 'scipy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


_WAIT = """
import sys, time
from studies import cli

@cli.app.command()
def wait():
    print("ready", flush=True)
    time.sleep(60)

sys.argv = ["qnoise", "wait"]
cli.main()
"""


def test_terminated__ends_where_interrupts_are_ignored_as_in_a_background_job() -> None:
    job = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, _WAIT], stdout=subprocess.PIPE, text=True
    )
    with job:
        assert job.stdout.readline() == "ready\n"
        job.terminate()
        assert job.wait(timeout=20) == 130
