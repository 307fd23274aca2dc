"""SQNR of every site's output at every step, as a heat map: where in the network, and when, the noise arises."""

from __future__ import annotations

from collections.abc import Sequence

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
    ax = plt.gca() if ax is None else ax
    values = _sqnr_db(dataset, variable)
    low, high = _limits([values]) if limits is None else limits
    sites = np.arange(values.sizes["site"])
    shown = values.transpose("site", "step")
    ax.pcolormesh(
        values.step, sites, shown.where(np.isfinite(shown)), cmap=COLORS, vmin=low, vmax=high, rasterized=True
    )
    ax.set_yticks(sites, dataset.site.values, fontsize=5)
    steps = values.sizes["step"]
    ticks = np.unique(np.linspace(0, steps - 1, min(steps, 5)).astype(int))
    ax.set_xticks(ticks, dataset.timestep.values[ticks])
    ax.set_xlabel("timestep $t$")
    ax.tick_params(length=2, pad=1.5)
    ax.invert_yaxis()
    ax.grid(False)
    return ax


def sites_figure(runs: Sequence[xr.Dataset], variable: str = "site_injected") -> Figure:
    """One heat map per run of the same network, with shared colours and one colour bar."""
    values = [_sqnr_db(run, variable) for run in runs]
    with style.paper():
        figure, axes = plt.subplots(
            1, len(runs), figsize=(style.WIDTH_ICLR, ROW * runs[0].sizes["site"] + 0.6), sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for ax, run in zip(axes[0], runs, strict=True):
            plot_sites(run, variable=variable, limits=_limits(values), ax=ax)
            ax.set_title(run.scheme.item().upper())
        for ax in axes[0, 1:]:
            ax.tick_params(axis="y", length=0)
        axes[0, 0].set_ylim(runs[0].sizes["site"] - 0.5, -0.5)  # shared: inverted once for all
        bar = figure.colorbar(axes[0, -1].collections[0], ax=axes, pad=0.01, aspect=40)
        bar.set_label(f"SQNR of the site's output, {variable.removeprefix('site_')} (dB)")
        bar.outline.set_linewidth(0.4)  # type: ignore[operator]
        return figure


def _sqnr_db(dataset: xr.Dataset, variable: str) -> xr.DataArray:
    return sqnr_db(dataset, variable).sqnr_db


def _limits(values: Sequence[xr.DataArray]) -> tuple[float, float]:
    """Least and greatest finite value; 0 and 1 where there is none."""
    finite = np.concatenate([each.values[np.isfinite(each.values)] for each in values])
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
