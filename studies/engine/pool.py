"""The local engine: spawned workers, one run each at a time; a worker that dies costs one try of one run."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from samplers.errors import BadInput
from studies.engine.outcome import Event, Listener, State
from studies.engine.stopping import Stop
from studies.engine.task import Task
from studies.engine.waiting import AGAIN_SECONDS, Waiting
from studies.engine.worker import main
from studies.store.store import Store

TRIES = 3
"""Workers that a run may take with it before it counts as failed."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = None


@dataclass
class LocalPool:
    """Workers on this machine.

    Args:
        store: where runs go.
        workers: how many.
        threads: of each.
    """

    store: Store
    workers: int
    threads: int = 1
    _running: list[_Worker] = field(default_factory=list)

    def run(self, tasks: Iterable[Task], listener: Listener, stop: Stop) -> None:
        """Work until every task is done or failed, or until told to stop: then what runs is finished first.

        Raises:
            BadInput: the store takes no more files.
        """
        waiting = Waiting(tasks)
        lost: dict[str, int] = {}
        try:
            while waiting or any(worker.task for worker in self._running):
                if stop.now:
                    return
                if stop.asked:
                    waiting.clear()
                waiting.look()
                self._dispatch(waiting.ready, listener)
                for worker in self._ready(AGAIN_SECONDS):
                    event = self._answer(worker)
                    task, worker.task = worker.task, None
                    if event is None:
                        self._bury(worker)
                        if task is None:
                            continue
                        event = self._lost(task, lost, worker.process.exitcode)
                    assert task is not None
                    if event.state is State.BUSY:
                        waiting.again_later(task)
                    elif event.state is State.LOST:
                        waiting.ready.appendleft(task)
                    listener(event)
        finally:
            self._close()

    def _dispatch(self, waiting: deque[Task], listener: Listener) -> None:
        idle = [worker for worker in self._running if worker.task is None]
        while waiting:
            if not idle:
                if len(self._running) >= self.workers:
                    return
                idle.append(self._start())
            worker, task = idle.pop(), waiting.popleft()
            worker.task = task
            order = {"key": task.key, "spec": task.spec.values(), "again": task.again}
            try:
                worker.pipe.send_bytes(json.dumps(order).encode())
            except OSError:
                continue  # it died; its sentinel says so
            listener(Event(State.STARTED, task.key))

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=main, args=(theirs, str(self.store.path.resolve()), self.threads, os.getcwd()), daemon=True
        )
        process.start()
        theirs.close()
        self._running.append(worker := _Worker(process, ours))
        return worker

    def _ready(self, seconds: float) -> list[_Worker]:
        """Workers that have answered or died."""
        watched: dict[Any, _Worker] = {worker.pipe: worker for worker in self._running}
        return [watched[pipe] for pipe in wait(list(watched), timeout=seconds)]

    def _answer(self, worker: _Worker) -> Event | None:
        """What a worker says of its run; None if it is dead.

        Raises:
            BadInput: the store takes no more files.
        """
        try:
            answer = json.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            return None
        if "store" in answer:
            raise BadInput("a study needs a store that takes files", got=answer["store"], fix="then resume it")
        assert worker.task is not None
        return Event(State(answer["state"]), worker.task.key, answer["seconds"], answer["detail"])

    def _lost(self, task: Task, lost: dict[str, int], code: int | None) -> Event:
        lost[task.key] = lost.get(task.key, 0) + 1
        detail = f"the worker died, exit code {code}"
        if lost[task.key] < TRIES:
            return Event(State.LOST, task.key, detail=detail)
        detail = f"{detail}, {TRIES} times"
        self.store.note_failure(
            task.key, {"spec": task.spec.values(), "error": detail, "traceback": "", "seconds": 0.0}
        )
        return Event(State.FAILED, task.key, detail=detail)

    def _bury(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join()
        self._running.remove(worker)

    def _close(self) -> None:
        """End every worker at once: an idle one has nothing to lose, and a store nothing from any."""
        for worker in self._running:
            worker.process.kill()
            worker.pipe.close()
        for worker in self._running:
            worker.process.join()
        self._running.clear()
