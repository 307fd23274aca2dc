"""The scoreboard's numbers: means over seeds with intervals, paired gains, ranks that overlapping rows share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from studies.scoreboard.board import BASELINE, CONTROL, FEWEST_SEEDS
from studies.scoreboard.companions import SEPARATOR, Schedule
from studies.scoreboard.joining import State
from studies.scoreboard.kinds import Kind
from studies.scoreboard.measuring import FACTS, VARIABLES
from studies.seeds import over_seeds

Record = dict[str, Any]

HIGHER_IS_BETTER = "final_sqnr_db"
"""What rows are ranked by, and held against their controls in."""


def board_records(board: xr.Dataset) -> list[Record]:
    """One record per subject, bits and recipe: every variable and its paired difference from ``minmax``, with ends.

    Means are over the seeds that a recipe has, differences over those that both have. ``against`` has the paired
    difference in final SQNR from the controls of the recipe: ``fine-tuned`` where it trains, and its companions where
    its bits are mixed. ``state`` is measured, missing, refused or diverged: a row of which one seed diverged has no
    numbers. A rank counts the recipes whose final SQNR is better beyond doubt: whose paired difference has an interval
    wholly above 0. Recipes that overlap so share a rank; one with fewer than 3 seeds has none, nor have companions.
    """
    records = []
    for subject in map(str, board.subject.values):
        for bits in map(str, board.bits.values):
            rows = _Rows.of(board.sel(subject=subject, bits=bits))
            found = ({"subject": subject, "bits": bits, **_record(rows, recipe)} for recipe in rows.kinds)
            records += [one for one in found if one["state"] != "missing" or SEPARATOR not in one["recipe"]]
    return records


@dataclass(frozen=True)
class _Rows:
    """One subject at one width.

    Attributes:
        kinds: recipe -> its kind.
        state: recipe -> (seed,).
        values: variable -> recipe -> (seed,).
    """

    kinds: Mapping[str, str]
    state: Mapping[str, np.ndarray]
    values: Mapping[str, Mapping[str, np.ndarray]]

    @classmethod
    def of(cls, at: xr.Dataset) -> _Rows:
        names = [str(recipe) for recipe in at.recipe.values]

        def by_recipe(name: str) -> dict[str, np.ndarray]:
            return dict(zip(names, at[name].transpose("recipe", "seed").values, strict=True))

        kinds = dict(zip(names, map(str, at.kind.values), strict=True))
        return cls(kinds, by_recipe("state"), {name: by_recipe(name) for name in (VARIABLES | FACTS)})

    def row_state(self, recipe: str) -> State:
        """Of its cells' states, the one that says most."""
        return State(int(self.state[recipe].max()))

    def seeds(self, recipe: str) -> np.ndarray:
        """Which seeds have numbers to quote, (seed,): none where one of the row diverged or was refused."""
        if recipe not in self.state or self.row_state(recipe) is not State.MEASURED:
            return np.zeros(len(self.state[BASELINE]), bool)
        return np.asarray(self.state[recipe] == State.MEASURED)

    def own(self, name: str, recipe: str) -> np.ndarray:
        """A variable of the recipe's seeds."""
        return self.values[name][recipe][self.seeds(recipe)]

    def difference(self, name: str, recipe: str, other: str) -> np.ndarray:
        """Of the seeds that both have."""
        seeds = self.seeds(recipe) & self.seeds(other)
        return (self.values[name][recipe] - self.values[name][other])[seeds] if seeds.any() else np.empty(0)


def _record(rows: _Rows, recipe: str) -> Record:
    counts = {each.name.lower(): int((rows.state[recipe] == each).sum()) for each in State}
    record: Record = {
        "recipe": recipe, "kind": rows.kinds[recipe], "state": rows.row_state(recipe).name.lower(), "seeds": counts
    }  # fmt: skip
    for name in VARIABLES:
        record |= _ends(name, rows.own(name, recipe))
        record |= _ends(f"{name}_gain", rows.difference(name, recipe, BASELINE))
    for name in FACTS:
        record[name] = float(over_seeds(rows.own(name, recipe))[0])
    against = ((control, rows.difference(HIGHER_IS_BETTER, recipe, control)) for control in _controls(rows, recipe))
    record["against"] = [{"control": name, **_ends(HIGHER_IS_BETTER, found)} for name, found in against if len(found)]
    record["rank"] = _rank(rows, recipe)
    return record


def _controls(rows: _Rows, recipe: str) -> list[str]:
    trained = rows.kinds[recipe] == Kind.TRAINED.value and recipe != CONTROL
    return [*([CONTROL] if trained else []), *(f"{recipe}{SEPARATOR}{schedule.value}" for schedule in Schedule)]


def _ends(name: str, values: np.ndarray) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, over_seeds(values)), strict=True))


def _rank(rows: _Rows, recipe: str) -> int | None:
    if SEPARATOR in recipe or rows.seeds(recipe).sum() < FEWEST_SEEDS:
        return None
    others = (other for other in rows.kinds if SEPARATOR not in other)
    return 1 + sum(bool(over_seeds(rows.difference(HIGHER_IS_BETTER, other, recipe))[1] > 0) for other in others)
