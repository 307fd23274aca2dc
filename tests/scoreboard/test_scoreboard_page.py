"""Claim: the pages' tables are those of the published board, and every recipe has a page with equations."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from board_cells import SEEDS, cell, gains, refused

from samplers import BadInput
from studies.recipes.catalogue import shipped
from studies.scoreboard.board import Board, Cell
from studies.scoreboard.published import published
from studies.scoreboard.timing import note_seconds
from studies.store.files import dataset_bytes, read

ROOT = Path(__file__).resolve().parents[2]

CONFIG = {"steps": 20, "samples": 2048, "threads": 2}


def generator():
    spec = importlib.util.spec_from_file_location("generate_scoreboard", ROOT / "docs" / "generate_scoreboard.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A board that was stopped: minmax whole, ptqd at one width, svdquant with companions at one seed, repq refused."""
    cells = [*gains("minmax", [0.0] * 5), *gains("ptqd", [0.5, 0.6, 0.4, 0.5, 0.55], like="ptqd")]
    cells += [
        cell("minmax", 0, 21.0, bits="w8a8"),
        *(refused("repq", s, "it needs |norms|", like="repq") for s in range(5)),
    ]
    cells += [cell(f"svdquant{at}", 0, SEEDS[0] + 2, like=f"svdquant{at}") for at in ("", "@uniform", "@random")]
    path = tmp_path_factory.mktemp("board")
    for one in cells:
        at = Cell(*(one[name].item() for name in ("recipe", "bits", "subject", "seed")))
        (path / at.file).write_bytes(dataset_bytes(one))
        note_seconds(path, at, 2.0 + one.seed.item())
    (path / "board.json").write_text(json.dumps(CONFIG))
    return path


def test_pages__are_what_the_generator_writes() -> None:
    for path, text in generator().pages().items():
        assert text == path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("recipe", shipped())
def test_pages__say_how_a_recipe_computes(recipe) -> None:
    text = (generator().RECIPES / f"{recipe}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {recipe}\n")
    equations = text.split("## Equations\n")[1].split("More: ")[0]
    assert len(re.findall(r"^    \S", equations, re.MULTILINE)) >= 1
    for page in re.findall(r"\]\(([^)]+\.md)\)", text):
        assert (generator().RECIPES / page).exists(), page


def test_pages__say_what_is_measured_and_dashes_for_the_rest(folder, tmp_path) -> None:
    made, results = generator(), tmp_path / "published.nc"
    results.write_bytes(dataset_bytes(published(folder)))
    pages = made.pages(results)
    page = pages[made.PAGE]
    assert "| ptqd | - | 13.51 ± 1.93 (2) |" not in page
    assert re.search(r"\| ptqd \| - \| 13\.51 ± \d\.\d\d \(1\) \|", page)
    assert re.search(r"\| minmax \| 21\.00 \| 13\.00 ± 1\.96 \(2\) \|", page)
    assert "- repq on digits-unet: it needs |norms|" in page
    assert "Made by `qnoise scoreboard --recipe minmax" in page
    assert "### digits-unet, w4a8" in page
    assert re.search(r"\| svdquant@uniform \| 1 \| - \|", page)
    row = r"\| digits-unet \| w4a8 \| ptqd \| 5 \| 1 \| 13\.51 ± \d\.\d\d \| \+0\.51 ± 0\.09 \|"
    assert re.search(row, pages[made.RECIPES / "ptqd.md"])
    assert made.NOTHING in pages[made.RECIPES / "d2-dpm.md"]
    assert "| digits-unet | w4a8 | svdquant@random | 1 |" in pages[made.RECIPES / "svdquant.md"]
    assert not any(re.search(r"\bnan\b", text) for text in pages.values())
    wanted = len(Board(tuple(shipped())).cells)
    assert f"\n17 of {wanted} cells have been measured" in page  # 2 x 5, one at w8a8, 5 refused, 1 without companions
    assert f"\n17 of {wanted} cells have been measured" in pages[made.README]


def test_pages__without_a_published_board_say_so(tmp_path) -> None:
    made = generator()
    pages = made.pages(tmp_path / "nothing.nc")
    assert made.NOTHING in pages[made.PAGE]
    assert made.NOTHING in pages[made.RECIPES / "lsq.md"]


def test_published__keeps_numbers_times_and_the_command(folder) -> None:
    board = published(folder)
    assert float(board.seconds.sel(recipe="ptqd", bits="w4a8", subject="digits-unet", seed=3)) == 5
    finals = board.final_sqnr_db.sel(recipe="minmax", bits="w4a8", subject="digits-unet")
    np.testing.assert_allclose(finals, SEEDS)
    assert board.attrs["command"] == (
        "qnoise scoreboard --recipe minmax --recipe ptqd --recipe repq --recipe svdquant --bits w8a8 --bits w4a8 "
        "--subject digits-unet --threads 2"
    )
    assert len(dataset_bytes(board)) < 100_000


def test_published__leaves_out_cells_of_recipes_that_have_changed(folder, tmp_path) -> None:
    (tmp_path / "board.json").write_text(json.dumps(CONFIG))
    for each in folder.glob("*-ptqd.nc"):
        shutil.copy(each, tmp_path)
    path = tmp_path / "digits-unet-2-w4a8-ptqd.nc"
    stale = read(path).assign_attrs(stages="{}")
    path.write_bytes(dataset_bytes(stale))
    assert published(tmp_path).seed.values.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize("config", [None, {**CONFIG, "preset": "quick"}])
def test_published__refuses_a_quick_preset_and_no_board(folder, tmp_path, config) -> None:
    shutil.copy(folder / "digits-unet-0-w4a8-minmax.nc", tmp_path)
    if config is not None:
        (tmp_path / "board.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="quick preset is not published" if config else r"holds board\.json"):
        published(tmp_path)
