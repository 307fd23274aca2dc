"""Does the residual depend on its neighbours and on other steps? Autocorrelation, spectrum, correlation of steps."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noise_models.assumptions.step_dependence import check_step_independence
from noise_models.assumptions.whiteness import check_whiteness
from studies.plots import style
from studies.plots.noise_scatter import steps_shown
from studies.plots.sites import label_steps

COLORS = "RdBu_r"
"""Diverging about 0, told apart by colour-blind eyes."""


def plot_autocorrelation(tested: xr.Dataset, step: int, *, ax: Axes | None = None) -> Axes:
    """Autocorrelation of one step's residual over the lag in pixels, channels averaged; its halves mirror each other.

    Args:
        tested: what ``check_whiteness`` gives.
        step: loop index.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    half = tested.autocorrelation.isel(step=step).mean("channel")
    whole = np.concatenate([half.values[:0:-1, ::-1], half.values])
    down = np.concatenate([-half.lag_row.values[:0:-1], half.lag_row.values])
    ax.pcolormesh(half.lag_column, down, whole, cmap=COLORS, vmin=-1, vmax=1, rasterized=True)
    ax.set_xticks([half.lag_column.values[0], 0, half.lag_column.values[-1]])
    ax.set_yticks([down[0], 0, down[-1]])
    ax.set_aspect("equal")
    ax.grid(False)
    return ax


def plot_spectrum(tested: xr.Dataset, step: int, *, ax: Axes | None = None, color: str = "", label: str = "") -> Axes:
    """Power of one step's residual over spatial frequency, 1 for white noise, with its interval; as above."""
    ax = plt.gca() if ax is None else ax
    color = color or style.COLORS[0]
    here = tested.isel(step=step)
    ax.plot(here.frequency, here.radial_spectrum, "o-", ms=2.5, color=color, label=label)
    ax.fill_between(here.frequency, here.radial_spectrum_low, here.radial_spectrum_high, color=color, alpha=0.2, lw=0)
    return ax


def whiteness_figure(dataset: xr.Dataset, kind: str = "injected", part: str = "residual") -> Figure:
    """Autocorrelation at three steps, and their spectra."""
    steps = steps_shown(dataset)
    tested = check_whiteness(dataset, kind, part=part)
    with style.paper():
        figure, axes = plt.subplots(
            1, len(steps) + 1, figsize=style.size(1.75), squeeze=False, layout="constrained",
            width_ratios=[*[1.0] * len(steps), 1.5],
        )  # fmt: skip
        for index, step in enumerate(steps):
            ax, timestep = axes[0, index], int(dataset.timestep[step])
            plot_autocorrelation(tested, step, ax=ax)
            here = tested.isel(step=step)
            ax.set_title(
                f"$t$ = {timestep}, neighbours\n{float(here.neighbour_correlation):.2f} "
                f"[{float(here.neighbour_correlation_low):.2f}, {float(here.neighbour_correlation_high):.2f}]",
                fontsize=style.font(6.5),
            )
            ax.set_xlabel("columns apart")
            color = style.COLORS[index]
            plot_spectrum(tested, step, ax=axes[0, -1], color=color, label=f"$t$ = {timestep}")
        axes[0, 0].set_ylabel("rows apart")
        figure.colorbar(axes[0, len(steps) - 1].collections[0], ax=axes[0, len(steps) - 1], shrink=0.8)
        spectrum = axes[0, -1]
        spectrum.axhline(1, color="0.3", lw=0.6, ls="--")
        spectrum.set_ylim(bottom=0)
        spectrum.set_xlabel("cycles per pixel")
        spectrum.set_title("power / white noise's", fontsize=style.font(6.5))
        spectrum.legend(loc="upper right")
        return figure


def plot_step_correlation(tested: xr.Dataset, dataset: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Correlation of the residuals of two steps, sampling from the top left to the bottom right.

    Args:
        tested: what ``check_step_independence`` gives.
        dataset: the run, for its timesteps.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    steps = np.arange(tested.sizes["step"])
    ax.pcolormesh(steps, steps, tested.step_correlation, cmap=COLORS, vmin=-1, vmax=1, rasterized=True)
    label_steps(dataset, ax=ax)
    ax.set_yticks(ax.get_xticks(), [label.get_text() for label in ax.get_xticklabels()])
    ax.set_ylabel("timestep $t'$")
    ax.set_ylim(len(steps) - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.grid(False)
    return ax


def step_correlation_figure(dataset: xr.Dataset, kind: str = "injected") -> Figure:
    """The residual itself, and less the pattern that all samples share."""
    with style.paper():
        figure, axes = plt.subplots(1, 2, figsize=style.size(2.4), sharey=True, layout="constrained")
        for ax, (part, title) in zip(
            axes, (("residual", "residual"), ("varying", "residual less its fixed pattern")), strict=True
        ):
            plot_step_correlation(check_step_independence(dataset, kind, part=part), dataset, ax=ax)
            ax.set_title(title)
        axes[1].set_ylabel("")
        figure.colorbar(axes[1].collections[0], ax=axes).set_label("correlation")
        return figure
