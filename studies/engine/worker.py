"""A worker process of the local pool: runs in, events out, as lines of JSON over a pipe.

Nothing heavy is imported before the threads are bounded.
"""

from __future__ import annotations

import json
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path


def main(pipe: Connection, store_path: str, threads: int, folder: str) -> None:
    """Work until the pipe ends: the pool closes it, or is gone.

    Args:
        pipe: to the pool.
        store_path: folder of the store.
        threads: most that any library may start.
        folder: working folder, on Python's path for models and recipes of the user's own.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool hears it, and says when to stop
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch  # noqa: F401 - before any kernel, so that both use one OpenMP pool

    from studies.engine.work import StoreFailed, work
    from studies.main_job import put_working_folder_on_path
    from studies.store.journal import Journal
    from studies.store.store import Store
    from studies.study.spec import RunSpec
    from studies.study.workshop import Workshop

    os.chdir(folder)
    put_working_folder_on_path()
    store = Store.open(Path(store_path))
    workshop, journal = Workshop(store), Journal(store.journal)
    while True:
        try:
            order = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            event = work(store, workshop, journal, order["key"], RunSpec(**order["spec"]), order["again"])
            answer = {"state": event.state.value, "seconds": event.seconds, "detail": event.detail}
        except StoreFailed as error:
            answer = {"store": str(error)}
        try:
            pipe.send_bytes(json.dumps(answer).encode())
        except OSError:
            return
