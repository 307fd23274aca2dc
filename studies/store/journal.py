"""What happened in a store, when, where and for how long: lines beside the runs, never inside them.

Every process appends to a file of its own, a line per event in one write; a line that a kill cut off is passed over.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


class Journal:
    """One process's lines.

    Args:
        folder: the store's folder of journals; the file is made with the first line.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"

    def note(self, event: str, key: str, **facts: Any) -> None:
        """Append a line. A journal that cannot be written stops nothing."""
        line = {"event": event, "key": key, "time": round(time.time(), 3), "process": self._path.stem, **facts}
        with suppress(OSError):
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
            try:
                os.write(handle, json.dumps(line, sort_keys=True).encode() + b"\n")
            finally:
                os.close(handle)


def events(folder: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of every process, file by file."""
    for path in sorted(folder.glob("*.jsonl")):
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                with suppress(ValueError):
                    found = json.loads(line)
                    if isinstance(found, dict) and isinstance(found.get("key"), str):
                        yield found
