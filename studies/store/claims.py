"""Claims on runs, so that two workers do not do one work. They save work and nothing else.

A claim is an advisory lock on a file, which the system drops when its process ends. Where locks do not work, or
``QNOISE_NO_LOCKS`` is set (for network file systems on which they hang), every claim is granted: a run may then be
computed twice, and is published once all the same (``studies.store.exclusive``).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NO_LOCKS = "QNOISE_NO_LOCKS"


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold a claim for the time of the block; whether it is held, or somebody else has it.

    The file goes with the claim. Whoever is given it must look again whether the run is there by now.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError:
        yield True
        return
    try:
        held = _lock(handle)
        yield held
        if held:
            with suppress(OSError):
                os.unlink(path)
    finally:
        os.close(handle)


def is_claimed(path: Path) -> bool:
    """Whether some process holds it now."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    if os.environ.get(NO_LOCKS):
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
