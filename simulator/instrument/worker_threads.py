"""Work that a network hands to other threads, where torch's modes do not reach.

The modes are thread-local, so nothing else would notice. ``Thread.start`` and ``ThreadPoolExecutor.submit`` are wrapped
while passes are audited; the wrappers act only on threads that run such a pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

Hear = Callable[[str], None]
"""Called with the name of the function that would hand work over; raises to refuse."""

_WRAPPED: tuple[tuple[Any, str], ...] = ((threading.Thread, "start"), (ThreadPoolExecutor, "submit"))
_lock = threading.Lock()
_passes = 0
_originals: dict[tuple[Any, str], Callable[..., Any]] = {}
_here = threading.local()


@contextmanager
def hearing_of_threads(hear: Hear) -> Iterator[None]:
    """Call ``hear`` before this thread hands work to another."""
    before = getattr(_here, "hear", None)
    _here.hear = hear
    _count(1)
    try:
        yield
    finally:
        _count(-1)
        _here.hear = before


def _count(change: int) -> None:
    """Wrap at the first pass of all threads, restore after the last."""
    global _passes
    with _lock:
        _passes += change
        if change > 0 and _passes == 1:
            for owner, name in _WRAPPED:
                _originals[owner, name] = getattr(owner, name)
                setattr(owner, name, _wrapper(owner, name, _originals[owner, name]))
        elif _passes == 0:
            for (owner, name), original in _originals.items():
                setattr(owner, name, original)


def _wrapper(owner: Any, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        hear = getattr(_here, "hear", None)
        if hear is None:
            return original(*args, **kwargs)
        hear(f"{owner.__name__}.{name}")
        _here.hear = None  # a pool starts threads of its own: one piece of work, heard of once
        try:
            return original(*args, **kwargs)
        finally:
            _here.hear = hear

    return call
