"""Which residual noise each step can absorb, for any schedule, eta and number of steps, with measured noise over it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noise_models.decomposition.split import decompose
from studies.plots import style


def plot_feasibility(bounds: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """The bound sigma_t^2 / lambda_t^2 over the timestep, a line per number of steps; noise below it is absorbed whole.

    Args:
        bounds: of ``noise_models.feasibility_map``, at one eta.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    for i, steps in enumerate(bounds.steps.values):
        bound = bounds.absorbable_variance.sel(steps=steps).dropna("timestep")
        bound = bound.where(bound > 0)  # a step without fresh noise absorbs nothing, and a logarithm shows no 0
        ax.plot(
            bound.timestep, bound, color=style.COLORS[i % len(style.COLORS)], ls=style.DASHES[i % len(style.DASHES)],
            marker="." if bound.size <= 25 else "", ms=2.5, label=f"{steps} steps",
        )  # fmt: skip
    ax.set_yscale("log")
    return ax


def plot_residual(run: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Measured sigma_q^2 / (1 + k)^2 of injected noise, with the interval of sigma_q^2; a negative k counts as 0."""
    ax = plt.gca() if ax is None else ax
    found = decompose(run, "epsilon_injected")
    reduced = np.maximum(found.slope, 0) + 1
    low, middle, high = (found[f"residual_variance{end}"] / reduced**2 for end in ("_low", "", "_high"))
    label = f"measured, {run.scheme.item().upper()}, {run.sizes['step']} steps"
    ax.plot(run.timestep, middle, color="black", lw=1.2, marker=".", ms=2.5, label=label)
    ax.fill_between(run.timestep, low, high, color="black", alpha=0.15, lw=0)
    return ax


def feasibility_figure(bounds: xr.Dataset, run: xr.Dataset | None = None) -> Figure:
    """One panel per eta above 0, with a run's measured residual variance in each if one is given."""
    etas = [eta for eta in bounds.eta.values if (bounds.absorbable_variance.sel(eta=eta) > 0).any()]
    with style.paper():
        columns = min(len(etas), 3)
        rows = -(-len(etas) // columns)
        figure, axes = plt.subplots(
            rows, columns, figsize=style.size(2.3 * rows + 0.3), sharex=True, sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for ax, eta in zip(axes.flat, etas, strict=False):
            plot_feasibility(bounds.sel(eta=eta), ax=ax)
            if run is not None:
                plot_residual(run, ax=ax)
            ax.set_title(f"$\\eta$ = {eta:g}")
        for ax in axes.flat[len(etas) :]:
            ax.set_axis_off()
        for ax in axes[-1]:
            ax.set_xlabel("timestep $t$")
        for ax in axes[:, 0]:
            ax.set_ylabel("absorbable $\\sigma_q^2$ at $k=0$")
        axes[0, 0].invert_xaxis()  # shared: sampling starts at the left
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
        return figure
