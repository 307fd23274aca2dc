"""Claim: rows are means over seeds with Student's interval, gains are paired, ranks count what is surely better."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from board_cells import SEEDS, cell, gains, refused
from scipy import stats

from samplers import BadInput
from studies.scoreboard.board import Board
from studies.scoreboard.joining import State, gather, join
from studies.scoreboard.records import Record, board_records
from studies.scoreboard.table import HEADER, board_rows, board_tables, row_name, rows_of, summary
from studies.seeds import over_seeds
from studies.store.files import dataset_bytes

MINMAX = gains("minmax", [0.0] * 5)


def records(*cells) -> dict[str, Record]:
    """Of minmax and others, by recipe."""
    every = [*MINMAX, *(one for given in cells for one in given)]
    return {record["recipe"]: record for record in board_records(join(every))}


def test_over_seeds__is_students_interval() -> None:
    expected = stats.t.interval(0.95, 4, SEEDS.mean(), stats.sem(SEEDS))
    np.testing.assert_allclose(over_seeds(SEEDS), (SEEDS.mean(), *expected))
    assert math.isnan(over_seeds(np.array([1.0, np.nan, 2.0]))[0])
    assert math.isnan(over_seeds(np.array([1.0]))[1])


def test_records__pair_recipes_within_a_seed() -> None:
    found = records(
        gains("sure", [0.5, 0.6, 0.4, 0.5, 0.55]), gains("unsure", [2.0, -1.5, 0.3, 1.0, -0.8]),
        gains("worse", [-1.0, -1.1, -0.9, -1, -1]),
    )  # fmt: skip
    assert found["sure"]["final_sqnr_db_gain_low"] > 0.3  # though its own interval overlaps minmax's almost wholly
    assert found["sure"]["final_sqnr_db_low"] < found["minmax"]["final_sqnr_db"]
    assert found["unsure"]["final_sqnr_db_gain_low"] < 0 < found["unsure"]["final_sqnr_db_gain_high"]
    assert found["minmax"]["final_sqnr_db_gain"] == 0
    assert {name: r["rank"] for name, r in found.items()} == {"sure": 1, "unsure": 1, "minmax": 2, "worse": 3}


def test_records__hold_fewer_seeds_against_the_same_seeds_of_others() -> None:
    lsq = gains("lsq", [1.0, 1.1, 0.9], like="lsq")
    control = gains("fine-tuned", [0.4, 0.6, 0.5], like="fine-tuned")
    found = records(lsq, control)
    assert found["lsq"]["final_sqnr_db"] == pytest.approx(SEEDS[:3].mean() + 1.0)
    assert found["lsq"]["final_sqnr_db_gain"] == pytest.approx(1.0)  # over all seeds of minmax it would not be
    low = stats.t.interval(0.95, 2, 1.0, stats.sem([1.0, 1.1, 0.9]))[0]
    assert found["lsq"]["final_sqnr_db_gain_low"] == pytest.approx(low)
    (against,) = found["lsq"]["against"]
    assert (against["control"], against["final_sqnr_db"]) == ("fine-tuned", pytest.approx(0.5))
    assert found["fine-tuned"]["against"] == found["minmax"]["against"] == []
    rows = {row[0]: row for row in board_rows(list(found.values()), {})}
    assert rows["lsq"][HEADER.index("seeds")] == "3"
    assert rows["lsq"][HEADER.index("- control")].startswith("+0.50 ± ")
    assert rows["lsq"][HEADER.index("- control")].endswith(" fine-tuned")


def test_records__leave_a_refused_recipe_without_rank_and_out_of_the_others() -> None:
    found = records([refused("ptq4dit", seed) for seed in range(5)])
    assert {name: record["rank"] for name, record in found.items()} == {"minmax": 1, "ptq4dit": None}
    rows = board_rows(list(found.values()), {("digits-unet", "w4a8", "minmax"): 3.25})
    assert all(len(row) == len(HEADER) for row in rows)
    assert rows[0][-1] == "3.25"
    assert rows[1][1:5] == ("-", "-", "refused", "-")


def test_records__of_a_row_of_which_a_seed_diverged_have_no_numbers() -> None:
    diverged = gains("lsq", [9.0, 9.0, 9.0], like="lsq")
    diverged[1]["diverged"] = ((), 1.0)
    partly = gains("tdq-ptq", [0.5] * 5)
    partly[1]["diverged"] = ((), 0.1)  # some operands, which kept their first scale
    found = records(diverged, partly)
    assert found["lsq"]["state"] == "diverged"
    assert math.isnan(found["lsq"]["final_sqnr_db"])
    assert math.isnan(found["lsq"]["final_sqnr_db_gain"])
    assert found["lsq"]["rank"] is None
    assert found["minmax"]["rank"] == 2  # below tdq-ptq alone
    assert found["tdq-ptq"]["diverged"] == pytest.approx(0.02)
    rows = {row[0]: row for row in board_rows(list(found.values()), {})}
    assert rows["lsq"][HEADER.index("final SQNR, dB")] == "diverged (1 of 3)"
    assert rows["lsq"][HEADER.index("- minmax")] == "-"
    (shown,) = rows_of(list(found.values()), {}, "lsq").rows
    assert shown[:3] == ("digits-unet", "w4a8", "lsq")
    assert "diverged (1 of 3)" in shown


def test_rows__are_ordered_by_rank_with_companions_under_their_recipe() -> None:
    mixed = gains("mixed", [2, 2.1, 1.9, 2, 2])
    uniform = [cell("mixed@uniform", s, SEEDS[s] - 1, budget_share=0.93) for s in range(5)]
    random = [cell("mixed@random", s, SEEDS[s] + 3, budget_share=0.9999) for s in range(5)]
    found = records(gains("better", [1, 1.1, 0.9, 1, 1]), mixed, uniform, random)
    rows = board_rows(list(found.values()), {})
    names = [row[0] for row in rows]
    assert names == ["mixed", "mixed@uniform (93.0% of its BOPs)", "mixed@random", "better", "minmax"]
    assert [row[2] for row in rows] == ["1", "-", "-", "2", "3"]  # no method, hence no rank, and none lost to it
    assert rows[0][HEADER.index("- control")] == "+3.00 ± 0.09 @uniform; -1.00 ± 0.09 @random"


def test_partial_board__shows_dashes_and_no_rank_of_few_seeds() -> None:
    one = cell("ptqd", 0, 20.0)
    other = cell("minmax", 0, 11.0, bits="w8a8")
    found = board_records(join([*MINMAX, one, other]))
    by = {(record["recipe"], record["bits"]): record for record in found}
    assert by["ptqd", "w4a8"]["rank"] is None  # of one seed, though it is best
    assert by["minmax", "w4a8"]["rank"] == 1
    assert by["ptqd", "w8a8"]["state"] == "missing"
    assert summary(found, "digits-unet").rows == (
        ("minmax", "13.00 ± 1.96 (1)", "11.00"), ("ptqd", "20.00", "-"),
    )  # fmt: skip
    assert [row[:4] for row in rows_of(found, {}, "ptqd").rows] == [
        ("digits-unet", "w4a8", "ptqd", "1"), ("digits-unet", "w8a8", "ptqd", "-"),
    ]  # fmt: skip
    assert rows_of(found, {}, "nowhere").rows == ()
    wide = board_tables(found, {})[1]
    assert wide.rows[1][1:] == ("-", "-", "-", "-", "", *["-"] * 8)


def test_join__says_what_there_is_of_each_cell() -> None:
    board = join([*MINMAX, cell("ptqd", 0, 20.0, diverged=1.0), refused("repq", 0)])
    state = board.state.sel(bits="w4a8", subject="digits-unet")
    assert state.sel(recipe="ptqd").values.tolist() == [State.DIVERGED, *[State.MISSING] * 4]
    assert state.sel(recipe="repq", seed=0) == State.REFUSED
    assert json.loads(board.attrs["refused"]) == {"digits-unet": {"repq": "it needs a skip"}}
    assert board.step_sqnr_db.sizes["step"] == 2


def test_gather__finds_cells_in_one_order_whatever_wrote_them(tmp_path) -> None:
    cells = [
        cell("minmax", 0, 1.0), cell("minmax", 1, 1.0), cell("a@uniform", 0, 1.0), cell("a", 0, 1.0),
        cell("a", 0, 1.0, bits="w8a8"), cell("a", 0, 1.0, subject="digits-dit"),
    ]  # fmt: skip
    for index, one in enumerate(reversed(cells)):
        (tmp_path / f"{index}.nc").write_bytes(dataset_bytes(one))
    (tmp_path / "scoreboard.nc").write_bytes(dataset_bytes(join(cells)))
    found = [tuple(one[name].item() for name in ("subject", "bits", "recipe", "seed")) for one in gather(tmp_path)]
    assert found == [
        ("digits-unet", "w8a8", "a", 0), ("digits-unet", "w4a8", "minmax", 0), ("digits-unet", "w4a8", "minmax", 1),
        ("digits-unet", "w4a8", "a", 0), ("digits-unet", "w4a8", "a@uniform", 0), ("digits-dit", "w4a8", "a", 0),
    ]  # fmt: skip


def test_row_name__says_what_a_companion_spent() -> None:
    assert row_name({"recipe": "a@uniform", "budget_share": 0.96}) == "a@uniform (96.0% of its BOPs)"
    assert row_name({"recipe": "a", "budget_share": math.nan}) == "a"


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
    made = Board(("ptqd",), bits=("w4a8", "w8a7"), seeds=3)
    assert made.recipes == ("minmax", "ptqd")
    keys = [(one.subject, one.seed) for one in made.cells]
    assert len(keys) == 2 * 2 * 2 * 3
    assert [key for key, before in zip(keys[1:], keys[:-1], strict=True) if key != before] == [
        ("digits-unet", 1), ("digits-unet", 2), ("digits-dit", 0), ("digits-dit", 1), ("digits-dit", 2),
    ]  # fmt: skip
    assert len({one.file for one in made.cells}) == len(made.cells)


def test_board__gives_recipes_that_train_three_seeds_and_their_control() -> None:
    made = Board(("ptqd", "s_n"), bits=("w3a3",), subjects=("digits-unet",))
    assert made.recipes == ("minmax", "ptqd", "s_n", "fine-tuned")
    seeds = {name: [one.seed for one in made.cells if one.recipe == name] for name in made.recipes}
    assert seeds == {"minmax": [*range(5)], "ptqd": [*range(5)], "s_n": [0, 1, 2], "fine-tuned": [0, 1, 2]}
