"""``qnoise scoreboard``: every missing cell measured, then the tables and the figure of all of them.

The folder is named by what determines a cell; cells are put in place whole, so a call goes on where another stopped,
and more recipes, bits, subjects or seeds are added to what is there. A cell of a recipe that has changed is measured
again. Where a recipe's bits are mixed, its companions follow it. ``unfinished`` keeps what reconstruction and training
have done of the subject and seed at hand. How long recipes took is in ``seconds``, apart from the results, which
are the same bytes for the same seed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput
from studies.scoreboard.board import Board, Cell

if TYPE_CHECKING:
    import xarray as xr

    from studies.quality.feature_sets import FeatureExtractor
    from studies.recipes.recipe import Report
    from studies.scoreboard.reference import Images, Reference

RECORDS, DATASET, UNFINISHED = "scoreboard.json", "scoreboard.nc", "unfinished"

QUICK: dict[str, Any] = {
    "recipes": ("dynamic-max", "ptqd", "ptq4dm", "one-step-groupwise", "svdquant", "adaround"),
    "subjects": ("digits-unet",), "bits": ("w4a8",), "seeds": 3, "steps": 10, "samples": 320, "injected_samples": 64,
    "allow_small": True,
}  # fmt: skip
"""No recipe that trains: even short, each takes minutes."""


def run_scoreboard(*, quick: bool, threads: int | None, out: Path, as_json: bool, **chosen: Any) -> None:
    """Measure, print the tables and draw the figure.

    Raises:
        BadInput: before the work, an unknown recipe or model, a number that breaks its rule, a folder that cannot be
            written.
    """
    import torch  # noqa: F401 - before any kernel, as in ``qnoise run``

    from simulator.provenance import NUMERICS_VERSION, run_key
    from simulator.threads import set_threads
    from studies.console import progress
    from studies.main_job import available_threads
    from studies.quality.feature_sets import load_features
    from studies.quality.real_images import DIGITS, real_images
    from studies.recipes.catalogue import shipped
    from studies.results import folder_for, json_bytes, require_writable
    from studies.store.files import publish

    given = {name: value for name, value in chosen.items() if value}
    board = Board(**({"recipes": tuple(shipped())} | (QUICK if quick else {}) | given))
    count = available_threads() if threads is None else threads
    extractor, real = load_features("digits-classifier"), real_images(DIGITS)
    config = {
        **board.config(), "threads": count, "numerics_version": NUMERICS_VERSION, "features": extractor.digest,
        **real.config, "weights": _digests(board),
    }  # fmt: skip
    require_writable(out)
    set_threads(count)
    folder = folder_for(out, "scoreboard", run_key(config))
    folder.mkdir(exist_ok=True)
    publish(folder / "board.json", json_bytes(config))
    cells = []
    with progress() as report:
        drawn = _References(board, report, folder)
        for cell in board.cells:
            found = _found_or_measured(board, cell, folder, drawn, real.real, extractor, report)
            cells.append(found)
            if "mixed" in found.attrs:
                cells += [
                    _found_or_measured(board, companion, folder, drawn, real.real, extractor, report)
                    for companion in cell.companions
                ]
    drawn.clear()
    show(publish_board(cells, folder), folder, as_json)


def _found_or_measured(
    board: Board, cell: Cell, folder: Path, drawn: _References, real: Images | None, extractor: FeatureExtractor,
    report: Report,
) -> xr.Dataset:  # fmt: skip
    """The cell of the folder, put there first where it is missing or of a recipe that has changed."""
    from studies.scoreboard.measuring import is_current
    from studies.scoreboard.timing import note_seconds
    from studies.store.files import dataset_bytes, publish, read

    path = folder / cell.file
    if path.exists() and is_current(stored := read(path), board.recipe(cell.recipe)):
        return stored
    found, took = _measure(board, cell, drawn, real, extractor, report)
    publish(path, dataset_bytes(found))
    note_seconds(folder, cell, took)
    return read(path)


class _References:
    """Full precision's samples of the subject and seed at hand, and a folder for what is unfinished of them."""

    def __init__(self, board: Board, report: Report, folder: Path) -> None:
        self._board, self._report, self._folder = board, report, folder / UNFINISHED
        self._held: tuple[tuple[str, int], Reference] | None = None

    def of(self, cell: Cell) -> Reference:
        from studies.scoreboard.reference import Reference

        key = cell.subject, cell.seed
        if self._held is None or self._held[0] != key:
            self.clear()
            self._held = key, Reference.draw(self._board, *key, self._report)
        return self._held[1]

    def unfinished(self, cell: Cell) -> Path:
        """What is done of one cell may serve the next: a control is trained once for all widths."""
        return self._folder / f"{cell.subject}-{cell.seed}"

    def clear(self) -> None:
        """Forget what was unfinished of the subject and seed at hand, of which every cell is there now."""
        if self._held is not None:
            subject, seed = self._held[0]
            shutil.rmtree(self._folder / f"{subject}-{seed}", ignore_errors=True)


def _measure(
    board: Board, cell: Cell, drawn: _References, real: Images | None, extractor: FeatureExtractor, report: Report
) -> tuple[xr.Dataset, float]:
    from studies.scoreboard.measuring import measure_cell

    title = f"{cell.subject}, seed {cell.seed}, {cell.bits}, {cell.recipe}"
    return measure_cell(
        board, cell, drawn.of(cell), real, extractor,
        lambda what, done, total: report(f"{title}: {what}", done, total), drawn.unfinished(cell),
    )  # fmt: skip


def _digests(board: Board) -> dict[str, str]:
    from simulator.models.loading import load

    digests = {}
    for subject in board.subjects:
        model = load(subject)
        drawn = model.schedule is not None and (model.decoder is not None or model.sample_shape == (1, 8, 8))
        if not drawn:
            raise BadInput(
                "the scoreboard's features are those of 8x8 digits", got=f"{subject}, {model.sample_shape}",
                fix="choose digits-unet, digits-dit or digits-latent",
            )  # fmt: skip
        digests[subject] = model.weights_digest
    return digests


def publish_board(cells: list[xr.Dataset], folder: Path) -> xr.Dataset:
    """All cells as one dataset, records, tables and figure, each file whole; the dataset."""
    import matplotlib

    matplotlib.use("agg")
    from studies.console import jsonable
    from studies.documents import html_page, latex
    from studies.plots.scoreboard import scoreboard_figure
    from studies.plots.style import figure_bytes
    from studies.results import json_bytes
    from studies.scoreboard.joining import join
    from studies.scoreboard.records import board_records
    from studies.scoreboard.table import NOTES, PAPER, board_tables
    from studies.scoreboard.timing import mean_seconds, with_seconds
    from studies.store.files import dataset_bytes, publish

    joined = join(cells)
    records = board_records(joined)
    tables = board_tables(records, mean_seconds(with_seconds(joined, folder)), _remark(folder))
    publish(folder / DATASET, dataset_bytes(joined))
    publish(folder / RECORDS, json_bytes(jsonable(records)))
    publish(folder / "table.tex", latex([table.only(PAPER) for table in tables], NOTES).encode())
    publish(folder / "table.html", html_page("qnoise scoreboard", tables, NOTES).encode())
    figure = scoreboard_figure(records)
    for suffix in ("pdf", "png"):
        publish(folder / f"pareto.{suffix}", figure_bytes(figure, suffix))
    return joined


def _remark(folder: Path) -> str:
    config = json.loads((folder / "board.json").read_text(encoding="utf-8"))
    return ", quick preset: not to be quoted" if "preset" in config else ""


def show(board: xr.Dataset, folder: Path, as_json: bool) -> None:
    """Print one table per subject and width, and why recipes were refused."""
    from studies.console import jsonable, print_json, print_table
    from studies.scoreboard.joining import refusals
    from studies.scoreboard.records import board_records
    from studies.scoreboard.table import NOTES, board_tables
    from studies.scoreboard.timing import mean_seconds, with_seconds

    records = board_records(board)
    if as_json:
        found = [{"subject": subject, "recipe": recipe, "needs": why} for subject, recipe, why in refusals(board)]
        print_json({"folder": str(folder), "rows": jsonable(records), "refused": found})
        return
    for table in board_tables(records, mean_seconds(with_seconds(board, folder)), _remark(folder)):
        print_table(table.title, table.header, table.rows)
    for subject, recipe, why in refusals(board):
        print(f"{recipe} on {subject}: {why}")
    for note in NOTES:
        print(note)
    print(f"wrote: {folder}")
