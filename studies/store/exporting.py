"""``qnoise store export``: a study's runs as one netCDF file, or as rows in CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from samplers.errors import BadInput
from studies.results import require_writable
from studies.store.exclusive import publish_once
from studies.store.files import read
from studies.store.merging import chosen
from studies.store.store import Store
from studies.study.rows import run_row, step_rows


class Rows(Enum):
    """What a row is."""

    RUNS = "runs"
    STEPS = "steps"


def export(store: Store, out: Path, study: str | None, rows: Rows) -> int:
    """Write rows of a study's runs to ``out``, by its suffix ``.csv`` or ``.parquet``; how many rows.

    Runs that the store does not hold have no row.

    Raises:
        BadInput: another suffix, a file that exists, no run, a damaged file, or a missing package.
    """
    encode = _encoder(out)
    if out.exists():
        raise BadInput("an export replaces no file", got=str(out), fix="name another with --output")
    require_writable(out.parent)
    there = store.keys()
    found = list(_rows(store, [key for key in chosen(store, study).keys if key in there], rows))
    if not found:
        raise BadInput("an export needs a run", got="none", fix="qnoise study run")
    if not publish_once(out, encode(found), out.parent):
        raise BadInput("an export replaces no file", got=str(out), fix="name another with --output")
    return len(found)


def _rows(store: Store, keys: list[str], rows: Rows) -> Iterator[dict[str, Any]]:
    for key in keys:
        run = read(store.run(key))
        if rows is Rows.RUNS:
            yield run_row(run)
        else:
            yield from step_rows(run)


def _encoder(out: Path) -> Callable[[list[dict[str, Any]]], bytes]:
    if out.suffix == ".csv":
        return _csv
    if out.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise BadInput(
                "Parquet needs pyarrow", got="none", fix="pip install 'qnoise[parquet]', or --output x.csv"
            ) from None
        return _parquet
    raise BadInput("rows are written as .csv or .parquet", got=str(out), fix="name such a file with --output")


def _csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()
