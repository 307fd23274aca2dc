"""Claim: the scoreboard goes on where it stopped, measures changed recipes again, says what a refused one needs, and
puts companions beside mixed bits."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from studies import cli
from studies.plots import scoreboard as figures
from studies.recipes.catalogue import find
from studies.scoreboard import measuring, reference
from studies.scoreboard.board import Board, Cell
from studies.scoreboard.reference import Reference

SMALL = ("--quick", "--recipe", "ptqd", "--steps", "2", "--threads", "1")


def qnoise(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qnoise", "scoreboard", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@pytest.fixture
def measured(monkeypatch) -> list[Cell]:
    """Cells with made-up numbers; ptqd is refused at seed 2, and the third cell is interrupted once."""
    cells: list[Cell] = []

    def measure(board, cell, ref, real, extractor, report, unfinished):
        cells.append(cell)
        unfinished.mkdir(parents=True, exist_ok=True)
        (unfinished / "training").touch()
        if len(cells) == 3:
            raise KeyboardInterrupt
        if cell.recipe == "ptqd" and cell.seed == 2:
            return measuring._dataset(
                board.recipe(cell.recipe), cell, {}, np.full(2, np.nan), {"refused": "absorption needs noise"}
            ), 0.0
        values = dict.fromkeys(measuring.VARIABLES, float(cell.seed)) | {"kid_full_precision": float("nan")}
        mixed = {"mixed": "yes"} if cell.recipe == "svdquant" else {}
        return measuring._dataset(board.recipe(cell.recipe), cell, values | {"diverged": 0.0}, np.zeros(2), mixed), 1.5

    monkeypatch.setattr(measuring, "measure_cell", measure)
    monkeypatch.setattr(figures, "scoreboard_figure", lambda records: Figure((1, 1)))  # which takes longer
    monkeypatch.setattr(reference.Reference, "draw", classmethod(lambda cls, *_: None))
    return cells


def test_scoreboard__goes_on_where_it_stopped(monkeypatch, capsys, tmp_path, measured) -> None:
    command = (*SMALL, "--out", str(tmp_path))
    assert qnoise(monkeypatch, *command) == 130
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("*.nc"))) == 2
    assert (folder / "unfinished" / "digits-unet-1" / "training").exists()
    capsys.readouterr()
    assert qnoise(monkeypatch, *command, "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [row["recipe"] for row in found["rows"]] == ["minmax", "ptqd"]
    assert found["refused"] == [{"subject": "digits-unet", "recipe": "ptqd", "needs": "absorption needs noise"}]
    assert len(measured) == 7  # six cells, and the interrupted one
    assert not list((folder / "unfinished").iterdir())
    assert json.loads((folder / "seconds" / "digits-unet-0-w4a8-minmax.json").read_text()) == {"seconds": 1.5}
    before = (folder / "scoreboard.nc").read_bytes()
    assert qnoise(monkeypatch, *command) == 0
    table = capsys.readouterr().out
    assert "quick preset: not to be quoted" in table
    assert "ptqd on digits-unet: absorption needs noise" in table
    assert len(measured) == 7
    assert (folder / "scoreboard.nc").read_bytes() == before
    assert "refused" in (folder / "table.tex").read_text()
    assert "quick preset: not to be quoted" in (folder / "table.html").read_text()
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert qnoise(monkeypatch, *command, "--bits", "w8a8") == 0
    assert len(measured) == 13
    assert len(list(tmp_path.iterdir())) == 1  # added to what is there


def test_scoreboard__measures_a_recipe_again_that_has_changed(monkeypatch, tmp_path, measured) -> None:
    command = (*SMALL, "--out", str(tmp_path))
    measured.extend([Cell("", "", "", 0)] * 3)  # no interruption
    assert qnoise(monkeypatch, *command) == 0
    assert len(measured) == 9
    recipe = find("ptqd")
    monkeypatch.setattr(type(recipe.stages[0]), "config", lambda self: {"samples": -1})
    assert qnoise(monkeypatch, *command) == 0
    assert len(measured) == 15


def test_scoreboard__measures_companions_of_mixed_bits(monkeypatch, capsys, tmp_path, measured) -> None:
    measured.extend([Cell("", "", "", 0)] * 3)  # no interruption
    command = ("--quick", "--recipe", "svdquant", "--threads", "1", "--out", str(tmp_path), "--json")
    assert qnoise(monkeypatch, *command) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    names = ["minmax", "svdquant", "svdquant@uniform", "svdquant@random"]
    assert [row["recipe"] for row in rows] == names
    assert [cell.recipe for cell in measured[3:]] == names * 3
    assert [one["control"] for one in rows[1]["against"]] == names[2:]
    assert qnoise(monkeypatch, *command) == 0
    assert len(measured) == 15


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--recipe", "ptqq"), "one of ptqd"),
        (("--bits", "w4"), "written as w4a8"),
        (("--subject", "gaussian-mixture"), "those of 8x8 digits"),
        (("--subject", "nothing"), "digits-unet"),
        (("--seeds", "2"), "--seeds"),
    ],
)
def test_scoreboard__bad_input_exits_with_2_before_the_work(monkeypatch, capsys, tmp_path, arguments, says) -> None:
    assert qnoise(monkeypatch, *arguments, "--out", str(tmp_path / "results")) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


BOARD = Board(
    ("minmax",), bits=("w8a7", "w8a5", "w8a4", "w3a3", "w4a8"), subjects=("digits-unet",), steps=2, samples=320,
    injected_samples=16, allow_small=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def drawn(one_thread) -> Reference:
    return Reference.draw(BOARD, "digits-unet", 1, lambda *_: None)


def measure(drawn, bits: str, recipe: str = "minmax", board: Board = BOARD):
    from studies.quality.feature_sets import load_features
    from studies.quality.real_images import real_images

    extractor, real = load_features("digits-classifier"), real_images("digits").real
    cell = Cell(recipe, bits, "digits-unet", 1)
    return measuring.measure_cell(board, cell, drawn, real, extractor, lambda *_: None)[0]


@pytest.mark.slow
def test_cell__holds_every_variable_and_the_same_bytes_for_the_same_seed(drawn) -> None:
    from studies.store.files import dataset_bytes

    first, again = measure(drawn, "w4a8"), measure(drawn, "w4a8")
    assert dataset_bytes(first) == dataset_bytes(again)
    assert all(np.isfinite(first[name]) for name in measuring.VARIABLES)
    assert first.diverged == 0
    assert "mixed" not in first.attrs
    assert float(first.bops) == pytest.approx(0.0316, abs=0.0005)
    error = drawn.images - drawn.repeat
    assert float(first.final_sqnr_db) > 10 * np.log10((drawn.images**2).sum() / (error**2).sum())


@pytest.mark.slow
def test_cell__of_other_widths_costs_and_spoils_as_they_do(drawn) -> None:
    found = [measure(drawn, bits) for bits in BOARD.bits[:4]]
    for name in ("bops", "final_sqnr_db"):
        values = [float(one[name]) for one in found]
        assert values == sorted(values, reverse=True)


@pytest.mark.slow
def test_cell__of_mixed_bits_asks_for_companions_which_cost_no_more(drawn) -> None:
    base = measure(drawn, "w4a4", "svdquant")
    assert base.attrs["mixed"] == "yes"
    for schedule in ("uniform", "random"):
        beside = measure(drawn, "w4a4", f"svdquant@{schedule}")
        assert "mixed" not in beside.attrs
        assert 0.7 < float(beside.budget_share) <= 1
        assert float(beside.bops) == pytest.approx(float(base.bops) * float(beside.budget_share))


def test_cell__whose_samples_are_not_finite_is_diverged(monkeypatch, drawn) -> None:
    spoiled = drawn.images.copy()
    spoiled[7, 0, 3, 3] = np.nan
    monkeypatch.setattr(measuring, "final_images", lambda *_, **__: spoiled)
    monkeypatch.setattr(measuring, "measure", lambda *_, **__: pytest.fail("images were passed on"))
    found = measure(drawn, "w4a8", "dynamic-max")
    assert found.diverged == 1
    assert np.isnan(found.final_sqnr_db)
    assert np.isnan(found.step_sqnr_db).all()
    assert np.isfinite(found.bops)


@dataclasses.dataclass(frozen=True)
class Diverging:
    """A stage whose optimisation was stopped."""

    name = "training"

    def config(self) -> dict:
        return {}

    def require(self, task) -> None:
        pass

    def apply(self, preparation, report):
        return preparation.noting(self.name, diverged=True, judgements=[[100, float("nan")]])


def test_cell__says_that_it_diverged_and_its_log_is_json(monkeypatch, drawn) -> None:
    recipe = find("dynamic-max")
    monkeypatch.setattr(Board, "recipe", lambda *_: dataclasses.replace(recipe, stages=(*recipe.stages, Diverging())))
    monkeypatch.setattr(measuring, "final_images", lambda *_, **__: drawn.images + np.float32(0.01))
    found = measure(drawn, "w4a8")
    assert found.diverged == 1
    assert found.attrs["kind"] == "trained"
    assert json.loads(found.attrs["log"])["training"] == {"diverged": True, "judgements": [[100, None]]}


@pytest.mark.parametrize(
    ("log", "share"),
    [
        ({}, 0.0),
        ({"ranges": {"points_per_step": [1]}}, 0.0),
        ({"training": {"diverged": False}}, 0.0),
        ({"intervals": {"diverged": 3, "operands": 60, "kept": 57}}, 0.05),
        ({"intervals": {"diverged": 3, "operands": 60}, "reconstruction": {"diverged": True, "units": []}}, 1.0),
    ],
)
def test_diverged_share__is_one_where_an_optimisation_was_stopped(log, share) -> None:
    assert measuring.diverged_share(log) == pytest.approx(share)
