"""Claim: a store holds what was published and nothing else is taken for it, and no path leaves it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from samplers.errors import BadInput
from studies.store.journal import Journal, events
from studies.store.register import registered
from studies.store.store import FOLDERS, Store

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def test_create__makes_a_store_that_opens_and_is_found_again(store: Store) -> None:
    assert Store.open(store.path) == store == Store.create(store.path)
    assert store.keys() == store.failed() == set()


def test_create__finishes_what_a_kill_left(tmp_path: Path) -> None:
    for name in FOLDERS[:3]:
        (tmp_path / name).mkdir()
    (tmp_path / "temporary").mkdir()
    assert Store.create(tmp_path).keys() == set()


def test_create__refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(BadInput, match="empty folder"):
        Store.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 2}', '{"format": true}', "[" * 100000])
def test_open__refuses_another_format(store: Store, content: str) -> None:
    (store.path / "store.json").write_text(content)
    with pytest.raises(BadInput, match="format"):
        Store.open(store.path)


@pytest.mark.parametrize("name", FOLDERS)
def test_open__refuses_a_link_or_nothing_in_place_of_a_folder(store: Store, tmp_path: Path, name: str) -> None:
    (store.path / name).rmdir()
    with pytest.raises(BadInput, match="folders"):
        Store.open(store.path)
    (tmp_path / "elsewhere").mkdir()
    (store.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="folders"):
        Store.open(store.path)


def test_open__says_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="study run"):
        Store.open(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_writable__refuses_a_store_that_cannot_be_written(store: Store) -> None:
    store.temporary.chmod(0o500)
    with pytest.raises(BadInput, match="writable"):
        store.writable()


@pytest.mark.parametrize(
    "key", ["", "ab", "../" * 20 + "x", "/etc/passwd", KEY.upper(), KEY + "\n", f"{KEY}/", 3, None]
)
def test_paths__are_made_of_keys_alone(store: Store, key) -> None:
    for path in (store.run, store.shared, store.claim, store.failure):
        with pytest.raises(BadInput, match="64 hexadecimal"):
            path(key)


def test_publish__keeps_the_first_and_forgets_the_failure(store: Store) -> None:
    store.note_failure(KEY, {"error": "first"})
    store.note_failure(KEY, {"error": "second"})
    assert store.failed() == {KEY}
    assert store.failure_of(KEY) == {"error": "second"}
    assert store.publish(KEY, b"content")
    assert not store.publish(KEY, b"other")
    assert store.keys() == {KEY}
    assert store.failed() == set()
    assert store.run(KEY).read_bytes() == b"content"
    assert store.publish(KEY, b"new", again=True)
    assert store.run(KEY).read_bytes() == b"new"


def test_keys__pass_over_what_is_no_run(store: Store) -> None:
    for name in ("x.nc", f"{KEY}.nc.tmp", f"{KEY}", f".{KEY}.nc"):
        (store.path / "runs" / name).write_bytes(b"")
    assert store.keys() == set()


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100000, "\udcff"])
def test_failure_of__survives_a_damaged_file(store: Store, content: str) -> None:
    store.failure(KEY).write_text(content, errors="surrogateescape")
    assert store.failure_of(KEY) is None


def test_registered__gives_back_each_study_once(filled, study) -> None:
    store, _, runs = filled(study)
    filled(study)
    (entry,) = registered(store)
    assert entry.study == json.loads(json.dumps(study.config()))
    assert entry.keys == tuple(runs)


def test_registered__refuses_a_changed_entry(filled, study) -> None:
    store, _, _ = filled(study)
    (path,) = (store.path / "studies").iterdir()
    path.write_bytes(path.read_bytes().replace(b"small", b"SMALL"))
    with pytest.raises(BadInput, match="digest"):
        list(registered(store))


def test_journal__keeps_whole_lines_and_passes_over_torn_ones(store: Store) -> None:
    journal = Journal(store.journal)
    journal.note("done", KEY, seconds=1.5)
    (path,) = store.journal.iterdir()
    with open(path, "ab") as file:
        file.write(b'{"event": "done", "ke')
    Journal(store.journal).note("failed", KEY)
    assert sorted(event["event"] for event in events(store.journal)) == ["done", "failed"]
