"""Runs that are not handed out yet, and those that somebody else computes, to be looked at again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from studies.engine.task import Task

AGAIN_SECONDS = 0.25
"""Before a run that somebody else computes is looked at again."""


class Waiting:
    """A queue of tasks, some of which wait their time.

    Args:
        tasks: in order.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.ready = deque(tasks)
        self._later: list[tuple[float, Task]] = []

    def __bool__(self) -> bool:
        return bool(self.ready or self._later)

    def look(self) -> None:
        """Make ready what has waited long enough."""
        now = time.monotonic()
        self.ready.extend(task for due, task in self._later if due <= now)
        self._later = [(due, task) for due, task in self._later if due > now]

    def again_later(self, task: Task) -> None:
        """Somebody else computes it: look again in a while."""
        self._later.append((time.monotonic() + AGAIN_SECONDS, task))

    def clear(self) -> None:
        """Hand out nothing more."""
        self.ready.clear()
        self._later.clear()
