"""Claim: a claim is one process's at a time, goes with its process, and where locks fail everybody is let through."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from studies.store import claims
from studies.store.claims import NO_LOCKS, claim, is_claimed


def test_claim__is_held_once_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with claim(path) as held:
        assert held
        assert is_claimed(path)
        with claim(path) as second:
            assert not second
        assert is_claimed(path)
    assert not is_claimed(path)
    assert not path.exists()


def test_claim__goes_with_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "key"
    told, tell = os.pipe()
    if not (child := os.fork()):
        with claim(path):
            os.write(tell, b"x")
            signal.pause()
        os._exit(0)
    os.read(told, 1)
    assert is_claimed(path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not is_claimed(path)
    with claim(path) as held:
        assert held


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_claim__lets_everybody_through_where_locks_do_not_work(tmp_path: Path, monkeypatch, code: int) -> None:
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(claims.fcntl, "flock", refuse)
    with claim(tmp_path / "key") as first, claim(tmp_path / "key") as second:
        assert first
        assert second


def test_claim__lets_everybody_through_where_locks_are_switched_off(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(NO_LOCKS, "1")
    with claim(tmp_path / "key") as first, claim(tmp_path / "key") as second:
        assert first
        assert second


def test_claim__lets_through_where_its_file_cannot_be_made(tmp_path: Path) -> None:
    with claim(tmp_path / "none" / "key") as held:
        assert held


def test_is_claimed__follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "key").symlink_to(tmp_path / "target")
    with claim(tmp_path / "target"):
        assert not is_claimed(tmp_path / "key")
