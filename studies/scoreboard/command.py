"""``qnoise scoreboard``: every missing cell measured, then the tables and the figure of all of them.

The folder is named by what determines a cell; cells are put in place whole, so a call goes on where another stopped,
and more recipes, bits, subjects or seeds are added to what is there. A cell of a recipe that has changed is measured
again. How long recipes took is in ``seconds.json``, apart from the results, which are the same bytes for the same seed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samplers.errors import BadInput
from studies.scoreboard.board import Board, Cell

if TYPE_CHECKING:
    import xarray as xr

    from studies.quality.feature_sets import FeatureExtractor
    from studies.recipes.recipe import Report
    from studies.scoreboard.reference import Images, Reference

SECONDS, RECORDS, DATASET = "seconds.json", "scoreboard.json", "scoreboard.nc"

QUICK: dict[str, Any] = {
    "subjects": ("digits-unet",), "bits": ("w4a8",), "seeds": 3, "steps": 10, "samples": 320, "injected_samples": 64,
    "allow_small": True,
}  # fmt: skip


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
    from studies.scoreboard.measuring import is_current
    from studies.scoreboard.table import join
    from studies.store import dataset_bytes, publish, read

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
    seconds = json.loads((folder / SECONDS).read_text()) if (folder / SECONDS).exists() else {}
    cells = []
    with progress() as report:
        drawn = _References(board, report)
        for cell in board.cells:
            path = folder / cell.file
            if not (path.exists() and is_current(read(path), board.recipe(cell.recipe))):
                found, took = _measure(board, cell, drawn.of(cell), real.real, extractor, report)
                publish(path, dataset_bytes(found))
                seconds[cell.file] = round(took, 1)
                publish(folder / SECONDS, json_bytes(seconds))
            cells.append(read(path))
    joined = join(cells)
    publish(folder / DATASET, dataset_bytes(joined))
    show(joined, cells, board, seconds, folder, as_json)


class _References:
    """Full precision's samples of the subject and seed at hand."""

    def __init__(self, board: Board, report: Report) -> None:
        self._board, self._report = board, report
        self._held: tuple[tuple[str, int], Reference] | None = None

    def of(self, cell: Cell) -> Reference:
        from studies.scoreboard.reference import Reference

        key = cell.subject, cell.seed
        if self._held is None or self._held[0] != key:
            self._held = key, Reference.draw(self._board, *key, self._report)
        return self._held[1]


def _measure(
    board: Board, cell: Cell, reference: Reference, real: Images | None, extractor: FeatureExtractor, report: Report
) -> tuple[xr.Dataset, float]:
    from studies.scoreboard.measuring import measure_cell

    title = f"{cell.subject}, seed {cell.seed}, {cell.bits}, {cell.recipe}"
    return measure_cell(
        board, cell, reference, real, extractor, lambda what, done, total: report(f"{title}: {what}", done, total)
    )


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


def show(
    board_dataset: xr.Dataset, cells: list[xr.Dataset], board: Board, seconds: dict[str, float], folder: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Print one table per subject and width, and why recipes were refused."""
    from studies.console import jsonable, print_json, print_table
    from studies.results import json_bytes
    from studies.scoreboard.table import HEADER, board_records, board_rows
    from studies.store import publish

    records = board_records(board_dataset)
    publish(folder / RECORDS, json_bytes(jsonable(records)))
    refused = {(c.subject.item(), c.recipe.item()): c.attrs["refused"] for c in cells if "refused" in c.attrs}
    if as_json:
        found = [{"subject": subject, "recipe": recipe, "needs": why} for (subject, recipe), why in refused.items()]
        print_json({"folder": str(folder), "rows": jsonable(records), "refused": found})
        return
    took: dict[tuple[str, str, str], list[float]] = {}
    for cell in board.cells:
        took.setdefault((cell.subject, cell.bits, cell.recipe), []).append(seconds.get(cell.file, float("nan")))
    means = {key: float(np.mean(values)) for key, values in took.items()}
    preset = ", quick preset: not to be quoted" if board.allow_small else ""
    for subject in board.subjects:
        for bits in board.bits:
            own = [record for record in records if (record["subject"], record["bits"]) == (subject, bits)]
            print_table(f"{subject}, {bits}{preset}", HEADER, board_rows(own, means))
    for (subject, recipe), why in refused.items():
        print(f"{recipe} on {subject}: {why}")
    print(f"wrote: {folder}")
