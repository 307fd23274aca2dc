"""The dask engine: runs on a cluster that exists already, whose workers see the store's folder.

Dask moves descriptions of runs and one-line answers, never results: those go straight to the store. Its workers may die
and join as they like; a run whose worker died is tried elsewhere by the scheduler, and published once all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from studies.engine.outcome import Event, Listener, State
from studies.engine.stopping import Stop
from studies.engine.task import Task
from studies.engine.waiting import Waiting
from studies.store.store import Store

AHEAD = 2
"""Runs handed over per thread of the cluster: one that runs, one that waits beside it."""

LOOK_SECONDS = 0.25
CONNECT_SECONDS = 20

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Cluster:
    """Workers behind a dask scheduler.

    Args:
        store: where runs go; its path is the same on every worker.
        address: of the scheduler, such as ``tcp://host:8786``.
    """

    store: Store
    address: str

    def run(self, tasks: Iterable[Task], listener: Listener, stop: Stop) -> None:
        """Work until every task is done or failed, or until told to stop: then what was handed over is finished first.

        Raises:
            BadInput: no dask, no scheduler there, or a store that takes no more files.
        """
        client = self._client()
        waiting = Waiting(tasks)
        futures: dict[Any, Task] = {}
        path = str(self.store.path.resolve())
        try:
            while waiting or futures:
                if stop.now:
                    return
                if stop.asked:
                    waiting.clear()
                waiting.look()
                room = AHEAD * max(1, sum(client.nthreads().values())) - len(futures)
                for _ in range(min(room, len(waiting.ready))):
                    task = waiting.ready.popleft()
                    future = client.submit(compute, path, task.key, task.spec.values(), task.again, pure=False)
                    futures[future] = task
                    listener(Event(State.STARTED, task.key))
                for future in _finished(client, futures):
                    task = futures.pop(future)
                    event = self._event(future, task)
                    if event.state is State.BUSY:
                        waiting.again_later(task)
                    listener(event)
        finally:
            client.cancel(list(futures))
            client.close()

    def _client(self) -> Any:
        try:
            from distributed import Client
        except ImportError:
            raise BadInput("a cluster needs dask", got="none", fix="pip install 'qnoise[cluster]'") from None
        try:
            return Client(self.address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise BadInput(
                "a dask scheduler must answer at its address", got=f"{self.address} ({error})".splitlines()[0],
                fix="start one with dask scheduler",
            ) from None  # fmt: skip

    def _event(self, future: Any, task: Task) -> Event:
        if future.status == "finished":
            answer = future.result()
            if "store" in answer:
                raise BadInput("a study needs a store that takes files", got=answer["store"], fix="then resume it")
            return Event(State(answer["state"]), task.key, answer["seconds"], answer["detail"])
        error = future.exception() if future.status == "error" else None
        detail = f"the cluster lost it: {error if error is not None else future.status}".splitlines()[0]
        facts = {"spec": task.spec.values(), "error": detail, "traceback": "", "seconds": 0.0}
        self.store.note_failure(task.key, facts)
        return Event(State.FAILED, task.key, detail=detail)


def compute(store_path: str, key: str, spec: dict[str, Any], again: bool) -> dict[str, Any]:
    """What a worker does: one run at a time in a process, since torch's threads are the process's."""
    from studies.engine.work import StoreFailed, work
    from studies.study.spec import RunSpec

    with _one_at_a_time:
        store, workshop, journal = _tools(store_path)
        try:
            event = work(store, workshop, journal, key, RunSpec(**spec), again)
        except StoreFailed as error:
            return {"store": str(error)}
    return {"state": event.state.value, "seconds": event.seconds, "detail": event.detail}


@lru_cache(maxsize=2)
def _tools(store_path: str) -> Any:
    import torch  # noqa: F401 - before any kernel, so that both use one OpenMP pool

    from studies.store.journal import Journal
    from studies.study.workshop import Workshop

    store = Store.open(Path(store_path))
    return store, Workshop(store), Journal(store.journal)


def _finished(client: Any, futures: dict[Any, Task]) -> list[Any]:
    """Those that ended, after a short wait for the first."""
    from distributed import TimeoutError as Late
    from distributed import wait

    if not futures:
        time.sleep(LOOK_SECONDS)
        return []
    try:
        with client.as_current():
            wait(list(futures), timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED")
    except Late:
        return []
    return [future for future in futures if future.status in ("finished", "error", "cancelled", "lost")]
