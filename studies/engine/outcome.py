"""What an engine says of runs while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Of a run, as an engine sees it."""

    STARTED = "started"
    DONE = "done"
    """Computed and published by this engine."""
    FOUND = "found"
    """It was there."""
    BUSY = "busy"
    """Somebody else computes it now."""
    FAILED = "failed"
    """It raised, or took its worker with it, time and again."""
    LOST = "lost"
    """Its worker died; it is tried again."""


@dataclass(frozen=True)
class Event:
    """Something happened to a run.

    Args:
        state: what.
        key: of the run.
        seconds: that it took, of a run that is done or failed.
        detail: one line: of a failure, what was raised.
    """

    state: State
    key: str
    seconds: float = 0.0
    detail: str = ""


Listener = Callable[[Event], None]
"""Hears of every event."""
