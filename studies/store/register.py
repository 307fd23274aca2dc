"""What was asked of a store: each study, with the keys of its runs in order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from studies.store.exclusive import publish_once
from studies.store.sealed import read_file, seal, unseal
from studies.store.store import Store, require_key


@dataclass(frozen=True)
class Entry:
    """A study that was run into a store.

    Args:
        study: its configuration.
        keys: of its runs, in order.
    """

    study: dict[str, Any]
    keys: tuple[str, ...]


def register(store: Store, study: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Note that a study is asked for; once, however often it is.

    Raises:
        BadInput: the disk refuses it.
    """
    content = json.dumps({"study": study, "keys": keys}, sort_keys=True).encode()
    name = f"{study['name']}-{hashlib.sha256(content).hexdigest()[:16]}"
    publish_once(store.path / "studies" / name, seal(content), store.temporary)


def registered(store: Store) -> Iterator[Entry]:
    """Every study of a store, by name.

    Raises:
        BadInput: an entry is damaged.
    """
    for path in sorted((store.path / "studies").iterdir()):
        yield read_entry(path)


def read_entry(path: Path) -> Entry:
    """The entry of a file.

    Raises:
        BadInput: it is damaged.
    """
    content = unseal(read_file(path), path)
    try:
        found = json.loads(content)
        return Entry(dict(found["study"]), tuple(require_key(key) for key in found["keys"]))
    except (ValueError, LookupError, TypeError, RecursionError):
        raise BadInput(
            "an entry of studies must hold a study and keys", got=str(path), fix="move it away; its runs stay"
        ) from None
