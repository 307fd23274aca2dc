"""Cells with made-up numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr

from studies.recipes.catalogue import find
from studies.recipes.recipe import Recipe
from studies.scoreboard.board import Cell
from studies.scoreboard.companions import Schedule, companion
from studies.scoreboard.measuring import VARIABLES, _dataset

SEEDS = np.array([12.0, 14.0, 13.0, 15.0, 11.0])
"""Final SQNR of minmax: seeds differ far more than recipes do within a seed."""


def cell(
    recipe: str, seed: int, final: float, *, bits: str = "w4a8", subject: str = "digits-unet", like: str = "minmax",
    **values: float,
) -> xr.Dataset:  # fmt: skip
    """A measured cell; ``like`` names the shipped recipe whose kind it has."""
    own = dict.fromkeys(VARIABLES, 1.0) | {"final_sqnr_db": final, "diverged": 0.0} | values
    return _dataset(_like(like), Cell(recipe, bits, subject, seed), own, np.zeros(2), {})


def refused(recipe: str, seed: int, why: str = "it needs a skip", *, like: str = "minmax") -> xr.Dataset:
    """A cell of a recipe that the subject cannot have."""
    return _dataset(_like(like), Cell(recipe, "w4a8", "digits-unet", seed), {}, np.zeros(2), {"refused": why})


def gains(recipe: str, values: list[float], **how: str) -> list[xr.Dataset]:
    """Cells of a recipe by what it gains over minmax in each seed."""
    return [cell(recipe, seed, SEEDS[seed] + gain, **how) for seed, gain in enumerate(values)]


def _like(name: str) -> Recipe:
    base, _, schedule = name.partition("@")
    return companion(find(base), Schedule(schedule)) if schedule else find(base)
