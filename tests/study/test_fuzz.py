"""Claim: whatever study files, run files, store folders and command lines hold, it is used or refused in one line.

And nothing outside the store is touched. About 2000 cases by default, 100 000 under ``-m slow``.
"""

from __future__ import annotations

import shutil
import string
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers.errors import BadInput
from studies import cli
from studies.store.exclusive import publish_once
from studies.store.files import read
from studies.store.merging import merge
from studies.store.register import register
from studies.store.sealed import seal
from studies.store.store import FOLDERS, Store
from studies.store.tidying import collect
from studies.store.verification import verify
from studies.study.file import read_study
from studies.study.status import standings
from studies.study.study import FIELDS, Axis, Study

MANY = 25_000
KEYS = tuple(f"{i:064x}" for i in range(3))
STUDY = Study("fuzzed", fixed={"scheme": "w8a8"}, axes=(Axis({"seed": (0, 1, 2)}),))
Case = Callable[..., None]


def refused(act: Callable[[], object]) -> None:
    """The act succeeds, or says in one line why not."""
    try:
        act()
    except BadInput as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said


def both(strategy: st.SearchStrategy, check: Case, cases: int) -> tuple[Case, Case]:
    """The same property on some cases, and on many as a slow test."""

    def few(case: object) -> None:
        check(case)

    def many(case: object) -> None:
        check(case)

    return (
        settings(max_examples=cases)(given(strategy)(few)),
        pytest.mark.slow(settings(max_examples=MANY)(given(strategy)(many))),
    )


SCALARS = st.one_of(
    st.integers(-3, 2**70), st.floats(), st.booleans(), st.text(max_size=6), st.sampled_from(["w8a8", "ddim", "minmax"])
)
NAMES = st.one_of(st.sampled_from([*FIELDS, "name", "include", "run", "grid", "zip", "figures"]), st.text(max_size=8))


def spelled(value: object) -> str:
    """As TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(spelled, value))}]"
    if isinstance(value, str):
        kept = "".join(c for c in value if c.isprintable() and c not in '"\\')
        return f'"{kept}"'
    return repr(value)


TABLES = st.lists(st.tuples(NAMES, st.one_of(SCALARS, st.lists(SCALARS, max_size=3))), max_size=5)
FILES = st.one_of(
    st.text(max_size=60).map(str.encode),
    st.binary(max_size=60),
    st.lists(st.tuples(st.sampled_from(["", "[run]", "[grid]", "[[zip]]", "[x]"]), TABLES), max_size=4).map(
        lambda parts: "\n".join(
            "\n".join([head, *(f"{spelled(name)} = {spelled(value)}" for name, value in table)])
            for head, table in parts
        ).encode()
    ),
)


def study_file(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.toml"
        path.write_bytes(content)

        def act() -> None:
            study = read_study(path)
            if len(study) < 50:
                list(study.specs())

        refused(act)


def run_file(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, stored in enumerate((content, seal(content))):
            path = Path(folder) / f"{number}.nc"
            path.write_bytes(stored)
            refused(lambda path=path: read(path))


PLACES = [*FOLDERS, "store.json", *(f"runs/{key}.nc" for key in KEYS), *(f"{name}/x" for name in FOLDERS)]
PLACES += [f"{name}/{KEYS[0]}" for name in ("shared", "claims", "studies")] + [f"failures/{KEYS[0]}.json"]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(PLACES), st.sampled_from(["gone", "file", "sealed", "folder", "link"]), st.binary(max_size=30)
    ),
    max_size=4,
)


def change(place: Path, how: str, content: bytes, outside: Path) -> None:
    """Put something else where a store has a file or folder."""
    if not place.parent.is_dir():
        return
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    if how == "gone":
        return
    if how == "folder":
        place.mkdir()
    elif how == "link":
        place.symlink_to(outside)
    else:
        place.write_bytes(seal(content) if how == "sealed" else content)


def store_folder(changes: list[tuple[str, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outside, path = Path(folder) / "outside", Path(folder) / "store"
        outside.mkdir()
        (outside / "precious").write_text("mine")
        store = Store.create(path)
        register(store, STUDY.config(), KEYS)
        publish_once(store.run(KEYS[0]), seal(b"a run"), store.temporary)
        for place, how, content in changes:
            if (path / place).parent.resolve().is_relative_to(path.resolve()):
                change(path / place, how, content, outside)
        refused(lambda: standings(Store.open(path)))
        refused(lambda: list(verify(Store.open(path))))
        refused(lambda: merge(Store.open(path), Path(folder) / "merged"))
        refused(lambda: collect(Store.open(path), shared=True, damaged=True, orphans=True))
        refused(lambda: Store.create(path))
        assert [(p.name, p.read_text()) for p in outside.iterdir()] == [("precious", "mine")]


WORDS = st.one_of(
    st.sampled_from(
        [
            "study", "store", "run", "check", "status", "resume", "verify", "merge", "export", "gc", "--store", "--set",
            "--workers", "--json", "--output", "--study", "--rows", "--damaged", "--no-probe", "seed=1", "/", "..", ".",
            "0",
        ]
    ),
    st.text(string.printable, max_size=6),
)  # fmt: skip
LINES = st.tuples(st.sampled_from(["study", "store", "plot", "table", "report"]), st.lists(WORDS, max_size=5))


def command_line(line: tuple[str, list[str]]) -> None:
    command, words = line
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["qnoise", command, *words])
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.main()
        asked_for_help = "Usage" in out.getvalue()
        assert ended.value.code == 2 or (asked_for_help and not ended.value.code), (line, out.getvalue())
        assert "Traceback" not in err.getvalue()


test_study_file__is_read_or_refused, test_study_file__is_read_or_refused_many = both(FILES, study_file, 900)
test_run_file__is_read_or_refused, test_run_file__is_read_or_refused_many = both(st.binary(max_size=400), run_file, 700)
test_store_folder__is_used_or_refused, test_store_folder__is_used_or_refused_many = both(CHANGES, store_folder, 300)
test_command_line__does_nothing_else, test_command_line__does_nothing_else_many = both(LINES, command_line, 100)
