"""Work through a small study in forked processes that are killed at random points, again and again.

Run as ``python -m tests.helpers.killed_study FOLDER KILLS`` in a folder with the study's network. The process that
forks has imported what takes seconds, but nothing that starts threads, which a fork would lose: the others import the
rest, say that they are ready, and die while they work. Prints what happened as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import h5py  # noqa: F401
import numba  # noqa: F401
import scipy.special  # noqa: F401
import torch  # noqa: F401
import xarray  # noqa: F401

from studies.store.exclusive import sweep
from studies.store.store import Store
from studies.store.verification import verify

LONGEST_SECONDS = 1.2
"""Of a life: a few runs on an idle core."""
FIXED = {
    "model": "tiny_study_network:factory", "num_inference_steps": 3, "samples": 4, "calibration_samples": 16,
    "eta": 1.0,
}  # fmt: skip
AXES = {"scheme": ("w8a8", "w4a4"), "correction": ("none", "ptqd"), "seed": (0, 1)}


def work_through(store: Store, begun: Path) -> int:
    """Fork a process that does all that is missing, and wait until it begins; its id."""
    told, tell = os.pipe()
    if child := os.fork():
        os.close(tell)
        os.read(told, 1)
        os.close(told)
        return child
    code = 1
    try:
        _work(store, begun, tell)
        code = 0
    finally:
        os._exit(code)


def _work(store: Store, begun: Path, tell: int) -> None:
    from studies.engine.work import work
    from studies.store.journal import Journal
    from studies.study.plan import plan
    from studies.study.study import Axis, Study
    from studies.study.workshop import Workshop

    class Counting(Workshop):
        """Notes every run it begins, in a file that outlives it."""

        def run(self, spec, report=lambda *_: None):
            handle = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(handle, b"begun\n")
            os.close(handle)
            return super().run(spec, report)

    tasks = plan(Study("killed", fixed=FIXED, axes=tuple(Axis({name: values}) for name, values in AXES.items())))
    os.write(tell, b"x")
    sweep(store.temporary)
    workshop, journal = Counting(store), Journal(store.journal)
    for task in tasks:
        work(store, workshop, journal, task.key, task.spec)


def ended(child: int) -> int:
    """Wait for a process; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stored(store: Store) -> dict[str, bytes]:
    """Every run's bytes."""
    return {key: store.run(key).read_bytes() for key in sorted(store.keys())}


def main(folder: Path, kills: int) -> dict[str, int]:
    """Kill as often as asked, and count what went wrong."""
    sound = Store.create(folder / "undisturbed")
    assert ended(work_through(sound, folder / "begun")) == 0
    expected = stored(sound)
    chance = random.Random(0)
    found = {"kills": 0, "studies": 0, "runs": len(expected)}
    wrong = dict.fromkeys(("lost", "torn", "differing", "wasted", "leftovers"), 0)
    while found["kills"] < kills:
        found["studies"] += 1
        store, begun = Store.create(folder / f"store{found['studies']}"), folder / f"begun{found['studies']}"
        kills_here = 0
        while True:
            before = store.keys()
            child = work_through(store, begun)
            if found["kills"] + kills_here < kills:  # else it may end in peace
                time.sleep(chance.uniform(0, LONGEST_SECONDS))
                os.kill(child, signal.SIGKILL)
            code = ended(child)
            wrong["lost"] += len(before - store.keys())
            if code == 0:
                break
            assert code == -signal.SIGKILL, code
            kills_here += 1
        found["kills"] += kills_here
        wrong["differing"] += stored(store) != expected
        wrong["torn"] += sum(problem is not None for problem in verify(store))
        wrong["wasted"] += max(0, begun.read_text().count("begun") - len(expected) - kills_here)
        sweep(store.temporary)
        wrong["leftovers"] += len(list(store.temporary.iterdir()))
    return found | wrong


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
