"""Is the residual normal? Histogram with the fitted normal, Q-Q plot, shape per step, and the test by sample size."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri

from noise_models.assumptions.kept import kept_noise
from noise_models.assumptions.normality import LEAST, LEVEL, check_normality, residual_shape
from studies.plots import style
from studies.plots.noise_scatter import steps_shown

MOST_QUANTILES = 400


def plot_residual_histogram(dataset: xr.Dataset, step: int, *, kind: str = "injected", ax: Axes | None = None) -> Axes:
    """Density of the kept samples' residual in its own standard deviations, on a logarithmic scale, and the normal.

    Args:
        dataset: a run with kept samples.
        step: loop index.
        kind: ``injected`` or ``accumulated``.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    values = _standardised(dataset, step, kind)
    ax.hist(values, bins=60, density=True, color=style.COLORS[5], alpha=0.8, lw=0)
    grid = np.linspace(-max(4.0, abs(values).max()), max(4.0, abs(values).max()), 400)
    ax.plot(grid, np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), color=style.COLORS[1], label="normal")
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.3 / len(values))
    return ax


def plot_residual_quantiles(dataset: xr.Dataset, step: int, *, kind: str = "injected", ax: Axes | None = None) -> Axes:
    """Quantiles of the residual, in its own standard deviations, over those of a normal (Q-Q plot); as above."""
    ax = plt.gca() if ax is None else ax
    values = np.sort(_standardised(dataset, step, kind))
    levels = (np.arange(len(values)) + 0.5) / len(values)
    if len(values) > MOST_QUANTILES:  # all in the tails, evenly spaced in normal quantiles between
        wanted = np.linspace(ndtri(levels[0]), ndtri(levels[-1]), MOST_QUANTILES)
        at = np.unique(np.searchsorted(ndtri(levels), wanted).clip(max=len(values) - 1))
        values, levels = values[at], levels[at]
    normal = ndtri(levels)
    ax.plot(normal, normal, color=style.COLORS[1], lw=0.8, label="normal")
    ax.plot(normal, values, ".", ms=2, color=style.COLORS[0], label="residual")
    return ax


def _standardised(dataset: xr.Dataset, step: int, kind: str) -> np.ndarray:
    values = kept_noise(dataset, kind)[step].ravel()
    deviation = values.std()
    return values / deviation if deviation > 0 else values


def residuals_figure(dataset: xr.Dataset, kind: str = "injected") -> Figure:
    """Histograms above Q-Q plots for three steps, with skewness and excess kurtosis of all samples in the titles."""
    steps = steps_shown(dataset, style.abreast(3))
    letters = style.font(6.5 if style.abreast(len(steps), 1.7) == len(steps) else 5.0)
    shapes = residual_shape(dataset, f"epsilon_{kind}")
    with style.paper():
        figure, axes = plt.subplots(2, len(steps), figsize=style.size(3.6), squeeze=False, layout="constrained")
        for column, step in enumerate(steps):
            plot_residual_histogram(dataset, step, kind=kind, ax=axes[0, column])
            plot_residual_quantiles(dataset, step, kind=kind, ax=axes[1, column])
            here = shapes.isel(step=step)
            axes[0, column].set_title(
                f"$t$ = {int(dataset.timestep[step])}, skewness {float(here.skewness):.2f},\n"
                f"exc. kurtosis {float(here.excess_kurtosis):.2f} "
                f"[{float(here.excess_kurtosis_low):.2f}, {float(here.excess_kurtosis_high):.2f}]",
                fontsize=letters,
            )
            axes[0, column].set_xlabel("residual / deviation")
            axes[1, column].set_xlabel("normal quantile")
        axes[0, 0].set_ylabel("density")
        axes[1, 0].set_ylabel("residual quantile")
        axes[0, 0].legend(loc="upper right")
        axes[1, 0].legend(loc="upper left")
        return figure


def plot_rejections(tested: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Share of draws of one element per sample that are rejected, by sample size: a line per step, and their mean.

    Args:
        tested: what ``check_normality`` gives.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    for step in range(tested.sizes["step"]):
        ax.plot(tested["size"], tested.rejected_share[step], color="0.75", lw=0.5)
    ax.plot(
        tested["size"], tested.rejected_share.mean("step"), "o-", ms=3, color=style.COLORS[0], label="mean of steps"
    )
    ax.axhline(LEVEL, color=style.COLORS[1], ls="--", label="of normal residuals")
    ax.set_xscale("log")
    ax.set_xticks(tested["size"].values, [str(size) for size in tested["size"].values])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    return ax


def normality_figure(dataset: xr.Dataset, kind: str = "injected") -> Figure:
    """Excess kurtosis and skewness per step with intervals and margins, beside rejections by sample size.

    With fewer than 20 kept samples there is no test, and no axes for it.
    """
    enough = dataset.sizes.get("kept", 0) >= LEAST
    tested = check_normality(dataset, kind) if enough else residual_shape(dataset, f"epsilon_{kind}")
    with style.paper():
        figure, axes = plt.subplots(1, 3 if enough else 2, figsize=style.size(1.9), squeeze=False, layout="constrained")
        for ax, name in zip(axes[0], ("skewness", "excess_kurtosis"), strict=False):
            ax.plot(dataset.timestep, tested[name], color=style.COLORS[0])
            ax.fill_between(dataset.timestep, tested[f"{name}_low"], tested[f"{name}_high"], alpha=0.2, lw=0)
            margin = tested[f"{name}_verdict"].attrs["margin"]
            ax.axhspan(-margin, margin, color="0.9", zorder=0, label="margin")
            ax.set_xlabel("timestep $t$")
            ax.set_ylabel(name.replace("_", " "))
            ax.invert_xaxis()
        axes[0, 1].legend(loc="best")
        if enough:
            plot_rejections(tested, ax=axes[0, 2])
            axes[0, 2].set_xlabel("samples tested")
            axes[0, 2].set_ylabel(f"share rejected at {LEVEL:g}")
            axes[0, 2].legend(loc="best")
        return figure
