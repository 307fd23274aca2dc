"""Which runs were made by other code or libraries than those that are here now."""

from __future__ import annotations

from collections.abc import Iterable

from simulator.provenance import environment
from studies.store.images import attributes
from studies.store.sealed import read_file, unseal
from studies.store.store import Store


def stale(store: Store, keys: Iterable[str]) -> set[str]:
    """The keys, of finished runs, whose files say another environment than this one.

    Raises:
        BadInput: a file is damaged.
    """
    here = environment()
    return {key for key in keys if differing(store, key, here)}


def differing(store: Store, key: str, here: dict[str, str]) -> dict[str, tuple[str, str]]:
    """What a run's file says of its environment and what is so here, where the two differ."""
    path = store.run(key)
    found = attributes(unseal(read_file(path), path))
    return {name: (found.get(name, ""), value) for name, value in here.items() if found.get(name, "") != value}
