"""How a study is going: a live table on a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from studies.engine.outcome import Event, Listener, State

EVERY_SECONDS = 2.0
"""Between plain lines."""


@dataclass
class Tally:
    """Runs by state, so far.

    Args:
        total: runs of the study.
        found: those that were there before.
        clock: seconds, monotonic.
    """

    total: int
    found: int = 0
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    failed: int = 0
    running: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._started = self.clock()

    def count(self, event: Event) -> None:
        """One event more."""
        if event.state is State.STARTED:
            self.running.add(event.key)
            return
        self.running.discard(event.key)
        if event.state is State.DONE:
            self.done += 1
        elif event.state is State.FOUND:
            self.found += 1
        elif event.state is State.FAILED:
            self.failed += 1

    @property
    def left(self) -> int:
        """Runs that are neither done nor failed."""
        return self.total - self.found - self.done - self.failed

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self.clock() - self._started

    @property
    def rate(self) -> float:
        """Runs per second, 0 before the first."""
        return (self.done + self.failed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def line(self) -> str:
        """In words."""
        parts = [f"{self.found + self.done} of {self.total} done"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.running:
            parts.append(f"{len(self.running)} running")
        if self.rate:
            parts.append(f"{_rate(self.rate)}, {duration(self.left / self.rate)} left")
        return ", ".join(parts)

    def config(self) -> dict[str, float]:
        """As plain JSON values."""
        return {
            "total": self.total, "found": self.found, "done": self.done, "failed": self.failed, "left": self.left,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip


@contextmanager
def shown(tally: Tally, titles: Callable[[str], str], *, as_json: bool) -> Iterator[Listener]:
    """Yield a listener that counts, and shows.

    Args:
        tally: what is counted into.
        titles: what a run is, by its key.
        as_json: a line of JSON per event on standard output, and one of the tally at the end.
    """
    if as_json:
        yield _json_lines(tally)
        print(json.dumps({"event": "end", **tally.config()}), flush=True)
    elif sys.stderr.isatty():
        with _live(tally, titles) as listener:
            yield listener
    else:
        yield _plain(tally, titles)
        print(tally.line, file=sys.stderr, flush=True)


def _json_lines(tally: Tally) -> Listener:
    def listen(event: Event) -> None:
        tally.count(event)
        facts = {"event": event.state.value, "key": event.key, "seconds": event.seconds, "detail": event.detail}
        print(json.dumps(facts), flush=True)

    return listen


def _plain(tally: Tally, titles: Callable[[str], str]) -> Listener:
    said = -EVERY_SECONDS

    def listen(event: Event) -> None:
        nonlocal said
        tally.count(event)
        if event.state in (State.FAILED, State.LOST):
            print(f"{event.state.value}: {titles(event.key)}: {event.detail}", file=sys.stderr, flush=True)
        if event.state is not State.STARTED and tally.seconds - said >= EVERY_SECONDS:
            said = tally.seconds
            print(tally.line, file=sys.stderr, flush=True)

    return listen


@contextmanager
def _live(tally: Tally, titles: Callable[[str], str]) -> Iterator[Listener]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    failures: list[str] = []
    since: dict[str, float] = {}

    def picture() -> Group:
        table = Table(box=None, show_header=False, padding=(0, 2))
        for key in sorted(tally.running, key=lambda key: since.get(key, 0.0)):
            table.add_row(duration(tally.seconds - since.get(key, 0.0)), titles(key))
        return Group(Text(tally.line), table, *(Text(line, style="red") for line in failures[-5:]))

    with Live(get_renderable=picture, console=Console(stderr=True), refresh_per_second=4):

        def listen(event: Event) -> None:
            tally.count(event)
            if event.state is State.STARTED:
                since[event.key] = tally.seconds
            elif event.state in (State.FAILED, State.LOST):
                failures.append(f"{event.state.value}: {titles(event.key)}: {event.detail}")

        yield listen


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = int(seconds + 0.5)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _rate(rate: float) -> str:
    return f"{rate:.1f} runs/s" if rate >= 1 else f"{1 / rate:.1f} s/run"
