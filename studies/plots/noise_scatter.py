"""Noise against the prediction that it is noise of, element by element, with the fitted line."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from noise_models.assumptions.kept import kept_pair
from noise_models.decomposition.split import decompose
from studies.plots import style

MOST_POINTS = 4000
"""Above, a density stands for the points."""


def steps_shown(dataset: xr.Dataset, count: int = 3) -> list[int]:
    """First, last and evenly spaced steps between."""
    return [int(step) for step in np.unique(np.linspace(0, dataset.sizes["step"] - 1, count).round())]


def plot_noise_scatter(dataset: xr.Dataset, step: int, *, kind: str = "injected", ax: Axes | None = None) -> Axes:
    """Noise over epsilon at one step: points, or their density in hexagons, and the line k epsilon + intercept.

    Args:
        dataset: a run with kept samples.
        step: loop index.
        kind: ``injected`` or ``accumulated``.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    y, e = (values[step].ravel() for values in kept_pair(dataset, kind))
    if len(y) > MOST_POINTS:
        # the scale starts below one element, so that a single one is seen
        norm = LogNorm(vmin=0.1)
        ax.hexbin(y, e, gridsize=45, norm=norm, mincnt=1, cmap="Blues", linewidths=0.1, rasterized=True)
    else:
        ax.plot(y, e, ".", ms=1.5, color=style.COLORS[0], alpha=0.5, rasterized=True)
    fit = decompose(dataset, f"epsilon_{kind}").isel(step=step)
    ends = np.array([y.min(), y.max()])
    low, high = float(fit.slope_low), float(fit.slope_high)
    label = f"$k$ = {float(fit.slope):.4f}\n[{low:.4f}, {high:.4f}]"
    ax.plot(ends, float(fit.slope) * ends + float(fit.intercept), color=style.COLORS[1], label=label)
    ax.legend(loc="upper left", handlelength=1.0)
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.28 * (top - bottom))  # room for the legend
    return ax


def noise_scatter_figure(dataset: xr.Dataset, kind: str = "injected") -> Figure:
    """Three steps side by side: the first, the middle and the last."""
    steps = steps_shown(dataset, style.abreast(3))
    with style.paper():
        figure, axes = plt.subplots(1, len(steps), figsize=style.size(2.0), squeeze=False, layout="constrained")
        for ax, step in zip(axes[0], steps, strict=True):
            plot_noise_scatter(dataset, step, kind=kind, ax=ax)
            ax.set_title(f"{dataset.scheme.item().upper()}, $t$ = {int(dataset.timestep[step])}")
            ax.set_xlabel("$\\epsilon$")
        axes[0, 0].set_ylabel(f"{kind} noise $\\Delta$")
        return figure
