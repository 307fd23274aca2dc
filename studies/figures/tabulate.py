"""``qnoise table``: a number of stored runs over two of their fields, means over seeds with intervals."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samplers.errors import BadInput
from studies.documents import NONE, Table, html_page, latex, markdown
from studies.figures.command import tell_left_out
from studies.results import require_writable
from studies.seeds import over_seeds
from studies.sources.groups import spelled, varying
from studies.sources.numbers import NUMBERS, find_number, numbers_of
from studies.sources.run import SEED, SETTING, SYSTEM, Run, Scalar
from studies.sources.source import open_source, require_runs
from studies.store.files import publish
from studies.study.study import require_field

FORMS = ("text", "latex", "html", "markdown", "csv")
FIELDS = (*SYSTEM, *SETTING)
NOTE = "±: half of a 95 % interval over seeds (Student); a number alone is one seed's."


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed only, and their number.

    Args:
        where: field -> value, of all fields that vary.
        mean: over seeds.
        low: end of the interval, NaN where there is none.
        high: as ``low``.
        seeds: how many.
    """

    where: dict[str, Scalar]
    mean: float
    low: float
    high: float
    seeds: int


def run_table(
    *, path: Path, rows: tuple[str, ...], columns: str | None, value: str, form: str, select: tuple[str, ...],
    study: str | None, out: Path | None,
) -> None:  # fmt: skip
    """Print a table, or write it to a file.

    Raises:
        BadInput: an option breaks its rule, or no run has the number.
    """
    find_number(value)
    if form not in FORMS:
        raise BadInput(f"format must be one of {', '.join(FORMS)}", got=repr(form), fix="choose one")
    named = (*rows, *filter(None, [columns]))
    for name in named:
        require_field(name)
        if name == SEED:
            raise BadInput("a table is over seeds", got="seed as a row or column", fix="name another field")
    source = open_source(path, study, select)
    runs = require_runs(source)
    tell_left_out(source)
    if form == "csv":
        text = _csv(cells_of(runs, value), value)
    else:
        parts = [part for part in source.parts if part.runs]
        tables = [
            replace(table, title=f"{part.name}: {table.title}" if len(parts) > 1 else table.title)
            for part in parts
            for table in tables_of(cells_of(part.runs, value, named), value, rows, columns)
        ]
        if form == "text" and out is None:
            _print(tables)
            return
        text = _text(tables, form)
    if out is None:
        print(text, end="")
        return
    require_writable(out.parent)
    publish(out, text.encode())
    print(f"wrote: {out}")


def cells_of(runs: Sequence[Run], value: str, named: Sequence[str] = ()) -> list[Cell]:
    """A cell per configuration but for the seed, with the fields that vary and those that are named.

    Raises:
        BadInput: no run has what the number is made from.
    """
    number = NUMBERS[value]
    if not any(run.has(number.needs) for run in runs):
        raise BadInput(f"{value} needs runs with {number.needs}", got=f"{len(runs)} runs without", fix=number.lacking)
    told = tuple(dict.fromkeys([*varying(runs, FIELDS), *named]))
    found: dict[tuple[Scalar, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.fields.get(name) for name in told), []).append(run)
    cells = []
    for where, own in found.items():
        distinct = {run.fields.get(SEED): run for run in own}
        values = [numbers_of(run)[value] for run in distinct.values()]
        mean, low, high = map(float, over_seeds(values))
        cells.append(Cell(dict(zip(told, where, strict=True)), mean, low, high, len(values)))
    return cells


def tables_of(cells: Sequence[Cell], value: str, rows: tuple[str, ...] = (), columns: str | None = None) -> list[Table]:
    """Tables of rows and columns, one for each setting of the other fields that vary.

    A field that follows from a row or a column (eta from a sampler) stands beside it.
    """
    told = tuple(cells[0].where)
    rows, columns = _axes(told, rows, columns)
    rest = [name for name in told if name not in (*rows, columns)]
    by_column = [name for name in rest if columns and _follows(cells, name, (columns,))]
    by_row = [name for name in rest if name not in by_column and _follows(cells, name, rows)]
    others = tuple(name for name in rest if name not in (*by_column, *by_row))
    number = NUMBERS[value]
    found: dict[tuple[Scalar, ...], list[Cell]] = {}
    for cell in cells:
        found.setdefault(tuple(cell.where[name] for name in others), []).append(cell)
    tables = []
    for key, own in found.items():
        named = ", ".join(filter(None, (spelled(name, one) for name, one in zip(others, key, strict=True))))
        at = {(_values(cell, rows), cell.where.get(columns or "")): cell for cell in own}
        sides = {_values(cell, rows): cell for cell in own}
        heads = {cell.where.get(columns or ""): cell for cell in own}
        lines = tuple(
            (*_words(cell, rows, by_row), *(shown(at.get((side, head)), value) for head in heads))
            for side, cell in sides.items()
        )
        tops = (_words(cell, (columns,), by_column)[0] if columns else number.title for cell in heads.values())
        header = (*(name.replace("_", " ") for name in rows), *tops)
        tables.append(Table(": ".join(filter(None, (named, number.title))), header, lines, len(rows)))
    return tables


def shown(cell: Cell | None, value: str) -> str:
    """A mean with half of its interval."""
    if cell is None or math.isnan(cell.mean):
        return NONE
    number = NUMBERS[value]
    mean, arm = cell.mean * number.scale, (cell.high - cell.mean) * number.scale
    text = f"{mean:.{number.digits}f}"
    # costs do not depend on the seed
    return text if math.isnan(arm) or (arm == 0 and "state" not in number.needs) else f"{text} ± {arm:.2f}"


def _axes(told: tuple[str, ...], rows: tuple[str, ...], columns: str | None) -> tuple[tuple[str, ...], str | None]:
    """Fields of rows and of columns: those given, else the first that vary."""
    if columns in rows:
        raise BadInput("rows and columns must be different fields", got=columns, fix="drop one")
    free = [name for name in told if name not in (*rows, columns)]
    if not rows:
        rows = (free.pop(0),) if free else ("scheme",)
    if columns is None and free:
        columns = free.pop(0)
    return rows, columns


def _follows(cells: Sequence[Cell], name: str, fields: tuple[str, ...]) -> bool:
    """Whether a field's value is the same wherever those of other fields are."""
    pairs = {(_values(cell, fields), cell.where[name]) for cell in cells}
    return len(pairs) == len({key for key, _ in pairs})


def _values(cell: Cell, fields: tuple[str, ...]) -> tuple[Scalar, ...]:
    return tuple(cell.where.get(name) for name in fields)


def _words(cell: Cell, fields: tuple[str, ...], beside: Sequence[str]) -> tuple[str, ...]:
    """A cell's values of some fields, in words; beside the last of them what follows from them."""
    own = [_word(name, cell.where.get(name)) for name in fields]
    own[-1] = ", ".join([own[-1], *filter(None, (spelled(name, cell.where[name]) for name in beside))])
    return tuple(own)


def _word(name: str, value: Scalar) -> str:
    text = spelled(name, value).removeprefix("+ ")
    return text or (NONE if value in (None, "") else str(value))


def _text(tables: Sequence[Table], form: str) -> str:
    if form == "latex":
        return latex(tables, [NOTE])
    if form == "html":
        return html_page(tables[0].title, tables, [NOTE])
    if form == "markdown":
        return "\n".join(line for table in tables for line in [table.title, "", *markdown(table), ""]) + NOTE + "\n"
    return "\n".join("\t".join(line) for table in tables for line in [(table.title,), table.header, *table.rows]) + "\n"


def _csv(cells: Sequence[Cell], value: str) -> str:
    """A line per cell, numbers in full and without a scale."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*cells[0].where, value, f"{value}_low", f"{value}_high", "seeds"])
    for cell in cells:
        numbers = ("" if math.isnan(one) else repr(one) for one in (cell.mean, cell.low, cell.high))
        writer.writerow([*("" if one is None else one for one in cell.where.values()), *numbers, cell.seeds])
    return buffer.getvalue()


def _print(tables: Sequence[Table]) -> None:
    from studies.console import print_table

    for table in tables:
        print_table(table.title, table.header, table.rows)
    print(NOTE)
