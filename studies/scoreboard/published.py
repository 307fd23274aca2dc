"""The committed form: what a board's folder holds so far as one small dataset, with the command that makes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from samplers.errors import BadInput
from studies.recipes.catalogue import shipped
from studies.scoreboard.board import FEWEST_SEEDS, Board
from studies.scoreboard.companions import SEPARATOR
from studies.scoreboard.joining import gather, join
from studies.scoreboard.measuring import is_current
from studies.scoreboard.timing import with_seconds


def published(folder: Path) -> xr.Dataset:
    """Every cell of a folder of ``qnoise scoreboard``, whether that has ended or not, in float32.

    Cells of recipes that have changed since are left out, as a board would measure them again.

    Attributes are those of :func:`studies.scoreboard.joining.join`, the folder's configuration, and ``command``.

    Raises:
        BadInput: a folder without cells, of the quick preset, or with a damaged file.
    """
    path = folder / "board.json"
    default = Board(tuple(shipped()))
    cells = [cell for cell in gather(folder) if is_current(cell, default.recipe(str(cell["recipe"].item())))]
    if not path.exists() or not cells:
        raise BadInput("a board's folder holds board.json and cells", got=str(folder), fix="run qnoise scoreboard")
    config = json.loads(path.read_text(encoding="utf-8"))
    if "preset" in config:
        raise BadInput("a quick preset is not published", got=str(folder), fix="run qnoise scoreboard without --quick")
    board = with_seconds(join(cells), folder)
    small = {name: values.astype(np.float32) for name, values in board.items() if values.dtype == np.float64}
    board = board.assign(small)
    board.attrs |= {"config": json.dumps(config, sort_keys=True), "command": command_of(board, config)}
    return board


def command_of(board: xr.Dataset, config: Mapping[str, Any]) -> str:
    """The command that makes the board, and completes it where cells are missing."""
    recipes = [recipe for recipe in map(str, board.recipe.values) if SEPARATOR not in recipe]
    default = Board(tuple(shipped()))
    words = ["qnoise scoreboard"]
    for option, found, usual in (
        ("recipe", recipes, default.recipes),
        ("bits", board.bits.values.tolist(), default.bits),
        ("subject", board.subject.values.tolist(), default.subjects),
    ):
        words += [] if set(found) == set(usual) else [f"--{option} {value}" for value in found]
    given = {"seeds": max(int(board.seed.max()) + 1, FEWEST_SEEDS), "steps": config["steps"]}
    given["samples"] = config["samples"]
    words += [f"--{name} {value}" for name, value in given.items() if value != getattr(default, name)]
    return " ".join([*words, f"--threads {config['threads']}"])
