"""The split of the noise per step: slope, share along the signal, bias and residual variance, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noise_models.decomposition.split import decompose
from studies.plots import style

QUANTITIES = {
    "slope": "slope $k$",
    "r_squared": "$r^2$ of noise and signal",
    "bias": "bias, largest channel",
    "residual_variance": "residual variance",
}
"""What is drawn, and its label."""


def plot_quantity(result: xr.Dataset, name: str, *, ax: Axes | None = None, label: str = "", color: str = "") -> Axes:
    """A quantity per step over the training timestep with its interval; of several channels the largest by size.

    Args:
        result: what ``decompose`` gives for one run.
        name: a quantity in it.
        ax: axes to draw on.
        label: of the line.
        color: of the line; the first of the palette if empty.
    """
    ax = plt.gca() if ax is None else ax
    color = color or style.COLORS[0]
    values, low, high = (result[name + end] for end in ("", "_low", "_high"))
    if "channel" in values.dims:
        largest = abs(values).fillna(0).argmax("channel")
        values, low, high = (each.isel(channel=largest) for each in (values, low, high))
    ax.plot(result.timestep, values, color=color, label=label)
    ax.fill_between(result.timestep, low, high, color=color, alpha=0.2, lw=0)
    return ax


def decomposition_figure(runs: Sequence[xr.Dataset], variable: str = "epsilon_injected") -> Figure:
    """Four quantities over the timestep; one colour per scheme, dashes mark a correction."""
    results = [decompose(run, variable) for run in runs]
    schemes = list(dict.fromkeys(run.scheme.item() for run in runs))
    with style.paper():
        figure, axes = plt.subplots(2, 2, figsize=style.size(3.6), sharex=True, layout="constrained")
        for ax, (name, label) in zip(axes.flat, QUANTITIES.items(), strict=True):
            for run, result in zip(runs, results, strict=True):
                correction = run.correction.item()
                plot_quantity(
                    result, name, ax=ax, color=style.COLORS[schemes.index(run.scheme.item()) % len(style.COLORS)],
                    label=run.scheme.item().upper() + ("" if correction == "none" else f" + {correction.upper()}"),
                )  # fmt: skip
                if correction == "none":  # wide and pale, so that a corrected run that changes nothing is seen on it
                    ax.lines[-1].set(linewidth=2.4, alpha=0.5)
                else:
                    ax.lines[-1].set_linestyle((0, (3, 1.5)))
            ax.set_ylabel(label)
            if name in ("slope", "bias"):
                ax.axhline(0, color="0.3", lw=0.6, zorder=0)
            if name == "residual_variance" and any((result[name] > 0).any() for result in results):
                ax.set_yscale("log")
            if name == "r_squared":
                ax.set_ylim(bottom=0)
        for ax in axes[-1]:
            ax.set_xlabel("timestep $t$")
        if not np.isnan(axes[0, 0].get_xlim()).any():
            axes[0, 0].invert_xaxis()  # shared: sampling starts at the left
        axes[0, 0].legend(loc="best")
        return figure
