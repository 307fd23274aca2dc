"""Claim: in a browser, a report's tables sort, its tabs and sliders move by keyboard, and its theme turns.

Skipped where there is no chromium with its driver.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import headless
import numpy as np
import pytest
from PIL import Image

from studies.report.page import page
from studies.sources.source import open_source

pytestmark = pytest.mark.skipif(
    headless.BROWSER is None or headless.DRIVER is None, reason="needs chromium and chromedriver"
)

COLUMN = """
const table = document.querySelectorAll("table.sortable")[arguments[0]];
return [...table.tBodies[0].rows].map((row) => row.cells[arguments[1]].textContent);
"""
SORT = 'return document.querySelectorAll("table.sortable")[arguments[0]].tHead.rows[0].cells[arguments[1]]'
SELECTED = (
    """return [...document.querySelectorAll('[role="tab"][aria-selected="true"]')].map((tab) => tab.textContent)"""
)
SHOWN = 'return [...document.querySelectorAll(".tabbed > .view")].filter((view) => !view.hidden).length'
PAPER = "return getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def file(made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(open_source(made.path)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(file, tmp_path_factory: pytest.TempPathFactory) -> Iterator[headless.Browser]:
    found = headless.Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _fresh(browser, file) -> None:
    browser.open(file)


def test_page__runs_its_script_and_nothing_that_a_store_holds(browser) -> None:
    assert browser.run('return document.documentElement.classList.contains("scripted")')
    assert browser.run("return document.images.length") == 0
    assert browser.run('return performance.getEntriesByType("resource").length') == 0


def test_tables__sort_by_click_and_by_key_and_say_so(browser) -> None:
    results, final = 1, 1
    browser.run(f'{SORT}.querySelector("button").focus()', results, final)
    orders = []
    for _ in range(2):
        browser.press("enter")
        values = [float(text.split(" ± ")[0]) for text in browser.run(COLUMN, results, final)]
        orders.append((browser.run(f'{SORT}.getAttribute("aria-sort")', results, final), values))
    assert orders == [("ascending", sorted(orders[0][1])), ("descending", sorted(orders[0][1], reverse=True))]
    assert "descending" in browser.run('return document.querySelector("[aria-live]").textContent')
    browser.run(f'{SORT}.querySelector("button").click()', results, 0)
    assert browser.run(COLUMN, results, 0) == ["W4A4", "W8A8"]
    assert browser.run(f'{SORT}.getAttribute("aria-sort")', results, final) == "none"


def test_tabs__show_one_view_and_move_by_arrow_keys(browser) -> None:
    groups = len(browser.run(SELECTED))
    assert groups >= 2
    assert browser.run(SHOWN) == groups
    before = browser.run(SELECTED)[0]
    browser.run("""document.querySelector('[role="tab"][aria-selected="true"]').focus()""")
    seen = [before]
    for key in ("right", "left", "end", "home"):
        browser.press(key)
        seen.append(browser.run(SELECTED)[0])
        assert browser.run("return document.activeElement.textContent") == seen[-1]
        assert browser.run(SHOWN) == groups
    assert seen[1] != before
    assert (seen[2], seen[4]) == (before, before)


def test_explorer__the_slider_moves_over_steps_by_key(browser) -> None:
    told = 'return document.querySelector(".explorer output").textContent'
    values = 'return [...document.querySelectorAll(".explorer .value")].map((one) => one.textContent)'
    browser.run("""document.querySelector('.explorer input[type="range"]').focus()""")
    assert browser.run(told).startswith("1 of 4, t = ")
    first = browser.run(values)
    browser.press("end")
    assert browser.run(told) == "4 of 4, t = 0"
    assert browser.run(values) != first
    browser.run('document.querySelectorAll(".explorer .bars button")[2].click()')
    assert browser.run('return document.querySelector(".course h4").textContent').startswith("first:conv2d")


@pytest.mark.parametrize("dark", [False, True])
def test_theme__follows_the_system_and_a_button_turns_it(file, tmp_path, dark: bool) -> None:
    found = headless.Browser(tmp_path / "profile", dark)
    try:
        found.open(file)
        papers, lightness = [], []
        for _ in range(3):  # the system's, light, dark
            papers.append(found.run(PAPER))
            lightness.append(float(np.asarray(Image.open(io.BytesIO(found.picture())).convert("L")).mean()))
            found.run('document.getElementById("theme").click()')
        assert papers[0] == papers[2 if dark else 1]
        assert papers[1] != papers[2]
        assert lightness[1] > 200
        assert lightness[2] < 80
    finally:
        found.close()
