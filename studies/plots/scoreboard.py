"""The scoreboard: cost against noise of the final sample, recipes by kind, widths by marker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from studies.plots import style
from studies.plots.pareto import MARKERS, front

KINDS = {"calibrated": 0, "corrected": 1, "reconstructed": 2, "trained": 3}
"""Kind of a recipe -> its colour."""

COSTS = {"bops": "bit operations", "weight_bytes": "bytes of weights"}

SPREAD = 0.06
"""Half of the space, in decades, over which recipes of one cost are drawn side by side, where there is so much."""

APART = 0.02
"""Decades between two recipes of one cost, at most."""

CROWD = 4
"""So many recipes of one cost need space of their own."""

BASELINE, COMPANION = "minmax", "@"

Records = Sequence[Mapping[str, Any]]


def plot_scoreboard(records: Records, *, cost: str = "bops", ax: Axes | None = None) -> Axes:
    """Final SQNR with its interval over a cost, of one subject; the front as stairs, each width's best named.

    Recipes that cost the same stand side by side, from the least SQNR to the most: their places within a group mean
    nothing else. ``minmax`` is black; plain companions of mixed bits are hollow.

    Args:
        records: of one subject (``board_records``); those without a number are left out.
        cost: ``bops`` or ``weight_bytes``.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    drawn = [record for record in records if np.isfinite(record["final_sqnr_db"])]
    widths = list(dict.fromkeys(record["bits"] for record in records))
    places = _places(drawn, cost)
    for record, x in zip(drawn, places, strict=True):
        value, color = record["final_sqnr_db"], _color(record)
        low, high = (abs(record[f"final_sqnr_db_{end}"] - value) for end in ("low", "high"))
        hollow = COMPANION in record["recipe"]
        marker = MARKERS[widths.index(record["bits"]) % len(MARKERS)]
        # an interval that is not defined is not drawn
        ax.errorbar([x], [value], yerr=np.nan_to_num([[low], [high]]), fmt="none", ecolor=color, elinewidth=0.6)
        ax.plot(
            [x],
            [value],
            marker=marker,
            color=color,
            ms=3.4,
            mfc="white" if hollow else color,
            mew=0.7,
            ls="",
            zorder=3 if record["recipe"] == BASELINE else 2,
        )
    front = _front(drawn, cost)
    ax.plot(
        [places[i] for i in front],
        [drawn[i]["final_sqnr_db"] for i in front],
        color="0.6",
        lw=0.7,
        zorder=0,
        drawstyle="steps-post",
    )
    for index in (max(own, key=lambda i: drawn[i]["final_sqnr_db"]) for own in _by_width(drawn).values()):
        top = drawn[index]
        ax.annotate(
            top["recipe"], (places[index], np.nanmax([top["final_sqnr_db"], top["final_sqnr_db_high"]])), (0, 2),
            textcoords="offset points", fontsize=style.font(6), ha="center",
        )  # fmt: skip
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.margins(0.08, 0.12)
    plain = {record["bits"]: record[cost] for record in drawn if record["recipe"] == BASELINE}
    ax.set_xticks(list(plain.values()), [f"{value:.3g}\n{bits}" for bits, value in plain.items()])
    return ax


def scoreboard_figure(records: Records, *, cost: str = "bops") -> Figure:
    """A panel per subject."""
    subjects = list(dict.fromkeys(record["subject"] for record in records))
    widths = list(dict.fromkeys(record["bits"] for record in records))
    with style.paper():
        size = style.size(0.5 + 2.5 * len(subjects))
        figure, axes = plt.subplots(len(subjects), 1, figsize=size, squeeze=False, layout="constrained")
        for ax, subject in zip(axes[:, 0], subjects, strict=True):
            plot_scoreboard([record for record in records if record["subject"] == subject], cost=cost, ax=ax)
            ax.set_title(f"{subject}: final sample, 95 % intervals over seeds")
            ax.set_ylabel("SQNR (dB)")
        axes[-1, 0].set_xlabel(f"{COSTS[cost]} over those of float32 (equal ones side by side)")
        figure.legend(handles=_legend(records, widths), loc="outside lower center", ncols=6)
        return figure


def _color(record: Mapping[str, Any]) -> str:
    return "black" if record["recipe"] == BASELINE else style.COLORS[KINDS[record["kind"]]]


def _places(records: Records, cost: str) -> list[float]:
    """Where points stand: those of one cost side by side, by SQNR."""
    groups: dict[float, list[int]] = {}
    for index, record in enumerate(records):
        groups.setdefault(float(f"{record[cost]:.2g}"), []).append(index)
    crowds = np.log10(sorted(at for at, members in groups.items() if len(members) >= CROWD))
    spread = min([SPREAD, *(0.42 * np.diff(crowds))])
    places = [float("nan")] * len(records)
    for members in groups.values():
        members.sort(key=lambda index: records[index]["final_sqnr_db"])
        reach = min(spread, APART * (len(members) - 1) / 2)
        shifts = np.linspace(-reach, reach, len(members))
        for index, shift in zip(members, shifts, strict=True):
            places[index] = records[index][cost] * 10**shift
    return places


def _by_width(records: Records) -> dict[str, list[int]]:
    """Recipes of each width."""
    found: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        if COMPANION not in record["recipe"]:
            found.setdefault(record["bits"], []).append(index)
    return found


def _front(records: Records, cost: str) -> list[int]:
    """Recipes that none costs as little as and tops, cheapest first; costs that differ by rounding are one."""
    own = [index for index, record in enumerate(records) if COMPANION not in record["recipe"]]
    best = front([records[i][cost] for i in own], [records[i]["final_sqnr_db"] for i in own])
    return [own[index] for index in best]


def _legend(records: Records, widths: Sequence[str]) -> list[Line2D]:
    """Colours, then markers."""
    kinds = [kind for kind in KINDS if any(r["kind"] == kind and r["recipe"] != BASELINE for r in records)]
    dot: dict[str, Any] = {"marker": "o", "ls": "", "ms": 3.4}
    found = [Line2D([], [], color="black", label=BASELINE, **dot)]
    found += [Line2D([], [], color=style.COLORS[KINDS[kind]], label=kind, **dot) for kind in kinds]
    if any(COMPANION in record["recipe"] for record in records):
        found.append(Line2D([], [], color="0.4", mfc="white", label="plain bits, same cost", **dot))
    marks = [MARKERS[index % len(MARKERS)] for index in range(len(widths))]
    return found + [
        Line2D([], [], color="0.4", marker=marker, ls="", ms=3.4, label=bits)
        for bits, marker in zip(widths, marks, strict=True)
    ]
