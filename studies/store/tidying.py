"""``qnoise store gc``: remove what no study needs, and what is damaged so that it is computed again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from studies.store.claims import is_claimed
from studies.store.exclusive import sweep
from studies.store.register import registered
from studies.store.store import Store
from studies.store.verification import verify


@dataclass(frozen=True)
class Removed:
    """How many files went.

    Args:
        temporary: that processes which died left.
        claims: that nobody holds.
        shared: made again when a run needs them.
        damaged: runs and shared files.
        orphans: runs that no study of the store asks for.
    """

    temporary: int
    claims: int
    shared: int
    damaged: int
    orphans: int


def collect(store: Store, *, shared: bool, damaged: bool, orphans: bool) -> Removed:
    """Remove leftovers; and on request shared files, damaged ones, and runs that no study asks for.

    Links are removed themselves, never what they point to.

    Raises:
        BadInput: an entry of the store's studies is damaged, so that nobody can say what they ask for.
    """
    broken = [found.path for found in verify(store) if found is not None] if damaged else []
    wanted = {key for entry in registered(store) for key in entry.keys} if orphans else set()
    unasked = [store.run(key) for key in store.keys() - wanted] if orphans else []
    claims = [path for path in (store.path / "claims").iterdir() if not is_claimed(path)]
    return Removed(
        temporary=sweep(store.temporary),
        claims=_unlink(claims),
        shared=_unlink(list((store.path / "shared").iterdir())) if shared else 0,
        damaged=_unlink(broken),
        orphans=_unlink(unasked),
    )


def _unlink(paths: list[Path]) -> int:
    removed = 0
    for path in paths:
        with suppress(OSError):
            path.unlink()
            removed += 1
    return removed
