"""Cost against quality: a point per system with its interval, and the stairs of those that none tops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from studies.plots import style
from studies.plots.curve import escaped
from studies.plots.pareto import front


@dataclass(frozen=True)
class Point:
    """A system's cost and quality, NaN where an end of its interval is not defined."""

    label: str
    cost: float
    value: float
    low: float
    high: float


def plot_cost(points: Sequence[Point], *, ax: Axes | None = None) -> Axes:
    """Value over cost; the front as grey stairs, every system a colour and a marker.

    Args:
        points: those without a finite cost and value are left out.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    for index, point in enumerate(points):
        if not np.isfinite([point.cost, point.value]).all():
            continue
        color, marker = style.COLORS[index % len(style.COLORS)], style.MARKERS[index % len(style.MARKERS)]
        ends = np.nan_to_num([[point.value - point.low], [point.high - point.value]])
        ax.errorbar([point.cost], [point.value], yerr=ends, fmt="none", ecolor=color, elinewidth=0.8, capsize=1.5)
        ax.plot([point.cost], [point.value], color=color, marker=marker, ms=style.font(4), ls="",
                label=escaped(point.label))  # fmt: skip
    drawn = [point for point in points if np.isfinite([point.cost, point.value]).all()]
    best = [drawn[i] for i in front([point.cost for point in drawn], [point.value for point in drawn])]
    ax.plot([p.cost for p in best], [p.value for p in best], color="0.6", lw=0.8, zorder=0, drawstyle="steps-post")
    ax.margins(0.12)
    return ax
