"""Write the tables of docs/scoreboard.md and README.md, and what docs/recipes/*.md say of a recipe and its rows.

Run from the repository's root: ``python docs/generate_scoreboard.py`` writes the pages; with a folder of ``qnoise
scoreboard`` as argument, finished or not, it first takes over that folder's cells and figure. What is not measured yet
is a dash. Tests hold that the pages are what it writes, and that every recipe has a row on one of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import xarray as xr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from studies.documents import Table, markdown, put  # noqa: E402
from studies.recipes.catalogue import shipped  # noqa: E402
from studies.recipes.recipe import Recipe  # noqa: E402
from studies.recipes.show import stage_text  # noqa: E402
from studies.scoreboard.board import Board  # noqa: E402
from studies.scoreboard.companions import SEPARATOR  # noqa: E402
from studies.scoreboard.joining import refusals  # noqa: E402
from studies.scoreboard.records import Record, board_records  # noqa: E402
from studies.scoreboard.table import NOTES, Seconds, board_tables, rows_of, summary  # noqa: E402
from studies.scoreboard.timing import mean_seconds  # noqa: E402
from studies.store.files import dataset_bytes, read  # noqa: E402

PAGE = ROOT / "docs" / "scoreboard.md"
README = ROOT / "README.md"
RECIPES = ROOT / "docs" / "recipes"
RESULTS = ROOT / "docs" / "results" / "scoreboard.nc"
FIGURE = ROOT / "docs" / "figures" / "scoreboard"

NOTHING = "No cell is published yet."


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


def pages(results: Path = RESULTS) -> dict[Path, str]:
    """Every page with its tables replaced."""
    board = read(results) if results.exists() else None
    records = [] if board is None else board_records(board)
    found = {PAGE: put(PAGE.read_text(encoding="utf-8"), "tables", _tables(board, records))}
    seconds = {} if board is None else mean_seconds(board)
    for recipe in shipped().values():
        path = RECIPES / f"{recipe.name}.md"
        text = put(path.read_text(encoding="utf-8"), "recipe", _recipe(recipe))
        found[path] = put(text, "rows", _rows(records, seconds, recipe.name))
    found[RECIPES / "README.md"] = _index()
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


def _recipe(recipe: Recipe) -> str:
    source = recipe.source
    lines = [recipe.summary, "", f"{source.title}. {source.authors}, {source.venue}.", "", "In this order:", ""]
    lines += [f"{number}. {stage_text(stage)}" for number, stage in enumerate(recipe.stages, 1)]
    if recipe.deviations:
        lines += ["", "Where it differs from the paper or its code:", "", *(f"- {each}" for each in recipe.deviations)]
    return "\n".join(lines) + "\n"


def _rows(records: list[Record], seconds: Seconds, recipe: str) -> str:
    table = rows_of(records, seconds, recipe)
    lines = [*markdown(table), "", "The columns are explained in [scoreboard](../scoreboard.md)."]
    return "\n".join(lines if table.rows else [NOTHING]) + "\n"


def _index() -> str:
    rows = [
        (f"[{recipe.name}]({recipe.name}.md)", recipe.summary, f"{recipe.source.authors}, {recipe.source.venue}")
        for recipe in shipped().values()
    ]
    table = Table.of_words("", ("recipe", "what it does", "by"), rows)
    said = "Every recipe has a page: what it does, its equations, where it differs, what was measured."
    return "\n".join(["# Recipes", "", said, "", *markdown(table)]) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take_over(Path(sys.argv[1]))
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
