"""What corrections do: injected noise before and after, one-step variance against the noise-free one, final SQNR."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.plots import style

_BEFORE: dict[str, Any] = {"color": "black", "lw": 1.2}


def plot_injected(changes: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Squared error of epsilon at full precision's x_t over the timestep, without and with each correction.

    Args:
        changes: of ``studies.corrections.comparison``, along ``correction``.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    first = changes.isel(correction=0)
    ax.plot(changes.timestep, first.injected_mse_before, label="uncorrected", **_BEFORE)
    for name, look in _looks(changes):
        of = changes.sel(correction=name)
        ax.plot(changes.timestep, of.injected_mse_after, label=name, **look)
    ax.set_yscale("log")
    return ax


def plot_change(changes: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Paired change of the injected squared error in dB, with its interval."""
    ax = plt.gca() if ax is None else ax
    ax.axhline(0, **_BEFORE)
    for name, look in _looks(changes):
        of = changes.sel(correction=name)
        ax.plot(changes.timestep, of.injected_mse_change_db, label=name, **look)
        low, high = of.injected_mse_change_db_low, of.injected_mse_change_db_high
        ax.fill_between(changes.timestep, low, high, color=look["color"], alpha=0.12, lw=0)
    return ax


def plot_one_step_variance(changes: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Excess of the one-step variance of x_{t-1} over the noise-free sampler's, in percent of it."""
    ax = plt.gca() if ax is None else ax
    first = changes.isel(correction=0)
    reference = first.variance_before_variance_reference
    ax.axhline(0, color="0.5", lw=0.6)
    ax.plot(changes.timestep, 100 * first.variance_before_variance_excess / reference, label="uncorrected", **_BEFORE)
    for name, look in _looks(changes):
        of = changes.sel(correction=name)
        low, found, high = (of[f"variance_after_variance_excess{end}"] / reference for end in ("_low", "", "_high"))
        ax.plot(changes.timestep, 100 * found, label=name, **look)
        ax.fill_between(changes.timestep, 100 * low, 100 * high, color=look["color"], alpha=0.12, lw=0)
    ax.set_yscale("symlog", linthresh=_threshold(changes))
    return ax


def plot_final(changes: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Paired change of the final samples' SQNR by each correction, with its interval."""
    ax = plt.gca() if ax is None else ax
    ax.axvline(0, color="0.5", lw=0.6)
    for row, (name, look) in enumerate(_looks(changes)):
        of = changes.sel(correction=name)
        found = float(of.final_sqnr_change_db)
        ends = [[found - float(of.final_sqnr_change_db_low)], [float(of.final_sqnr_change_db_high) - found]]
        ax.errorbar(found, row, xerr=ends, fmt="o", ms=3, capsize=2, lw=1, color=look["color"])
    ax.set_yticks(range(changes.sizes["correction"]), [str(name) for name in changes.correction.values])
    ax.set_ylim(changes.sizes["correction"] - 0.5, -0.5)
    return ax


def corrections_figure(changes: xr.Dataset) -> Figure:
    """Injected noise, its change, one-step variance and final SQNR, one panel each."""
    with style.paper():
        figure, axes = plt.subplots(2, 2, figsize=style.size(4.4), layout="constrained")
        (power, change), (variance, final) = axes
        plot_injected(changes, ax=power)
        plot_change(changes, ax=change)
        plot_one_step_variance(changes, ax=variance)
        plot_final(changes, ax=final)
        power.set_ylabel("squared error of $\\epsilon$, injected")
        change.set_ylabel("its paired change (dB)")
        variance.set_ylabel("excess of one-step variance (%)")
        final.set_xlabel("change of final SQNR (dB), 95 %")
        for ax in (power, change, variance):
            ax.set_xlabel("timestep $t$")
            ax.invert_xaxis()
        handles, labels = power.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
        return figure


def _looks(changes: xr.Dataset) -> list[tuple[str, dict[str, Any]]]:
    """Colour and dashes of each correction."""
    return [
        (str(name), {"color": style.COLORS[i % len(style.COLORS)], "ls": style.DASHES[i % len(style.DASHES)]})
        for i, name in enumerate(changes.correction.values)
    ]


def _threshold(changes: xr.Dataset) -> float:
    """Percent below which the scale is linear: the median of what is uncorrected."""
    first = changes.isel(correction=0)
    share = abs(first.variance_before_variance_excess / first.variance_before_variance_reference)
    return max(float(100 * share.median()), 1e-6)
