"""How long recipes took: kept apart from the cells, which are the same bytes for the same seed.

A file for each cell, so that processes that share a folder lose nothing.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import xarray as xr

from studies.results import json_bytes
from studies.scoreboard.board import Cell
from studies.scoreboard.joining import DIMS
from studies.store.files import publish

SECONDS = "seconds"


def note_seconds(folder: Path, cell: Cell, seconds: float) -> None:
    """Put down what a cell's recipe took."""
    (folder / SECONDS).mkdir(exist_ok=True)
    publish(_file(folder, cell), json_bytes({"seconds": round(seconds, 1)}))


def with_seconds(board: xr.Dataset, folder: Path) -> xr.Dataset:
    """The board with ``seconds`` of every cell, as the folder has them; NaN where it has none."""
    found = [
        _seconds(folder, Cell(str(recipe), str(bits), str(subject), int(seed)))
        for recipe, bits, subject, seed in product(*(board[dim].values for dim in DIMS))
    ]
    shape = tuple(board.sizes[dim] for dim in DIMS)
    attrs = {"units": "s", "long_name": "processor time of preparing the network, all threads together"}
    return board.assign(seconds=(DIMS, np.array(found).reshape(shape), attrs))


def mean_seconds(board: xr.Dataset) -> dict[tuple[str, str, str], float]:
    """Over the seeds whose recipes were timed, by (subject, bits, recipe)."""
    found = {}
    for recipe, bits, subject in product(*(board[dim].values for dim in DIMS[:-1])):
        seconds = board.seconds.sel(recipe=recipe, bits=bits, subject=subject).values
        if np.isfinite(seconds).any():
            found[str(subject), str(bits), str(recipe)] = float(np.nanmean(seconds))
    return found


def _seconds(folder: Path, cell: Cell) -> float:
    path = _file(folder, cell)
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) if path.exists() else np.nan


def _file(folder: Path, cell: Cell) -> Path:
    return folder / SECONDS / f"{Path(cell.file).stem}.json"
