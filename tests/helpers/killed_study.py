"""Work through a small study in forked processes that are killed at random points, again and again.

Run as ``python -m tests.helpers.killed_study FOLDER KILLS`` in a folder with the study's network. The process that
forks has imported everything, so that the others die while they work and not while they start; it needs
``NUMBA_THREADING_LAYER=workqueue``, since OpenMP does not survive a fork. Prints what happened as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from studies.engine.task import Task
from studies.engine.work import work
from studies.store.exclusive import sweep
from studies.store.journal import Journal
from studies.store.store import Store
from studies.store.verification import verify
from studies.study.plan import plan
from studies.study.study import Axis, Study
from studies.study.workshop import Workshop

LONGEST_SECONDS = 0.6
STUDY = Study(
    "killed",
    fixed={
        "model": "tiny_study_network:factory", "num_inference_steps": 3, "samples": 4, "calibration_samples": 16,
        "eta": 1.0,
    },
    axes=(Axis({"scheme": ("w8a8", "w4a4")}), Axis({"correction": ("none", "ptqd")}), Axis({"seed": (0, 1)})),
)  # fmt: skip


class Counting(Workshop):
    """Notes every run it begins, in a file that outlives it."""

    def __init__(self, store: Store, begun: Path) -> None:
        super().__init__(store)
        self._begun = begun

    def run(self, spec, report=lambda *_: None):
        handle = os.open(self._begun, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{spec.title}\n".encode())
        os.close(handle)
        return super().run(spec, report)


def work_through(store: Store, tasks: list[Task], begun: Path) -> int:
    """Fork a process that does all that is missing; its id."""
    if child := os.fork():
        return child
    code = 1
    try:
        sweep(store.temporary)
        workshop, journal = Counting(store, begun), Journal(store.journal)
        for task in tasks:
            work(store, workshop, journal, task.key, task.spec)
        code = 0
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Wait for a process; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, kills: int) -> dict[str, int]:
    """Kill as often as asked, and count what went wrong."""
    tasks = plan(STUDY)
    sound = Store.create(folder / "undisturbed")
    assert ended(work_through(sound, tasks, folder / "begun")) == 0
    expected = {key: sound.run(key).read_bytes() for key in sorted(sound.keys())}
    assert set(expected) == {task.key for task in tasks}
    chance = random.Random(0)
    found: Counter[str] = Counter(kills=0, studies=0, lost=0, torn=0, differing=0, wasted=0, leftovers=0)
    while found["kills"] < kills:
        found["studies"] += 1
        store, begun = Store.create(folder / f"store{found['studies']}"), folder / f"begun{found['studies']}"
        kills_here = 0
        while True:
            before = store.keys()
            child = work_through(store, tasks, begun)
            time.sleep(chance.uniform(0, LONGEST_SECONDS))
            os.kill(child, signal.SIGKILL)
            code = ended(child)
            found["lost"] += len(before - store.keys())
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
            kills_here += 1
        found["kills"] += kills_here
        there = {key: store.run(key).read_bytes() for key in sorted(store.keys())}
        found["differing"] += there != expected
        found["torn"] += sum(problem is not None for problem in verify(store))
        found["wasted"] += max(0, len(begun.read_text().splitlines()) - len(tasks) - kills_here)
        sweep(store.temporary)
        found["leftovers"] += len(list(store.temporary.iterdir()))
    return dict(found)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
