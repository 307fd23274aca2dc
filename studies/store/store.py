"""A store: the folder in which the runs of studies lie, one content-addressed file each.

    runs/KEY.nc          a finished run; KEY is the SHA-256 of its canonical configuration
    shared/KEY           what several runs are made from: ranges, full precision's trajectory
    studies/NAME-KEY     what was asked for: a study, and the keys of its runs in order
    failures/KEY.json    why a run failed, last time
    claims/KEY           held by whoever computes the run now
    journal/*.jsonl      when, where, how long
    temporary/           unfinished files

Files under ``runs`` are the truth; everything else can be lost.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from studies.store.exclusive import publish_once, replace_with

FORMAT = 1
"""Raised when a store of before cannot be gone on with."""

STORE_FILE = "store.json"
SUFFIX = ".nc"
FOLDERS = ("runs", "shared", "studies", "failures", "claims", "journal", "temporary")
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Store:
    """An existing store.

    Args:
        path: its folder.
    """

    path: Path

    @classmethod
    def open(cls, path: Path) -> Store:
        """The store at ``path``.

        Raises:
            BadInput: there is none, it is of another version, or one of its folders is a link or missing.
        """
        try:
            found = json.loads((path / STORE_FILE).read_text(encoding="utf-8"))["format"]
        except OSError as error:
            raise BadInput(
                "a store must be a folder that qnoise study run made", got=f"{path} ({error.strerror})",
                fix="name it, or make one",
            ) from None  # fmt: skip
        except (ValueError, LookupError, TypeError, RecursionError):
            raise BadInput(
                f"a store's {STORE_FILE} must say its format", got=str(path), fix="restore it from a sound store"
            ) from None
        if found != FORMAT or isinstance(found, bool):
            raise BadInput(
                f"a store must be of format {FORMAT}", got=f"{found!r} at {path}", fix="use the qnoise that made it"
            )
        for name in FOLDERS:
            if not (path / name).is_dir() or (path / name).is_symlink():
                raise BadInput(
                    "a store's folders must be folders, and no links", got=str(path / name),
                    fix="put them back; an empty one will do",
                )  # fmt: skip
        return cls(path)

    @classmethod
    def create(cls, path: Path) -> Store:
        """The store at ``path``, made where there is none.

        Raises:
            BadInput: it cannot be written, is a folder of something else, or as :meth:`open`.
        """
        try:
            if not (path / STORE_FILE).exists():
                if path.is_dir() and any(path.iterdir()) and not (path / "temporary").is_dir():
                    raise BadInput("a new store needs an empty folder", got=str(path), fix="name another")
                for name in FOLDERS:
                    (path / name).mkdir(parents=True, exist_ok=True)
                content = json.dumps({"format": FORMAT}).encode() + b"\n"
                publish_once(path / STORE_FILE, content, path / "temporary")
        except OSError as error:
            raise BadInput(
                "a store must be writable", got=f"{path} ({error.strerror})", fix="name another folder"
            ) from None
        return cls.open(path).writable()

    def writable(self) -> Store:
        """This, once it is known to take files.

        Raises:
            BadInput: it does not.
        """
        probe = self.path / "temporary" / f"probe-{os.getpid()}"
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise BadInput(
                "a store must be writable", got=f"{self.path} ({error.strerror})", fix="use another, or make room"
            ) from None
        return self

    def run(self, key: str) -> Path:
        """The file of a run."""
        return self.path / "runs" / f"{require_key(key)}{SUFFIX}"

    def shared(self, key: str) -> Path:
        """The file of something that several runs are made from."""
        return self.path / "shared" / require_key(key)

    def claim(self, key: str) -> Path:
        """The file whose lock is the claim on a key."""
        return self.path / "claims" / require_key(key)

    def failure(self, key: str) -> Path:
        """Why a run failed, if it did."""
        return self.path / "failures" / f"{require_key(key)}.json"

    @property
    def temporary(self) -> Path:
        """Folder of unfinished files."""
        return self.path / "temporary"

    @property
    def journal(self) -> Path:
        """Folder of journals."""
        return self.path / "journal"

    def keys(self) -> set[str]:
        """Keys of the finished runs, by the names of their files."""
        return set(_stems(self.path / "runs", SUFFIX))

    def failed(self) -> set[str]:
        """Keys of the runs that failed when last tried."""
        return set(_stems(self.path / "failures", ".json"))

    def publish(self, key: str, content: bytes, *, again: bool = False) -> bool:
        """Put a run's sealed bytes there, once; whether this call did.

        ``again`` puts them in place of what is there, whole as well: for a run of other code (``stale``).

        Raises:
            BadInput: the disk refuses it.
        """
        if again:
            replace_with(self.run(key), content, self.temporary)
            done = True
        else:
            done = publish_once(self.run(key), content, self.temporary)
        with suppress(OSError):
            self.failure(key).unlink(missing_ok=True)
        return done

    def note_failure(self, key: str, facts: dict[str, Any]) -> None:
        """Keep why a run failed, in place of an earlier failure; one that cannot be kept stops nothing."""
        path = self.failure(key)
        unfinished = self.temporary / f"{key[:16]}-{os.getpid()}.failure"
        with suppress(OSError):
            unfinished.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(unfinished, path)

    def failure_of(self, key: str) -> dict[str, Any] | None:
        """Why a run failed, if it did and that can be read."""
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(self.failure(key).read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else None
        return None


def require_key(key: str) -> str:
    """``key``, if it is one: nothing else becomes part of a path.

    Raises:
        BadInput: it is none.
    """
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise BadInput("a key must be 64 hexadecimal digits", got=repr(key), fix="use a key that the store gave")
    return key


def _stems(folder: Path, suffix: str) -> Iterator[str]:
    for entry in os.scandir(folder):
        stem = entry.name.removesuffix(suffix)
        if len(stem) < len(entry.name) and _KEY.fullmatch(stem):
            yield stem
