"""Publish a file exactly once: the first one is there, whole and durable, and nobody replaces it.

The bytes are written beside the store's runs and synced; a hard link then gives them their name, which fails where the
name is taken. Nothing else is needed for exactly-once: not locks, not clocks, and not that anyone ends in good order. A
process that dies leaves at most a temporary file, which ``sweep`` removes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from samplers.errors import BadInput

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP}
"""What file systems without hard links answer."""

_NO_REPLACE = 1
"""Flag of renameat2."""

SUFFIX = ".tmp"


def publish_once(path: Path, content: bytes, temporary: Path) -> bool:
    """Put ``content`` at ``path`` unless something is there; whether this call did it.

    Args:
        path: the file, whose folder exists.
        content: all of it.
        temporary: folder for the unfinished file, on the same file system.

    Raises:
        BadInput: the disk refuses it; nothing is at ``path`` then, or all of it is.
    """
    return _publish(path, content, temporary, _name)


def replace_with(path: Path, content: bytes, temporary: Path) -> None:
    """Put ``content`` at ``path`` whatever is there; readers see the old file or the new one, whole.

    Raises:
        BadInput: the disk refuses it; ``path`` is as it was, or new.
    """

    def rename(unfinished: Path, path: Path) -> bool:
        os.replace(unfinished, path)
        return True

    _publish(path, content, temporary, rename)


def _publish(path: Path, content: bytes, temporary: Path, put: Callable[[Path, Path], bool]) -> bool:
    try:
        while True:
            unfinished = temporary / f"{path.stem[:16]}-{uuid.uuid4().hex}{SUFFIX}"
            try:
                _write(unfinished, content)
                published = put(unfinished, path)
            except FileNotFoundError:
                if temporary.is_dir() and path.parent.is_dir():
                    continue  # swept away while it was being written
                raise
            finally:
                with suppress(OSError):  # what cannot be removed now is an orphan, for ``sweep``
                    os.unlink(unfinished)
            sync_folder(path.parent)
            return published
    except OSError as error:
        raise BadInput(
            "a store must take another file", got=f"{path} ({error.strerror})",
            fix="make room or use another disk; what was published is safe",
        ) from None  # fmt: skip


def sweep(temporary: Path) -> int:
    """Remove what processes that died left behind; how many files.

    A file that is being written is locked, and stays; where locks do not work its writer notices, and writes again.
    """
    removed = 0
    for entry in os.scandir(temporary):
        if not entry.name.endswith(SUFFIX) or not entry.is_file(follow_symlinks=False):
            continue
        with suppress(OSError):
            handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)
                removed += 1
            finally:
                os.close(handle)
    return removed


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    """A new file with this content, synced; locked as long as it is being written."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _name(unfinished: Path, path: Path) -> bool:
    """Give the finished file its name unless that is taken; whether it has it."""
    try:
        os.link(unfinished, path, follow_symlinks=False)
    except FileExistsError:
        # a network file system may repeat a link whose answer was lost, and find its own
        with suppress(FileNotFoundError):
            return os.path.samestat(os.lstat(unfinished), os.lstat(path))
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_once(unfinished, path)
    return True


def _rename_once(unfinished: Path, path: Path) -> bool:
    """Rename unless the name is taken, by the kernel's own exclusive rename."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here = -100  # AT_FDCWD
    if rename is not None and rename(here, os.fsencode(unfinished), here, os.fsencode(path), _NO_REPLACE) == 0:
        return True
    failed = errno.ENOSYS if rename is None else ctypes.get_errno()
    if failed == errno.EEXIST:
        return False
    raise OSError(failed, f"neither hard links nor an exclusive rename: {os.strerror(failed)}")
