"""Claim: the figures of policies draw the table's numbers: bits as rows of steps, cost against final SQNR."""

from __future__ import annotations

import json

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from studies.plots.bits import bits_figure, plot_bits
from studies.plots.pareto import pareto_figure, plot_pareto
from studies.plots.style import figure_bytes
from studies.precision.command import precision_rows

RULES = {
    "w8a4": {"rule": "uniform"},
    "w8a8": {"rule": "uniform"},
    "ptqd-power": {"rule": "ptqd", "reading": "power"},
    "exact-1": {"rule": "budget", "method": "exact"},
    "exact-2": {"rule": "budget", "method": "exact"},
}
NAMES = list(RULES)


@pytest.fixture
def table() -> xr.Dataset:
    bits = np.array([[4] * 6, [8] * 6, [4, 4, 4, 6, 8, 8], [8, 4, 4, 4, 4, 6], [8, 8, 4, 6, 6, 8]])
    sqnr = np.array([5.0, 20.0, 12.0, 9.0, 15.0])
    first = ("policy",)
    data = {
        "activation_bits": (("policy", "step", "group"), bits[..., None]),
        "total_bops": (first, bits.sum(1) * 10**9),
        "mean_activation_bits": (first, bits.mean(1)),
        "injected_sqnr_db": (("policy", "step"), np.tile(sqnr[:, None], 6)),
        "final_sqnr_db": (first, sqnr),
        "final_sqnr_db_low": (first, sqnr - [1, 1, 1, np.nan, 1]),
        "final_sqnr_db_high": (first, sqnr + np.array([2, 2, 2, np.nan, 2])),
        "final_median_db": (first, sqnr + 1),
        "final_noise_power": (first, 10 ** (-sqnr / 10)),
        "predicted_noise_power": (first, 10 ** (-sqnr / 10)),
    }
    for end, shift in (("", 0), ("_low", -1), ("_high", 1)):
        data[f"final_difference_db{end}"] = (("policy", "baseline"), sqnr[:, None] - sqnr[:2] + shift)
    coords = {"policy": NAMES, "baseline": NAMES[:2], "group": ["all"], "timestep": ("step", np.arange(6)[::-1] * 10)}
    return xr.Dataset(data, coords, {"rules": json.dumps(RULES), "same": json.dumps({"greedy-1": "exact-1"})})


def drawn(ax) -> np.ndarray:
    return np.asarray(ax.collections[0].get_array()).reshape(-1, 6)


def test_plot_bits__has_a_row_per_policy_and_a_column_per_step(table) -> None:
    _, ax = plt.subplots()
    plot_bits(table, ax=ax)
    np.testing.assert_array_equal(drawn(ax), table.activation_bits[..., 0])
    assert [label.get_text() for label in ax.get_yticklabels()] == NAMES
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top
    assert ax.get_xticklabels()[0].get_text() == "50"  # training timesteps
    plt.close("all")


def test_plot_bits__gives_groups_rows_only_where_they_differ(table) -> None:
    both = xr.concat([table.activation_bits, table.activation_bits.copy()], "group")
    both = both.assign_coords(group=["rest", "attention"])
    both[3, :, 1] = 4
    grouped = table.drop_dims("group").assign(activation_bits=both)
    _, ax = plt.subplots()
    plot_bits(grouped, ax=ax)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [*NAMES[:3], "exact-1, rest", "exact-1, attention", "exact-2"]
    assert drawn(ax)[4].tolist() == [4] * 6
    plt.close("all")


def test_plot_bits__colours_tell_widths_apart_even_where_there_is_one(table) -> None:
    for chosen in (table, table.isel(policy=[0])):
        figure = bits_figure(chosen)
        bar = figure.axes[1]
        assert [float(t) for t in bar.get_yticks()] == np.unique(chosen.activation_bits).tolist()
    plt.close("all")


def test_plot_pareto__joins_uniform_widths_and_marks_policies_by_rule(table) -> None:
    _, ax = plt.subplots()
    plot_pareto(table, ax=ax)
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["uniform", "PTQD, SNR$^F$ as power", "exact under a budget"]
    np.testing.assert_array_equal(lines["uniform"].get_xdata(), [24, 48])
    np.testing.assert_array_equal(lines["exact under a budget"].get_ydata(), [9, 15])
    assert lines["PTQD, SNR$^F$ as power"].get_linestyle() == "None"
    plt.close("all")


def test_pareto_figure__carries_no_time_stamp(table) -> None:
    assert len({figure_bytes(pareto_figure(table), "svg") for _ in range(2)}) == 1
    plt.close("all")


def test_precision_rows__hold_policies_against_the_uniform_width_nearest_in_cost(table) -> None:
    rows = {row["policy"]: row for row in precision_rows(table)}
    assert [row["baseline"] for row in rows.values()] == [None, None, "w8a4", "w8a4", "w8a8"]
    assert rows["ptqd-power"]["final_difference_db"] == 7
    assert rows["ptqd-power"]["final_difference_db_low"] == 6
    assert rows["w8a8"]["final_difference_db"] is None
    assert rows["exact-1"]["same"] == ["greedy-1"]
    assert rows["exact-1"]["frechet_distance"] is None
    measured = table.assign(frechet_distance=("policy", np.arange(5.0)))
    assert precision_rows(measured)[2]["frechet_distance"] == 2.0
