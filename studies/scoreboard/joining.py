"""All cells as one dataset, missing ones included."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from studies.scoreboard.board import BASELINE
from studies.scoreboard.companions import SEPARATOR
from studies.scoreboard.measuring import FACTS, VARIABLES
from studies.store.files import read

DIMS = ("recipe", "bits", "subject", "seed")

STEPS = "step_sqnr_db"


class State(IntEnum):
    """What there is of a cell."""

    MISSING = 0
    """Not measured, or not yet."""
    MEASURED = 1
    REFUSED = 2
    """The subject cannot have the recipe."""
    DIVERGED = 3
    """An optimisation was stopped, or samples are not finite."""


def gather(folder: Path) -> list[xr.Dataset]:
    """The cells that a board's folder holds, finished or not, in one order whatever wrote them.

    Raises:
        BadInput: a damaged file.
    """
    cells = [found for path in folder.glob("*.nc") if set((found := read(path)).coords) == set(DIMS)]
    return sorted(cells, key=_order)


def _order(cell: xr.Dataset) -> tuple[Any, ...]:
    """UNets before transformers and wide before narrow, as the default board has them; ``minmax`` first of recipes."""
    subject, recipe, bits = (str(cell[name].item()) for name in ("subject", "recipe", "bits"))
    base, _, schedule = recipe.partition(SEPARATOR)
    weights, activations = map(int, bits.removeprefix("w").split("a"))
    place = base != BASELINE, base, schedule != "", schedule != "uniform"
    return subject.endswith("dit"), subject, -weights, -activations, place, int(cell.seed)


def join(cells: Sequence[xr.Dataset]) -> xr.Dataset:
    """All cells along recipe, bits, subject and seed, in the order of the cells; NaN where there is none.

    ``state`` says what there is of each, the coordinate ``kind`` of which kind a recipe is, and the attribute
    ``refused`` what refused recipes need, as JSON: subject -> recipe -> text.
    """
    coords: dict[str, list[Any]] = {dim: list(dict.fromkeys(cell[dim].item() for cell in cells)) for dim in DIMS}
    coords["seed"] = sorted(coords["seed"])
    shape = tuple(len(coords[dim]) for dim in DIMS)
    data = {name: np.full(shape, np.nan) for name in (VARIABLES | FACTS)}
    steps = np.full((*shape, cells[0].sizes["step"]), np.nan)
    state = np.full(shape, State.MISSING, np.int8)
    kinds, refused = dict[str, str](), dict[str, dict[str, str]]()
    for cell in cells:
        at = tuple(coords[dim].index(cell[dim].item()) for dim in DIMS)
        for name, values in data.items():
            values[at] = cell[name].item()
        steps[at], state[at] = cell[STEPS].values, _state(cell)
        recipe = cell["recipe"].item()
        kinds[recipe] = cell.attrs["kind"]
        if "refused" in cell.attrs:
            refused.setdefault(cell["subject"].item(), {})[recipe] = cell.attrs["refused"]
    variables: dict[str, Any] = {name: (DIMS, data[name], cells[0][name].attrs) for name in data}
    variables[STEPS] = ((*DIMS, "step"), steps, cells[0][STEPS].attrs)
    flags = {
        "flag_values": np.arange(len(State), dtype=np.int8),
        "flag_meanings": " ".join(s.name.lower() for s in State),
    }
    variables["state"] = (DIMS, state, {"units": "1", "long_name": "what there is of a cell", **flags})
    kind = ("recipe", [kinds[recipe] for recipe in coords["recipe"]])
    return xr.Dataset(variables, {**coords, "kind": kind}, {"refused": json.dumps(refused, sort_keys=True)})


def _state(cell: xr.Dataset) -> State:
    if "refused" in cell.attrs:
        return State.REFUSED
    return State.DIVERGED if float(cell["diverged"]) == 1 else State.MEASURED


def refusals(board: xr.Dataset) -> list[tuple[str, str, str]]:
    """Subject, recipe and what it needs, of every recipe that was refused."""
    found = json.loads(board.attrs["refused"])
    return [(subject, recipe, why) for subject, recipes in found.items() for recipe, why in recipes.items()]
