"""Claim: the figure draws every row's final SQNR over its cost with its interval, a panel per subject."""

from __future__ import annotations

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from board_cells import cell, refused

from studies.plots import style
from studies.plots.pareto import MARKERS
from studies.plots.scoreboard import KINDS, plot_scoreboard, scoreboard_figure
from studies.scoreboard.joining import join
from studies.scoreboard.kinds import Kind
from studies.scoreboard.records import board_records

COSTS = {"w8a8": 0.0625, "w4a8": 0.03125}


@pytest.fixture
def records() -> list[dict]:
    cells = []
    for bits, bops in COSTS.items():
        for index, name in enumerate(("minmax", "a", "b", "lsq", "mixed", "mixed@uniform")):
            like = "lsq" if name == "lsq" else "minmax"
            cost = bops * (1.3 if name == "mixed" else 1.25 if "@" in name else 1)
            finals = 10 + index + np.array([-1.0, 0.0, 1.0]) + 100 * bops
            cells += [
                cell(name, s, final, bits=bits, like=like, bops=cost, weight_bytes=2 * cost)
                for s, final in enumerate(finals)
            ]
    cells += [refused("ptq4dit", seed) for seed in range(3)]
    return board_records(join([*cells, cell("minmax", 0, 5.0, subject="digits-dit", bops=0.03)]))


def drawn(ax) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Points by colour and marker."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line in ax.lines:
        if line.get_marker() not in ("None", "", None):
            found.setdefault((line.get_color(), line.get_marker()), []).append(tuple(np.ravel(line.get_data())))
    return found


@pytest.mark.parametrize("cost", ["bops", "weight_bytes"])
def test_plot__has_a_point_per_row_of_kind_and_width_at_its_cost(records, cost) -> None:
    own = [record for record in records if record["subject"] == "digits-unet"]
    _, ax = plt.subplots()
    plot_scoreboard(own, cost=cost, ax=ax)
    points = drawn(ax)
    assert {key: len(found) for key, found in points.items()} == {
        (color, MARKERS[index]): count
        for index in range(2)
        for color, count in (("black", 1), (style.COLORS[0], 4), (style.COLORS[KINDS["trained"]], 1))
    }
    for record in own:
        if record["state"] == "measured":
            near = [x for found in points.values() for x, y in found if y == record["final_sqnr_db"]]
            assert len(near) == 1
            assert abs(np.log10(near[0] / record[cost])) < 0.061
    plain = [x for found in points.values() for x, y in found]
    assert len(set(plain)) == len(plain)  # equal costs stand side by side
    bars = [np.ptp(path.vertices[:, 1]) for bar in ax.collections for path in bar.get_paths()]
    width = own[0]["final_sqnr_db_high"] - own[0]["final_sqnr_db_low"]
    assert bars == pytest.approx([width] * 12)
    plt.close("all")


def test_plot__joins_the_front_of_recipes_and_names_the_best_of_each_width(records) -> None:
    own = [record for record in records if record["subject"] == "digits-unet"]
    _, ax = plt.subplots()
    plot_scoreboard(own, ax=ax)
    (front,) = [line for line in ax.lines if line.get_marker() == "None"]
    at = {(record["recipe"], record["bits"]): record["final_sqnr_db"] for record in own}
    expected = [at["lsq", "w4a8"], at["mixed", "w4a8"], at["lsq", "w8a8"], at["mixed", "w8a8"]]
    assert front.get_ydata() == pytest.approx(expected)
    assert [text.get_text() for text in ax.texts] == ["mixed"] * 2  # a companion is no recipe
    plt.close("all")


def test_figure__has_a_panel_per_subject_and_the_same_bytes_each_time(records) -> None:
    figure = scoreboard_figure(records)
    assert [ax.get_title().split(":")[0] for ax in figure.axes] == ["digits-unet", "digits-dit"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["minmax", "calibrated", "trained", "plain bits, same cost", "w8a8", "w4a8"]
    assert style.figure_bytes(figure, "png") == style.figure_bytes(scoreboard_figure(records), "png")
    plt.close("all")


def test_kinds__all_have_a_colour() -> None:
    assert list(KINDS) == [kind.value for kind in Kind]
