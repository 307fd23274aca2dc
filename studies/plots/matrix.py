"""A table of numbers as coloured cells."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from studies.plots import style
from studies.plots.curve import escaped

ON_DARK, ON_LIGHT = "#fffffe", "#000001"
"""Letters on cells: no greys, which a dark page would turn into one another."""


def plot_matrix(
    values: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], *, ax: Axes | None = None
) -> Axes:
    """Each value as a colour with its number on it; NaN is an empty cell, +inf (no difference at all) "equal".

    Args:
        values: (row, column).
        rows: names.
        columns: names.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 1.0)
    ax.pcolormesh(np.where(finite, values, np.nan), cmap="viridis", vmin=low, vmax=high, edgecolors="none")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            dark = finite[row, column] and value < (low + high) / 2
            text = f"{value:.1f}" if np.isfinite(value) else "equal"
            ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=ON_DARK if dark else ON_LIGHT,
                    fontsize=style.font(6.5))  # fmt: skip
    ax.set_xticks(np.arange(len(columns)) + 0.5, map(escaped, columns), rotation=30, ha="right")
    ax.set_yticks(np.arange(len(rows)) + 0.5, map(escaped, rows))
    ax.set_ylim(len(rows), 0)
    ax.tick_params(length=0)
    ax.grid(False)
    return ax
