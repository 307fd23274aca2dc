"""Claim: a file is published once, whole or not at all, whatever fails or dies on the way, and leftovers are swept."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from samplers.errors import BadInput
from studies.store import exclusive
from studies.store.exclusive import publish_once, replace_with, sweep

CONTENT = bytes(range(256)) * 40
CALLS = ("open", "write", "fsync", "close", "link", "unlink")
MOST_CALLS = 6
"""More calls of one kind than a publish makes."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("runs", "temporary"):
        (tmp_path / name).mkdir()
    return tmp_path


def publish(folder: Path, content: bytes = CONTENT) -> bool:
    return publish_once(folder / "runs" / "run.nc", content, folder / "temporary")


def state(folder: Path) -> bytes | None:
    path = folder / "runs" / "run.nc"
    return path.read_bytes() if path.exists() else None


def at_call(monkeypatch, name: str, number: int, act: Callable[[Callable, tuple, dict], object]) -> list[int]:
    """Let the ``number``-th call of os.NAME go through ``act``; the list grows with every call."""
    real, seen = getattr(os, name), list[int]()

    def call(*args, **options):
        seen.append(len(seen))
        return act(real, args, options) if len(seen) == number else real(*args, **options)

    monkeypatch.setattr(exclusive.os, name, call)
    return seen


def test_publish_once__puts_the_bytes_there_and_nothing_else(folder: Path) -> None:
    assert publish(folder)
    assert state(folder) == CONTENT
    assert not list((folder / "temporary").iterdir())


def test_publish_once__never_replaces(folder: Path) -> None:
    assert publish(folder)
    assert not publish(folder, b"other")
    assert state(folder) == CONTENT
    assert not list((folder / "temporary").iterdir())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", CALLS)
def test_publish_once__survives_a_fault_at_every_call(folder: Path, monkeypatch, name: str, code: int) -> None:
    reached = 0
    for number in range(1, MOST_CALLS):
        with monkeypatch.context() as patch:

            def fail(real, args, options):
                raise OSError(code, os.strerror(code))

            seen = at_call(patch, name, number, fail)
            try:
                outcome: object = publish(folder)
            except BadInput as error:
                outcome = error
        if len(seen) < number:
            break
        reached += 1
        assert state(folder) in (None, CONTENT)
        if isinstance(outcome, BadInput):
            assert os.strerror(code) in str(outcome)
        else:
            assert state(folder) == CONTENT  # what failed came after
        publish(folder)
        assert state(folder) == CONTENT
        sweep(folder / "temporary")
        assert not list((folder / "temporary").iterdir())
        (folder / "runs" / "run.nc").unlink()
    assert reached


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", CALLS)
def test_publish_once__survives_death_at_every_call(folder: Path, monkeypatch, name: str, after: bool) -> None:
    reached = 0
    for number in range(1, MOST_CALLS):
        if not (child := os.fork()):
            try:

                def die(real, args, options):
                    if after:
                        real(*args, **options)
                    os._exit(7)

                at_call(monkeypatch, name, number, die)
                publish(folder)
            finally:
                os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            break
        reached += 1
        assert state(folder) in (None, CONTENT)
        publish(folder)
        assert state(folder) == CONTENT
        sweep(folder / "temporary")
        assert not list((folder / "temporary").iterdir())
        (folder / "runs" / "run.nc").unlink()
    assert reached


def test_publish_once__writes_all_where_the_system_writes_less(folder: Path, monkeypatch) -> None:
    real = os.write
    monkeypatch.setattr(exclusive.os, "write", lambda handle, content: real(handle, content[:1000]))
    assert publish(folder)
    assert state(folder) == CONTENT


def test_publish_once__syncs_the_file_before_it_has_a_name_and_the_folder_after(folder: Path, monkeypatch) -> None:
    order = []
    for name in ("fsync", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(
            exclusive.os, name, lambda *a, name=name, real=real, **k: (order.append(name), real(*a, **k))[1]
        )
    publish(folder)
    assert order == ["fsync", "link", "fsync"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_publish_once__renames_exclusively_where_there_are_no_hard_links(folder: Path, monkeypatch, code: int) -> None:
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(exclusive.os, "link", refuse)
    assert publish(folder)
    assert not publish(folder, b"other")
    assert state(folder) == CONTENT
    assert not list((folder / "temporary").iterdir())


def test_publish_once__says_so_where_nothing_is_exclusive(folder: Path, monkeypatch) -> None:
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(exclusive.os, "link", refuse)
    monkeypatch.setattr(exclusive.ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(BadInput, match="neither hard links nor an exclusive rename"):
        publish(folder)
    assert state(folder) is None


def test_publish_once__knows_its_own_link_again_if_the_answer_was_lost(folder: Path, monkeypatch) -> None:
    real = os.link

    def lose(*args, **options):
        real(*args, **options)
        raise FileExistsError(errno.EEXIST, "repeated by the network")

    monkeypatch.setattr(exclusive.os, "link", lose)
    assert publish(folder)


def test_publish_once__writes_again_if_its_file_was_swept_away(folder: Path, monkeypatch) -> None:
    def steal(real, args, options):
        os.unlink(args[0])
        return real(*args, **options)

    at_call(monkeypatch, "link", 1, steal)
    assert publish(folder)
    assert state(folder) == CONTENT


def test_publish_once__lets_one_of_many_threads_through(folder: Path) -> None:
    outcomes = []
    start = threading.Barrier(8)

    def race(number: int) -> None:
        start.wait()
        outcomes.append((publish(folder, bytes([number]) * 1000), number))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for won, number in outcomes if won]
    assert state(folder) == bytes([winner]) * 1000


def test_publish_once__refuses_a_folder_that_is_gone(folder: Path) -> None:
    (folder / "runs").rmdir()
    with pytest.raises(BadInput, match="must take another file"):
        publish(folder)


def test_replace_with__leaves_the_old_file_where_the_disk_is_full(folder: Path, monkeypatch) -> None:
    publish(folder)

    def fail(*_):
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(exclusive.os, "write", fail)
        with pytest.raises(BadInput, match="no space"):
            replace_with(folder / "runs" / "run.nc", b"new", folder / "temporary")
    assert state(folder) == CONTENT
    replace_with(folder / "runs" / "run.nc", b"new", folder / "temporary")
    assert state(folder) == b"new"


def test_sweep__leaves_what_is_being_written_and_what_is_no_temporary_file(folder: Path) -> None:
    temporary = folder / "temporary"
    for name in ("left.tmp", "held.tmp", "other"):
        (temporary / name).write_bytes(b"x")
    (temporary / "link.tmp").symlink_to(folder / "runs")
    with open(temporary / "held.tmp", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sweep(temporary) == 1
    assert {path.name for path in temporary.iterdir()} == {"held.tmp", "other", "link.tmp"}
