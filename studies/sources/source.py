"""What a path holds: a store's studies and runs, a results folder's runs, or one run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from studies.results import JOB_FILE
from studies.sources.run import Run, Scalar, clean, open_run
from studies.sources.selection import selected
from studies.store.register import Entry, registered
from studies.store.store import STORE_FILE, Store
from studies.study.study import Study


@dataclass(frozen=True)
class Failure:
    """A run that is not there.

    Args:
        key: of the run.
        title: what it was to be, as far as that is known.
        error: why it is not.
    """

    key: str
    title: str
    error: str


@dataclass(frozen=True)
class Part:
    """A study with its runs, or runs of no study.

    Args:
        name: of the study, else of the folder or file.
        study: what was asked for, where it was a study.
        runs: those that are there, in the study's order.
        failures: those that failed, or whose file is damaged.
        missing: how many were not computed yet.
        doubles: how many more runs have the fields of one of ``runs``: of other weights, files or versions.
    """

    name: str
    study: Study | None
    runs: tuple[Run, ...]
    failures: tuple[Failure, ...] = ()
    missing: int = 0
    doubles: int = 0


@dataclass(frozen=True)
class Source:
    """All parts of a path."""

    name: str
    parts: tuple[Part, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Of all parts, each once."""
        return _once(run for part in self.parts for run in part.runs)

    @property
    def figures(self) -> tuple[str, ...]:
        """That the studies name, each once."""
        return tuple(dict.fromkeys(name for part in self.parts if part.study for name in part.study.figures))


def open_source(path: Path, study: str | None = None, select: Sequence[str] = ()) -> Source:
    """What ``path`` holds.

    Args:
        path: a store, a results folder of ``qnoise run``, or a run's ``.nc`` file.
        study: of a store that holds several, the one that is meant; all if None.
        select: ``field=value``: only runs with one of the values given for a field, of every field that is named.

    Raises:
        BadInput: no such thing, no such study, or nothing that is selected.
    """
    parts = _parts(path, study)
    if not any(part.runs for part in parts) and select:
        raise BadInput("a selection needs runs", got=f"none in {path}", fix="run the study first")
    kept = selected([run for part in parts for run in part.runs], select)
    return Source(clean(path.resolve().stem), tuple(_narrowed(part, kept) for part in parts))


def _narrowed(part: Part, kept: set[Path]) -> Part:
    """The part with the runs that are kept, one of each: two of one seed are no two seeds."""
    own = [run for run in part.runs if run.path in kept]
    once = _once(own)
    return replace(part, runs=once, doubles=len(own) - len(once))


def _once(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The first of those that have the same fields."""
    found: dict[tuple[tuple[str, Scalar], ...], Run] = {}
    for run in runs:
        found.setdefault(tuple(sorted(run.fields.items())), run)
    return tuple(found.values())


def require_runs(source: Source) -> tuple[Run, ...]:
    """The runs of a source.

    Raises:
        BadInput: there is none.
    """
    if not source.runs:
        raise BadInput("a figure or table needs finished runs", got=f"none in {source.name}", fix="run the study first")
    return source.runs


def _parts(path: Path, study: str | None) -> list[Part]:
    if (path / STORE_FILE).exists():
        return _of_store(Store.open(path), study)
    if study is not None:
        raise BadInput("only a store holds studies", got=f"{study!r} of {path}", fix="drop --study")
    if path.is_file():
        return [Part(clean(path.stem), None, (open_run(path),))]
    if (path / JOB_FILE).is_file():
        return [Part(clean(path.resolve().name), None, tuple(map(open_run, _job_files(path))))]
    raise BadInput(
        "a source must be a store, a results folder of qnoise run, or a run's .nc file", got=str(path),
        fix="name one of them",
    )  # fmt: skip


def _job_files(folder: Path) -> list[Path]:
    try:
        names = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))["runs"]
        return [folder / Path(name).name for name in names]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadInput(
            "a results folder must be complete", got=f"{folder} ({error})", fix="move it away and run again"
        ) from None


def _of_store(store: Store, wanted: str | None) -> list[Part]:
    entries = list(registered(store))
    studies = [_study(entry) for entry in entries]
    if wanted is not None and wanted not in [study.name for study in studies]:
        raise BadInput(
            f"the study must be one of {', '.join(study.name for study in studies) or 'none'}", got=repr(wanted),
            fix="choose one",
        )  # fmt: skip
    there, failed = store.keys(), store.failed()
    parts = [
        _part(store, study, entry.keys, there, failed)
        for entry, study in zip(entries, studies, strict=True)
        if wanted in (None, study.name)
    ]
    asked = {key for entry in entries for key in entry.keys}
    if wanted is None and (others := sorted(there - asked)):
        runs, damaged = _open(store, others)
        parts.append(Part("runs of no study", None, runs, damaged))
    return parts


def _study(entry: Entry) -> Study:
    try:
        found = Study.from_config(entry.study)
        names = tuple(clean(str(name)) for name in found.figures)
        return replace(found, summary=clean(str(found.summary)), figures=names)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(
            "an entry of studies must hold a study", got=f"{type(error).__name__}: {error}",
            fix="move it away; its runs stay",
        ) from None  # fmt: skip


def _part(store: Store, study: Study, keys: Sequence[str], there: set[str], failed: set[str]) -> Part:
    runs, failures = _open(store, [key for key in keys if key in there])
    failures += tuple(_failure(key, store.failure_of(key)) for key in keys if key in failed and key not in there)
    missing = sum(key not in there and key not in failed for key in keys)
    return Part(study.name, study, runs, failures, missing)


def _open(store: Store, keys: Iterable[str]) -> tuple[tuple[Run, ...], tuple[Failure, ...]]:
    runs, damaged = [], []
    for key in keys:
        try:
            runs.append(open_run(store.run(key)))
        except BadInput as error:
            damaged.append(Failure(key, "", clean(f"{error.rule}; {error.fix}")))
    return tuple(runs), tuple(damaged)


def _failure(key: str, facts: dict[str, Any] | None) -> Failure:
    facts = facts or {}
    spec = facts.get("spec")
    title = ", ".join(f"{name} {value}" for name, value in spec.items() if value) if isinstance(spec, dict) else ""
    return Failure(key, clean(title), clean(str(facts.get("error", "unknown"))))
