"""Being told to stop: at the first interrupt what runs is finished, at the second nothing is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """How often the user has asked."""

    asked: int = 0

    @property
    def now(self) -> bool:
        """Whether not to wait for what runs."""
        return self.asked > 1


@contextmanager
def on_interrupt() -> Iterator[Stop]:
    """Count interrupts in place of raising at them, in the main thread."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked += 1

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
