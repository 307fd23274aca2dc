"""How long recipes took: kept beside the cells, which are the same bytes for the same seed."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import xarray as xr

from studies.results import json_bytes
from studies.scoreboard.board import Cell
from studies.scoreboard.joining import DIMS
from studies.store import publish

SECONDS = "seconds.json"


def note_seconds(folder: Path, cell: Cell, seconds: float) -> None:
    """Put down what a cell's recipe took."""
    publish(folder / SECONDS, json_bytes({**_by_file(folder), cell.file: round(seconds, 1)}))


def with_seconds(board: xr.Dataset, folder: Path) -> xr.Dataset:
    """The board with ``seconds`` of every cell, as the folder has them; NaN where it has none."""
    took = _by_file(folder)
    found = [
        took.get(Cell(str(recipe), str(bits), str(subject), int(seed)).file, np.nan)
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


def _by_file(folder: Path) -> dict[str, float]:
    path = folder / SECONDS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
