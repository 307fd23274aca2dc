"""What several runs are made from, computed once for a store: ranges, full precision's outputs, calibration runs."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from samplers.errors import BadInput
from studies.store.claims import claim
from studies.store.exclusive import publish_once
from studies.store.sealed import read_file, seal, unseal
from studies.store.store import Store

Made = TypeVar("Made")

KEPT = 8
"""Values that a process keeps in memory."""

WAIT_SECONDS = 0.05
"""Between two looks at what another process is making."""


@dataclass
class Shared:
    """Values by key: in this process's memory, else in the store, else made now and put there.

    Two processes that need one value make it once: the second waits, unless locks do not work. A damaged file is made
    again.

    Args:
        store: None keeps values in memory only.
        made: names of what was made here, one entry each, in order.
    """

    store: Store | None
    made: list[str] = field(default_factory=list)
    _memory: OrderedDict[str, Any] = field(default_factory=OrderedDict)

    def obtain(
        self,
        name: str,
        key: str,
        make: Callable[[], Made],
        encode: Callable[[Made], bytes],
        decode: Callable[[bytes], Made],
    ) -> Made:
        """The value of ``key``.

        Args:
            name: what it is, for ``made``.
            key: SHA-256 of all that determines it.
            make: computes it.
            encode: its bytes.
            decode: the value of such bytes, to the last bit.

        Raises:
            BadInput: the disk refuses it.
        """
        if key not in self._memory:
            self._memory[key] = self._found_or_made(name, key, make, encode, decode)
        self._memory.move_to_end(key)
        while len(self._memory) > KEPT:
            self._memory.popitem(last=False)
        value: Made = self._memory[key]
        return value

    def _found_or_made(
        self,
        name: str,
        key: str,
        make: Callable[[], Made],
        encode: Callable[[Made], bytes],
        decode: Callable[[bytes], Made],
    ) -> Made:
        if self.store is None:
            self.made.append(name)
            return make()
        path = self.store.shared(key)
        while True:
            if path.exists():
                try:
                    return decode(unseal(read_file(path), path))
                except BadInput:
                    with suppress(FileNotFoundError):
                        path.unlink()
            with claim(self.store.claim(key)) as held:
                if held and not path.exists():
                    value = make()
                    self.made.append(name)
                    publish_once(path, seal(encode(value)), self.store.temporary)
                    return value
            if not held:
                time.sleep(WAIT_SECONDS)
