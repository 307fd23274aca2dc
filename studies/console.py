"""What a person sees: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Yield ``report(what, done, total)``: a bar per phase on a terminal, a plain line as each phase ends elsewhere."""
    if not sys.stderr.isatty():

        def line(what: str, done: int, total: int) -> None:
            if done == total:
                print(f"{what}: {total} steps done", file=sys.stderr, flush=True)

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<36}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield advance


def print_json(content: Any) -> None:
    """JSON on standard output; it has neither NaN nor infinity, null stands for them."""
    print(json.dumps(jsonable(content), indent=1, allow_nan=False))


def jsonable(value: Any) -> Any:
    """Nested plain values with None for every number that is not finite."""
    if isinstance(value, dict):
        return {key: jsonable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with left-aligned first column."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # elsewhere than on a terminal rich would cut tables at 80 columns
    widths = (max(map(len, column)) for column in zip(header, *rows, strict=True))
    Console(width=None if sys.stdout.isatty() else max(140, sum(widths) + 3 * len(header) + 1)).print(table)


def print_summary(rows: Sequence[dict[str, Any]]) -> None:
    """The short table of a job's results."""
    latent = any("decoded_db" in row for row in rows)
    header = ["run", "eta", "injected", "last", "accum.", "x0", "95 %", "median x0"]
    header += ["pixels", "median"] if latent else []
    cells = [
        [
            row["scheme"] + ("" if row["correction"] == "none" else f"+{row['correction']}"),
            "-" if row["eta"] is None else f"{row['eta']:g}",
            _db(row["epsilon_injected_median_db"]),
            _db(row["epsilon_injected_last_db"]),
            _db(row["epsilon_accumulated_median_db"]),
            _db(row["final_sample_db"]),
            f"{_db(row['final_sample_db_low'])}..{_db(row['final_sample_db_high'])}",
            _db(row["final_sample_median_db"]),
            *([_db(row["decoded_db"]), _db(row["decoded_median_db"])] if latent else []),
        ]
        for row in rows
    ]
    print_table("SQNR in dB", header, cells)
    print("injected, accum.: epsilon, median over steps; last: injected at the last step;")
    print("x0: final sample, pooled over samples, with its interval, and its median over samples")
    if latent:
        print("pixels: the same of the decoded samples, pooled, and its median over samples; x0 is the latent")


def _db(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
