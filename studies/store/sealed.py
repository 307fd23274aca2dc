"""Bytes with a digest behind them, so that any damage is noticed.

The trailer is 40 bytes: the magic ``QNOISE1\\n`` and the SHA-256 of all bytes before it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from samplers.errors import BadInput

MAGIC = b"QNOISE1\n"
TRAILER = len(MAGIC) + 32


def seal(content: bytes) -> bytes:
    """The content and its trailer."""
    return content + MAGIC + hashlib.sha256(content).digest()


def is_sealed(content: bytes) -> bool:
    """Whether the content is followed by its trailer."""
    with memoryview(content) as view:
        return bytes(view[-TRAILER:]) == MAGIC + hashlib.sha256(view[:-TRAILER]).digest()


def unseal(content: bytes, path: Path) -> bytes:
    """The content without its trailer; ``path`` is for the message.

    Raises:
        BadInput: it is truncated, changed, or was never sealed.
    """
    if not is_sealed(content):
        raise BadInput(
            "a run's file must end in the digest of its bytes",
            got=f"{path} ({len(content)} bytes)",
            fix="it is damaged: move it away and run again",
        )
    return content[:-TRAILER]


def read_file(path: Path) -> bytes:
    """All bytes of a file that is no link.

    Raises:
        BadInput: it is a link, or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with open(handle, "rb") as file:
            return file.read()
    except OSError as error:
        raise BadInput(
            "a stored file must be readable, and no link", got=f"{path} ({error.strerror})", fix="move it away"
        ) from None
