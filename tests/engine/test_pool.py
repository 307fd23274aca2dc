"""Claim: a study's bytes do not depend on who computes it, and neither kills nor interrupts lose or double a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studies.engine.outcome import Event, State
from studies.engine.pool import LocalPool
from studies.engine.stopping import Stop
from studies.store.files import dataset_bytes
from studies.store.store import Store
from studies.store.verification import verify
from studies.study.plan import plan
from studies.study.study import Study
from studies.study.workshop import Workshop

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("one_thread", "folder")


def stored(store: Store) -> dict[str, bytes]:
    return {key: store.run(key).read_bytes() for key in sorted(store.keys())}


def alone(study: Study) -> dict[str, bytes]:
    workshop = Workshop()
    return {task.key: dataset_bytes(workshop.run(task.spec)) for task in plan(study)}


def test_pool__gives_the_bytes_of_one_process_and_survives_killed_workers(study, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    pool = LocalPool(store, workers=2)
    events: list[Event] = []
    killed = 0

    def listen(event: Event) -> None:
        nonlocal killed
        events.append(event)
        if event.state is State.DONE and not killed:
            killed += 1
            os.kill(next(worker.process.pid for worker in pool._running if worker.task), signal.SIGKILL)

    pool.run(plan(study), listen, Stop())
    assert killed == 1
    assert stored(store) == alone(study)
    assert not any(verify(store))
    states = [event.state for event in events]
    assert states.count(State.DONE) + states.count(State.FOUND) == len(study)
    assert states.count(State.LOST) <= killed
    assert State.FAILED not in states


@pytest.mark.slow
def test_pool__gives_up_on_a_run_that_takes_its_workers_with_it(study, tmp_path: Path, folder: Path) -> None:
    source = (folder / "tiny_study_network.py").read_text()
    end = "        return self.last"
    deadly = source.replace(end, f"        os._exit(3) if 'DEADLY' in os.environ else None\n{end}")
    (folder / "tiny_study_network.py").write_text(deadly)
    tasks = plan(Study("deadly", fixed={**study.fixed, "scheme": "w8a8"}))
    store = Store.create(tmp_path / "store")
    events: list[Event] = []
    os.environ["DEADLY"] = "1"
    try:
        LocalPool(store, workers=1).run(tasks, events.append, Stop())
    finally:
        del os.environ["DEADLY"]
    assert [event.state for event in events if event.state is not State.STARTED] == [State.LOST] * 2 + [State.FAILED]
    assert "exit code 3, 3 times" in store.failure_of(tasks[0].key)["error"]


def start(folder: Path, store: Path, *options: str) -> subprocess.Popen:
    (folder / "study.toml").write_text(
        'name = "tiny"\n[run]\nmodel = "tiny_study_network:factory"\nnum_inference_steps = 3\nsamples = 4\n'
        'calibration_samples = 16\neta = 1.0\n[grid]\nscheme = ["w8a8", "w4a4"]\ncorrection = ["none", "ptqd"]\n'
        "seed = [0, 1]\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [
        sys.executable,
        "-m",
        "studies.cli",
        "study",
        "run",
        "study.toml",
        "--store",
        str(store),
        "--json",
        *options,
    ]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def lines(process: subprocess.Popen) -> list[dict]:
    return [json.loads(line) for line in process.stdout]


@pytest.mark.slow
def test_study_run__stops_cleanly_at_an_interrupt_and_goes_on_later(study, tmp_path: Path, folder: Path) -> None:
    store_path = tmp_path / "store"
    process = start(folder, store_path, "--workers", "1")
    for line in process.stdout:
        if json.loads(line)["event"] == "done":
            process.send_signal(signal.SIGINT)
            break
    rest = lines(process)
    assert process.wait(60) == 130
    assert rest[-1]["event"] == "end"
    store = Store.open(store_path)
    done = len(store.keys())
    assert 1 <= done < len(study)
    assert rest[-1]["done"] == done  # what ran was finished, and is there
    assert not list((store_path / "temporary").iterdir())
    process = start(folder, store_path, "--workers", "1")
    end = lines(process)[-1]
    assert process.wait(60) == 0
    assert (end["found"], end["done"]) == (done, len(study) - done)
    assert stored(store) == alone(study)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_pool__gives_the_same_bytes_with_any_number_of_workers(study, tmp_path: Path, workers: int) -> None:
    store = Store.create(tmp_path / "store")
    LocalPool(store, workers).run(plan(study), lambda _: None, Stop())
    assert stored(store) == alone(study)


@pytest.mark.slow
def test_two_commands_on_one_store__lose_and_double_nothing(study, tmp_path: Path, folder: Path, monkeypatch) -> None:
    for number, switched_off in enumerate(("", "1")):
        monkeypatch.setenv("QNOISE_NO_LOCKS", switched_off)
        store_path = tmp_path / f"store{number}"
        both = [start(folder, store_path, "--workers", "2") for _ in range(2)]
        ends = [lines(process)[-1] for process in both]
        assert [process.wait(60) for process in both] == [0, 0]
        assert sum(end["done"] for end in ends) == len(study)  # each published by one of them
        assert stored(Store.open(store_path)) == alone(study)


@pytest.mark.slow
def test_study_run__leaves_no_process_behind_when_it_is_killed(study, tmp_path: Path, folder: Path) -> None:
    process = start(folder, tmp_path / "store", "--workers", "2")
    next(process.stdout)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}/stat").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert children
    assert not any(Path(f"/proc/{child}/stat").exists() for child in children)
