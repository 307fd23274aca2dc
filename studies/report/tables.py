"""Tables of a report: sortable, with numbers that sort as numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from studies.figures.tabulate import Cell, cells_of, shown
from studies.report.markup import Html, element, joined
from studies.sources.groups import spelled, varying
from studies.sources.numbers import NUMBERS
from studies.sources.run import SEED, SETTING, SYSTEM, Run
from studies.sources.source import Failure, Part
from studies.study.study import Scalar

LONG = 40
"""Characters from which on a cell's text may go over several lines."""

Value = tuple[str, float | str]
"""What a cell shows, and what it sorts by."""


def sortable(caption: str, header: Sequence[str], rows: Iterable[Sequence[Value]]) -> Html:
    """A table; the page's script makes buttons of its headings. A column of numbers is set to the right."""
    kept = [list(row) for row in rows]
    numeric = [all(not isinstance(row[i][1], str) for row in kept) for i in range(len(header))]
    head = joined(
        *(
            element("th", name, scope="col", class_="number" if n else False)
            for name, n in zip(header, numeric, strict=True)
        )
    )
    body = joined(*(element("tr", *(_cell(value, n) for value, n in zip(row, numeric, strict=True))) for row in kept))
    table = element(
        "table", element("caption", caption), element("thead", element("tr", head)), element("tbody", body),
        class_="sortable",
    )  # fmt: skip
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label=caption)


def results(runs: Sequence[Run]) -> Html:
    """A row per configuration but for the seed: its numbers, means over seeds with intervals."""
    names = [name for name, number in NUMBERS.items() if any(run.has(number.needs) for run in runs)]
    if not names:
        return Html("")
    columns = {name: cells_of(runs, name) for name in names}
    first = columns[names[0]]
    told = list(first[0].where)
    header = [*(name.replace("_", " ") for name in told), *(NUMBERS[name].title for name in names), "seeds"]
    rows = []
    for index, cell in enumerate(first):
        fields = [_field(name, cell.where[name]) for name in told]
        numbers = [_number(columns[name][index], name) for name in names]
        rows.append([*fields, *numbers, (str(cell.seeds), float(cell.seeds))])
    return sortable("Means over seeds, with half of their 95 % interval", header, rows)


def run_list(runs: Sequence[Run]) -> Html:
    """Every run with its key and what tells it from others."""
    told = (*varying(runs, (*SYSTEM, *SETTING)), SEED)
    rows = [[(run.key[:16], run.key), *(_field(name, run.fields.get(name)) for name in told)] for run in runs]
    return sortable(f"{len(runs)} runs", ["key", *(name.replace("_", " ") for name in told)], rows)


def failures(found: Sequence[Failure]) -> Html:
    """Runs that failed, with their errors."""
    rows = [[(one.key[:16], one.key), (one.title or "-", one.title), (one.error, one.error)] for one in found]
    return sortable(f"{len(found)} runs failed", ["key", "run", "error"], rows)


def asked(part: Part) -> Html:
    """What the study varies, and what it fixes."""
    if part.study is None:
        return Html("")
    rows = [
        [(name, name), (", ".join(_said(name, value) for value in values), ""), ("varies", "0")]
        for axis in part.study.axes
        for name, values in axis.values.items()
    ]
    rows += [[(name, name), (_said(name, value), ""), ("fixed", "1")] for name, value in part.study.fixed.items()]
    return sortable("What was asked for", ["field", "values", ""], rows)


def _said(name: str, value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _field(name: str, value: object) -> Value:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value), float(value)
    text = spelled(name, value).removeprefix("+ ") if isinstance(value, str) else str(value).lower()
    return text or "-", text


def _number(cell: Cell, name: str) -> Value:
    return shown(cell, name), cell.mean


def _cell(value: Value, numeric: bool) -> Html:
    text, key = value
    sort = key if isinstance(key, str) else "" if math.isnan(key) else repr(key)
    look = "number" if numeric else "long" if len(text) > LONG else ""
    return element("td", text, data_value=sort, class_=look or False)
