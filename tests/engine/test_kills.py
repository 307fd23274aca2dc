"""Claim: wherever a process is killed, no run is lost, doubled or torn, and each kill costs at most one run's work.

``QNOISE_KILLS`` says how often; 1000 unless set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNS = 8
KILLS = int(os.environ.get("QNOISE_KILLS", "1000"))


@pytest.mark.slow
@pytest.mark.parametrize("no_locks", ["", "1"], ids=["locks", "no locks"])
def test_study__survives_kills_at_random_points(tmp_path: Path, folder: Path, no_locks: str) -> None:
    path = os.pathsep.join(filter(None, (str(ROOT), str(folder), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.killed_study", str(tmp_path), str(KILLS // 2)],
        cwd=folder, capture_output=True, text=True, check=False,
        env={
            **os.environ, "PYTHONPATH": path, "QNOISE_NO_LOCKS": no_locks, "OMP_NUM_THREADS": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found.pop("kills") >= KILLS // 2
    assert found.pop("studies") >= 1
    assert found.pop("runs") == RUNS
    assert not any(found.values()), found
