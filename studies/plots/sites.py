"""Heat maps over a network's sites: where, and at which step, the noise arises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noise_models.metrics import sqnr_db
from studies.plots import style

COLORS = "viridis"
"""Sequential, also to colour-blind eyes and in grey print; bright is little noise."""

ROW = 0.105
"""Inches of one site, which its label needs."""


def plot_sites(
    dataset: xr.Dataset,
    *,
    variable: str = "site_injected",
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Heat map of in-network SQNR in dB: sites in execution order from top to bottom, steps from left to right.

    White cells have no finite SQNR: no noise at all, or no signal. The axes' one collection is the mappable of a
    colour bar.

    Args:
        dataset: a run with recorded sites.
        variable: ``site_injected`` or ``site_accumulated``.
        limits: of the colours, in dB; the data's own if absent.
        ax: axes to draw on.
    """
    values = sqnr_db(dataset, variable).sqnr_db
    low, high = _limits([values]) if limits is None else limits
    ax = plot_by_site(values, ax=ax, cmap=COLORS, vmin=low, vmax=high)
    return label_steps(dataset, ax=ax)


def plot_by_site(values: xr.DataArray, *, ax: Axes | None = None, **colors: Any) -> Axes:
    """Heat map of ``values`` over ``site`` and one other dimension; white where a value is not finite.

    Args:
        values: two dimensions, one of them ``site`` with the names as its coordinate.
        ax: axes to draw on.
        colors: ``cmap`` and ``norm``, or ``vmin`` and ``vmax``.
    """
    ax = plt.gca() if ax is None else ax
    (other,) = (dim for dim in values.dims if dim != "site")
    rows, columns = np.arange(values.sizes["site"]), values[other].values
    ax.pcolormesh(columns, rows, values.where(np.isfinite(values)).transpose("site", other), rasterized=True, **colors)
    ax.set_yticks(rows, values.site.values, fontsize=style.font(5))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(length=2, pad=1.5)
    ax.grid(False)
    return ax


def label_steps(dataset: xr.Dataset, *, ax: Axes, count: int = 5) -> Axes:
    """Label an axis of steps with ``count`` of their training timesteps, the first and the last among them."""
    ticks = np.unique(np.linspace(0, dataset.sizes["step"] - 1, count).astype(int))
    ax.set_xticks(ticks, dataset.timestep.values[ticks])
    ax.set_xlabel("timestep $t$")
    return ax


def sites_figure(runs: Sequence[xr.Dataset], variable: str = "site_injected") -> Figure:
    """One heat map per run of the same network, with shared colours and one colour bar."""
    limits = _limits([sqnr_db(run, variable).sqnr_db for run in runs])
    with style.paper():
        figure, axes = plt.subplots(
            1, len(runs), figsize=style.size(ROW * runs[0].sizes["site"] + 0.6), sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for ax, run in zip(axes[0], runs, strict=True):
            plot_sites(run, variable=variable, limits=limits, ax=ax)
            ax.set_title(run.scheme.item().upper())
        for ax in axes[0, 1:]:
            ax.tick_params(axis="y", length=0)
        bar = figure.colorbar(axes[0, -1].collections[0], ax=axes, pad=0.01, aspect=40)
        bar.set_label(f"SQNR of the site's output, {variable.removeprefix('site_')} (dB)")
        return figure


def _limits(values: Sequence[xr.DataArray]) -> tuple[float, float]:
    """Least and greatest finite value; 0 and 1 where there is none."""
    finite = np.concatenate([each.values[np.isfinite(each.values)] for each in values])
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
