"""Which engine runs a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from samplers.errors import BadInput
from studies.engine.outcome import Listener
from studies.engine.pool import LocalPool
from studies.engine.stopping import Stop
from studies.engine.task import Task
from studies.main_job import available_threads
from studies.store.store import Store

MOST_WORKERS = 1024


class Engine(Protocol):
    """Computes tasks into a store."""

    def run(self, tasks: Iterable[Task], listener: Listener, stop: Stop) -> None:
        """Work until every task is done or failed, or until told to stop."""
        ...


def engine_for(store: Store, tasks: Sequence[Task], workers: int | None, scheduler: str | None) -> Engine:
    """The local pool, or the cluster behind a scheduler's address.

    The pool has as many workers as the cores allow with the threads that runs ask for.

    Raises:
        BadInput: workers beside a scheduler, or a number of them that is none.
    """
    if scheduler is not None:
        if workers is not None:
            raise BadInput("a cluster has its own workers", got=f"--workers {workers}", fix="drop --workers")
        from studies.engine.cluster import Cluster

        return Cluster(store, scheduler)
    threads = max(task.spec.threads for task in tasks)
    if workers is None:
        workers = max(1, available_threads() // threads)
    if not 1 <= workers <= MOST_WORKERS:
        raise BadInput(f"workers must be 1 to {MOST_WORKERS}", got=workers, fix="use the number of cores")
    return LocalPool(store, min(workers, len(tasks)), threads)
