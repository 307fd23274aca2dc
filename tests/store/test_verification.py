"""Claim: every damaged file of a store is found, and tidying up makes room for computing it again."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from samplers.errors import BadInput
from studies.store.exclusive import publish_once
from studies.store.files import dataset_bytes
from studies.store.sealed import is_sealed, seal, unseal
from studies.store.tidying import collect
from studies.store.verification import verify


def damaged(store) -> list[str]:
    return [found.problem for found in verify(store) if found is not None]


def test_verify__finds_nothing_in_a_sound_store(filled, study) -> None:
    store, _, runs = filled(study)
    publish_once(store.shared("cd" * 32), seal(b"ranges"), store.temporary)
    assert damaged(store) == []
    assert len(list(verify(store))) == len(runs) + 2


def test_verify__finds_flipped_bits_and_truncations(filled, study) -> None:
    store, _, runs = filled(study)
    path = store.run(next(iter(runs)))
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for position in [0, len(content) - 1, *random.integers(0, len(content), 30)]:
        changed = bytearray(content)
        changed[position] ^= 1 << int(random.integers(8))
        path.write_bytes(changed)
        assert len(damaged(store)) == 1
    for size in (0, 1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert len(damaged(store)) == 1


@pytest.mark.slow
def test_is_sealed__finds_every_flipped_bit_and_every_truncation_of_a_run(filled, study) -> None:
    _, _, runs = filled(study)
    content = dataset_bytes(next(iter(runs.values())))
    assert is_sealed(content)
    changed = bytearray(content)
    for position in range(len(content)):
        for bit in range(8):
            changed[position] ^= 1 << bit
            assert not is_sealed(changed)
            changed[position] ^= 1 << bit
    for size in range(len(content)):
        assert not is_sealed(content[:size])


def test_verify__finds_a_run_under_anothers_name(filled, study) -> None:
    store, _, runs = filled(study)
    first, second, *_ = runs
    shutil.copy(store.run(first), store.run(second).with_name("swap"))
    (store.path / "runs" / "swap").rename(store.run(second))
    (problem,) = damaged(store)
    assert "digest of its configuration" in problem


def test_verify__finds_what_is_sealed_but_no_run_and_what_is_no_file(filled, study, tmp_path) -> None:
    store, _, _ = filled(study)
    publish_once(store.run("00" * 32), seal(b"not HDF5"), store.temporary)
    (store.path / "runs" / "notes.txt").write_text("")
    store.run("11" * 32).symlink_to("/etc/hostname")
    store.shared("22" * 32).mkdir()
    (store.path / "shared" / "x").write_bytes(seal(b""))
    assert len(damaged(store)) == 5


def test_collect__removes_leftovers_alone(filled, study) -> None:
    store, _, runs = filled(study)
    (store.temporary / "dead.tmp").write_bytes(b"half")
    store.claim("aa" * 32).write_bytes(b"")
    publish_once(store.shared("cd" * 32), seal(b"ranges"), store.temporary)
    found = collect(store, shared=False, damaged=False, orphans=False)
    assert (found.temporary, found.claims, found.shared, found.damaged, found.orphans) == (1, 1, 0, 0, 0)
    assert store.keys() == set(runs)
    assert collect(store, shared=True, damaged=False, orphans=False).shared == 1


def test_collect__removes_damaged_runs_links_and_orphans_on_request(filled, study, tmp_path) -> None:
    store, _, runs = filled(study)
    first, *rest = runs
    store.run(first).write_bytes(b"")
    target = tmp_path / "precious"
    target.write_text("mine")
    store.run("11" * 32).symlink_to(target)
    orphan = "ab" * 32
    publish_once(store.run(orphan), seal(b"other"), store.temporary)
    assert collect(store, shared=False, damaged=True, orphans=False).damaged == 3  # an image that is none, too
    assert store.keys() == set(rest)
    assert target.read_text() == "mine"
    publish_once(store.run(orphan), seal(b"other"), store.temporary)
    assert collect(store, shared=False, damaged=False, orphans=True).orphans == 1
    assert store.keys() == set(rest)


def test_unseal__needs_a_trailer(tmp_path) -> None:
    assert unseal(seal(b"content"), tmp_path) == b"content"
    with pytest.raises(BadInput, match="digest"):
        unseal(b"content", tmp_path)
