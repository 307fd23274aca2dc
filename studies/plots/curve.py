"""A quantity over the timestep: a line with its interval, told apart by colour and dashes."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from studies.plots import style
from studies.sources.curves import Curve


def plot_curve(curve: Curve, *, index: int = 0, label: str = "", ax: Axes | None = None) -> Axes:
    """Values over the training timestep with their interval.

    Args:
        curve: of one system.
        index: of the system, which decides on colour and dashes.
        label: of the line.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    look = look_of(index)
    ax.plot(curve.timestep, curve.value, label=escaped(label), marker="." if len(curve.value) == 1 else "", **look)
    ax.fill_between(curve.timestep, curve.low, curve.high, color=look["color"], alpha=0.15, lw=0)
    return ax


def look_of(index: int) -> dict[str, Any]:
    """Colour and dashes of a system: no two alike among the first 30."""
    colors, dashes = len(style.COLORS), len(style.DASHES) - 1
    return {"color": style.COLORS[index % colors], "ls": style.DASHES[index % dashes]}


def escaped(text: str) -> str:
    """Text in which a dollar is a dollar: a name is no mathematics."""
    return text.replace("$", r"\$")
