"""A results folder is complete or absent, and never replaced."""

from __future__ import annotations

import os

import pytest

from samplers.errors import BadInput
from studies.results import AlreadyThere, publishing, require_writable


def test_publishing__shows_the_folder_only_when_it_is_complete(tmp_path) -> None:
    folder = tmp_path / "done"
    with publishing(folder) as temporary:
        (temporary / "a").write_text("1")
        assert not folder.exists()
    assert (folder / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_publishing__leaves_nothing_behind_on_failure(tmp_path, failure: type[BaseException]) -> None:
    def fail() -> None:
        with publishing(tmp_path / "done") as temporary:
            (temporary / "a").write_text("1")
            raise failure

    with pytest.raises(failure):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_publishing__never_replaces_results(tmp_path) -> None:
    folder = tmp_path / "done"
    folder.mkdir()
    (folder / "kept").write_text("1")

    def publish() -> None:
        with publishing(folder) as temporary:
            (temporary / "a").write_text("2")

    with pytest.raises(AlreadyThere, match="never overwritten"):
        publish()
    assert [path.name for path in folder.iterdir()] == ["kept"]
    assert list(tmp_path.iterdir()) == [folder]


def test_require_writable__refuses_a_file_in_the_way(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="must be writable"):
        require_writable(tmp_path / "file" / "results")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_require_writable__refuses_a_read_only_folder(tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="must be writable"):
        require_writable(tmp_path / "results")
