"""Whether every file of a store is what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from samplers.errors import BadInput
from studies.store.images import attributes
from studies.store.register import read_entry
from studies.store.sealed import read_file, unseal
from studies.store.store import SUFFIX, Store, require_key


@dataclass(frozen=True)
class Finding:
    """A file that is not what it should be.

    Args:
        path: the file.
        problem: one line.
    """

    path: Path
    problem: str


def verify(store: Store) -> Iterator[Finding | None]:
    """Look at every run, shared file and entry; None for each that is sound.

    A run is sound if its digest is that of its bytes, and its name that of the configuration inside.
    """
    for path in sorted((store.path / "runs").iterdir()):
        yield _finding(path, _check_run)
    for path in sorted((store.path / "shared").iterdir()):
        yield _finding(path, _check_shared)
    for path in sorted((store.path / "studies").iterdir()):
        yield _finding(path, read_entry)


def _finding(path: Path, check: Callable[[Path], object]) -> Finding | None:
    try:
        check(path)
    except BadInput as error:
        return Finding(path, str(error))
    return None


def _check_run(path: Path) -> None:
    if not path.name.endswith(SUFFIX):
        raise BadInput("runs must hold runs alone", got=path.name, fix="move it away")
    key = require_key(path.name.removesuffix(SUFFIX))
    found = attributes(unseal(read_file(path), path))
    config = found.get("study_config", "")
    if hashlib.sha256(config.encode()).hexdigest() != key:
        raise BadInput("a run's name must be the digest of its configuration", got=str(path), fix="move it away")


def _check_shared(path: Path) -> None:
    require_key(path.name)
    unseal(read_file(path), path)
