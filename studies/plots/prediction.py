"""Predicted against measured SQNR of the final sample: on the diagonal where a prediction is right."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.plots import style
from studies.prediction.table import TOLERANCE_DB


def plot_prediction(cells: Sequence[xr.Dataset], predictor: str, *, ax: Axes | None = None) -> Axes:
    """One predictor: colours are schemes, markers samplers, bars 95 % intervals, the band +-1 dB."""
    ax = plt.gca() if ax is None else ax
    schemes = [str(name) for name in cells[0].scheme.values]
    samplers = list(dict.fromkeys(cell.sampler.item() for cell in cells))
    for cell in cells:
        made = cell.sel(predictor=predictor)
        marker = style.MARKERS[samplers.index(cell.sampler.item()) % len(style.MARKERS)]
        for index in range(len(schemes)):
            measured, predicted = float(made.measured_sqnr_db[index]), float(made.predicted_sqnr_db[index])
            ax.errorbar(
                measured, predicted, xerr=_arms(made, "measured", index, measured),
                yerr=_arms(made, "predicted", index, predicted), ls="", marker=marker,
                color=style.COLORS[index % len(style.COLORS)], ms=3, mew=0.4, elinewidth=0.5,
            )  # fmt: skip
    every = np.concatenate([cell.measured_sqnr_db.values for cell in cells])
    line = np.array([every.min() - 3, every.max() + 3])
    ax.fill_between(line, line - TOLERANCE_DB, line + TOLERANCE_DB, color="0.85", lw=0, zorder=0)
    ax.plot(line, line, color="0.4", lw=0.6, zorder=0)
    ax.set(xlim=line, xlabel="measured SQNR (dB)", title=predictor)
    return ax


def prediction_figure(cells: Sequence[xr.Dataset]) -> Figure:
    """All predictors side by side."""
    predictors = [str(name) for name in cells[0].predictor.values]
    columns = 3
    rows = -(-len(predictors) // columns)
    with style.paper():
        figure, axes = plt.subplots(
            rows, columns, figsize=style.size(1.9 * rows), sharex=True, layout="constrained", squeeze=False
        )
        for ax, predictor in zip(axes.flat, predictors, strict=False):
            plot_prediction(cells, predictor, ax=ax)
        for ax in axes.flat[len(predictors) :]:
            ax.set_axis_off()
        for ax, below in zip(axes.flat, axes.flat[columns:], strict=False):
            if below.axison:
                ax.set_xlabel("")
            else:  # the lowest of its column
                ax.tick_params(labelbottom=True)
        for row in axes:
            row[0].set_ylabel("predicted SQNR (dB)")
        figure.legend(handles=_legend(cells), ncols=7, loc="outside lower center", handletextpad=0.2, columnspacing=0.9)
        return figure


def _arms(cell: xr.Dataset, what: str, index: int, value: float) -> np.ndarray | None:
    ends = [float(cell[f"{what}_sqnr_db_{end}"][index]) for end in ("low", "high")]
    return None if np.isnan(ends).any() else np.array([[value - ends[0]], [ends[1] - value]])


def _legend(cells: Sequence[xr.Dataset]) -> list[plt.Line2D]:
    schemes = [str(name) for name in cells[0].scheme.values]
    samplers = list(dict.fromkeys(cell.sampler.item() for cell in cells))
    colours = [
        plt.Line2D([], [], color=style.COLORS[i % len(style.COLORS)], marker="o", ls="", ms=3, label=name.upper())
        for i, name in enumerate(schemes)
    ]
    return colours + [
        plt.Line2D([], [], color="0.3", marker=style.MARKERS[i % len(style.MARKERS)], ls="", ms=3, label=name)
        for i, name in enumerate(samplers)
    ]
