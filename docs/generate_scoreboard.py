"""Write the tables of docs/scoreboard.md and README.md, and rows of docs/methods/*.md, from docs/results/scoreboard.nc.

Run from the repository's root: ``python docs/generate_scoreboard.py`` writes the pages; with a folder of ``qnoise
scoreboard`` as argument, finished or not, it first takes over that folder's cells and figure. What is not measured yet
is a dash. Tests hold that the pages are what it writes, and that every recipe has a row on one of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import xarray as xr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from studies.documents import markdown, put  # noqa: E402
from studies.recipes.catalogue import shipped  # noqa: E402
from studies.scoreboard.board import Board  # noqa: E402
from studies.scoreboard.companions import SEPARATOR  # noqa: E402
from studies.scoreboard.joining import refusals  # noqa: E402
from studies.scoreboard.records import Record, board_records  # noqa: E402
from studies.scoreboard.table import NOTES, board_tables, rows_of, summary  # noqa: E402
from studies.scoreboard.timing import mean_seconds  # noqa: E402
from studies.store import dataset_bytes, read  # noqa: E402

PAGE = ROOT / "docs" / "scoreboard.md"
README = ROOT / "README.md"
METHODS = ROOT / "docs" / "methods"
RESULTS = ROOT / "docs" / "results" / "scoreboard.nc"
FIGURE = ROOT / "docs" / "figures" / "scoreboard"

NOTHING = "No cell is published yet."

ROWS = re.compile(r"(<!-- rows: (?P<recipes>[^>]+) -->\n).*?(<!-- rows:end -->)", re.DOTALL)
"""Markers of a method's page: the recipes whose rows stand between them."""


def take_over(folder: Path) -> None:
    """Keep the cells of a board's folder as one dataset, and draw their figure."""
    import matplotlib

    matplotlib.use("agg")
    from studies.plots.scoreboard import scoreboard_figure
    from studies.plots.style import save
    from studies.scoreboard.published import published

    RESULTS.write_bytes(dataset_bytes(published(folder)))
    save(scoreboard_figure(board_records(read(RESULTS))), FIGURE)
    FIGURE.with_suffix(".pdf").unlink()


def recipes_of(text: str) -> list[str]:
    """The recipes whose rows a page has."""
    return [recipe for found in ROWS.finditer(text) for recipe in found["recipes"].split(", ")]


def pages(results: Path = RESULTS) -> dict[Path, str]:
    """Every page with its tables replaced."""
    board = read(results) if results.exists() else None
    records = [] if board is None else board_records(board)
    found = {PAGE: put(PAGE.read_text(encoding="utf-8"), "tables", _tables(board, records))}
    for path in sorted(METHODS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if ROWS.search(text):
            found[path] = ROWS.sub(lambda match: f"{match[1]}{_rows(records, match)}{match[3]}", text)
    found[README] = put(README.read_text(encoding="utf-8"), "scoreboard", "\n".join(_summaries(records)))
    return found


def _summaries(records: list[Record]) -> list[str]:
    subjects = dict.fromkeys(record["subject"] for record in records)
    if not subjects:
        return [NOTHING, ""]
    lines = ["Final SQNR in dB ± half of its 95 % interval over seeds, and the rank, which overlapping rows share.", ""]
    wanted = len(Board(tuple(shipped())).cells)
    counts = [record["seeds"] for record in records if SEPARATOR not in record["recipe"]]
    found = sum(sum(count.values()) - count["missing"] for count in counts)
    if found < wanted:
        lines += [f"{found} of {wanted} cells have been measured; what has not is a dash.", ""]
    for subject in subjects:
        table = summary(records, subject)
        lines += [f"{table.title}:", "", *markdown(table), ""]
    return lines


def _tables(board: xr.Dataset | None, records: list[Record]) -> str:
    lines = _summaries(records)
    if board is None:
        return "\n".join(lines)
    lines += [f"Made by `{board.attrs['command']}`.", "", "![Cost against final SQNR](figures/scoreboard.png)", ""]
    lines += [line for note in NOTES for line in (note, "")]
    for table in board_tables(records, mean_seconds(board)):
        lines += [f"### {table.title}", "", *markdown(table), ""]
    lines += [f"- {recipe} on {subject}: {why}" for subject, recipe, why in refusals(board)]
    return "\n".join(lines) + "\n"


def _rows(records: list[Record], found: Mapping[str, str]) -> str:
    if not records:
        return NOTHING + "\n"
    return "\n".join(markdown(rows_of(records, found["recipes"].split(", ")))) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take_over(Path(sys.argv[1]))
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
