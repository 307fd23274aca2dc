"""Claim: the scoreboard goes on where it stopped, measures changed recipes again, says what a refused one needs."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from studies import cli
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

    def measure(board, cell, ref, real, extractor, report):
        cells.append(cell)
        if len(cells) == 3:
            raise KeyboardInterrupt
        if cell.recipe == "ptqd" and cell.seed == 2:
            return measuring._dataset(
                board.recipe(cell.recipe), cell, {}, np.full(2, np.nan), {"refused": "absorption needs noise"}
            ), 0.0
        values = dict.fromkeys(measuring.VARIABLES, float(cell.seed)) | {"kid_full_precision": float("nan")}
        return measuring._dataset(board.recipe(cell.recipe), cell, values, np.zeros(2), {}), 1.5

    monkeypatch.setattr(measuring, "measure_cell", measure)
    monkeypatch.setattr(reference.Reference, "draw", classmethod(lambda cls, *_: None))
    return cells


def test_scoreboard__goes_on_where_it_stopped(monkeypatch, capsys, tmp_path, measured) -> None:
    command = (*SMALL, "--out", str(tmp_path))
    assert qnoise(monkeypatch, *command) == 130
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("*.nc"))) == 2
    capsys.readouterr()
    assert qnoise(monkeypatch, *command, "--json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [row["recipe"] for row in found["rows"]] == ["minmax", "ptqd"]
    assert found["refused"] == [{"subject": "digits-unet", "recipe": "ptqd", "needs": "absorption needs noise"}]
    assert len(measured) == 7  # six cells, and the interrupted one
    assert json.loads((folder / "seconds.json").read_text())["digits-unet-0-w4a8-minmax.nc"] == 1.5
    before = (folder / "scoreboard.nc").read_bytes()
    assert qnoise(monkeypatch, *command) == 0
    table = capsys.readouterr().out
    assert "quick preset: not to be quoted" in table
    assert "ptqd on digits-unet: absorption needs noise" in table
    assert len(measured) == 7
    assert (folder / "scoreboard.nc").read_bytes() == before
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


@pytest.mark.slow
def test_cell__holds_every_variable_and_the_same_bytes_for_the_same_seed(one_thread) -> None:
    from studies.quality.feature_sets import load_features
    from studies.quality.real_images import real_images
    from studies.store import dataset_bytes

    board = Board(
        ("minmax",), bits=("w4a8",), subjects=("digits-unet",), steps=2, samples=320, injected_samples=16,
        allow_small=True,
    )  # fmt: skip
    drawn = Reference.draw(board, "digits-unet", 1, lambda *_: None)
    cell = Cell("minmax", "w4a8", "digits-unet", 1)
    extractor, real = load_features("digits-classifier"), real_images("digits").real
    first, again = (measuring.measure_cell(board, cell, drawn, real, extractor, lambda *_: None)[0] for _ in range(2))
    assert dataset_bytes(first) == dataset_bytes(again)
    assert all(np.isfinite(first[name]) for name in measuring.VARIABLES)
    assert float(first.bops) == pytest.approx(0.0316, abs=0.0005)
    error = drawn.images - drawn.repeat
    assert float(first.final_sqnr_db) > 10 * np.log10((drawn.images**2).sum() / (error**2).sum())
