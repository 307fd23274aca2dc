"""Claim: rows are means over seeds with Student's interval, gains are paired, ranks count what is surely better."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from samplers import BadInput
from studies.recipes.catalogue import find
from studies.scoreboard.board import Board, Cell
from studies.scoreboard.measuring import VARIABLES, _dataset
from studies.scoreboard.table import HEADER, board_records, board_rows, join, over_seeds

SEEDS = np.array([12.0, 14.0, 13.0, 15.0, 11.0])
"""Final SQNR of minmax: seeds differ far more than recipes do within a seed."""


def cell(recipe: str, seed: int, final: float) -> xr.Dataset:
    values = dict.fromkeys(VARIABLES, 1.0) | {"final_sqnr_db": final}
    return _dataset(find("minmax"), Cell(recipe, "w4a8", "digits-unet", seed), values, np.zeros(2), {})


def board(**gains: list[float]) -> xr.Dataset:
    """Recipes by what they gain over minmax in each seed."""
    every = {"minmax": [0.0] * 5} | {name.replace("_", "-"): gain for name, gain in gains.items()}
    return join([cell(name, s, SEEDS[s] + gain[s]) for s in range(5) for name, gain in every.items()])


def test_over_seeds__is_students_interval() -> None:
    expected = stats.t.interval(0.95, 4, SEEDS.mean(), stats.sem(SEEDS))
    np.testing.assert_allclose(over_seeds(SEEDS), (SEEDS.mean(), *expected))
    assert math.isnan(over_seeds(np.array([1.0, np.nan, 2.0]))[0])


def test_records__pair_recipes_within_a_seed() -> None:
    sure, unsure = [0.5, 0.6, 0.4, 0.5, 0.55], [2.0, -1.5, 0.3, 1.0, -0.8]
    found = {r["recipe"]: r for r in board_records(board(sure=sure, unsure=unsure, worse=[-1.0, -1.1, -0.9, -1, -1]))}
    assert found["sure"]["final_sqnr_db_gain_low"] > 0.3  # though its own interval overlaps minmax's almost wholly
    assert found["sure"]["final_sqnr_db_low"] < found["minmax"]["final_sqnr_db"]
    assert found["unsure"]["final_sqnr_db_gain_low"] < 0 < found["unsure"]["final_sqnr_db_gain_high"]
    assert found["minmax"]["final_sqnr_db_gain"] == 0
    assert {name: r["rank"] for name, r in found.items()} == {"sure": 1, "unsure": 1, "minmax": 2, "worse": 3}


def test_records__leave_a_refused_recipe_without_rank_and_out_of_the_others() -> None:
    cells = [cell("minmax", s, SEEDS[s]) for s in range(5)]
    key = ("ptq4dit", "w4a8", "digits-unet")
    refused = [_dataset(find("minmax"), Cell(*key, s), {}, np.zeros(2), {"refused": "no"}) for s in range(5)]
    records = board_records(join([*cells, *refused]))
    assert [(r["recipe"], r["rank"]) for r in records] == [("minmax", 1), ("ptq4dit", None)]
    rows = board_rows(records, {("digits-unet", "w4a8", "minmax"): 3.25})
    assert all(len(row) == len(HEADER) for row in rows)
    assert rows[0][-1] == "3.25"
    assert rows[1][1:4] == ["-", "-", "-"]


def test_rows__are_ordered_by_rank() -> None:
    rows = board_rows(board_records(board(better=[1, 1.1, 0.9, 1, 1], best=[2, 2.1, 1.9, 2, 2])), {})
    assert [row[0] for row in rows] == ["best", "better", "minmax"]
    assert [row[1] for row in rows] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"recipes": ("nothing",)}, "there must be a recipe"),
        ({"recipes": ("ptqd", "ptqd")}, "recipes must differ"),
        ({"recipes": ("ptqd",), "bits": ("w4",)}, "written as w4a8"),
        ({"recipes": ("ptqd",), "bits": ("w4a8", "W4A8")}, "bits must differ"),
        ({"recipes": ("ptqd",), "seeds": 2}, "seeds"),
        ({"recipes": ("ptqd",), "subjects": ()}, "subjects must differ"),
    ],
)
def test_board__refuses_bad_input(given, says) -> None:
    with pytest.raises(BadInput, match=says):
        Board(**given)


def test_board__holds_minmax_and_keeps_a_subject_and_seed_together() -> None:
    made = Board(("ptqd",), bits=("w4a8", "w8a8"), seeds=3)
    assert made.recipes == ("minmax", "ptqd")
    keys = [(one.subject, one.seed) for one in made.cells]
    assert len(keys) == 2 * 2 * 2 * 3
    assert [key for key, before in zip(keys[1:], keys[:-1], strict=True) if key != before] == [
        ("digits-unet", 1), ("digits-unet", 2), ("digits-dit", 0), ("digits-dit", 1), ("digits-dit", 2),
    ]  # fmt: skip
    assert len({one.file for one in made.cells}) == len(made.cells)
