"""SQNR per step: one line per scheme and correction, its interval, and PTQD's threshold in both readings."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noise_models.conversions import ptqd_threshold_db
from noise_models.metrics import sqnr_db
from studies.plots import style

KINDS = (("epsilon_injected", "injected"), ("epsilon_accumulated", "accumulated"))


def plot_snr(
    runs: Sequence[xr.Dataset],
    variable: str = "epsilon_injected",
    *,
    schemes: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """SQNR of epsilon per step, in dB, over the training timestep; sampling runs from left to right.

    Args:
        runs: datasets of one sampler; colours tell schemes apart, dashes mark a correction.
        variable: ``epsilon_injected`` or ``epsilon_accumulated``.
        schemes: the order that colours follow, so that a scheme keeps its colour across axes; of ``runs`` if absent.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    schemes = _schemes(runs) if schemes is None else schemes
    for run in runs:
        color = style.COLORS[schemes.index(run.scheme.item()) % len(style.COLORS)]
        correction = run.correction.item()
        found = sqnr_db(run, variable)
        label = run.scheme.item().upper() + ("" if correction == "none" else f" + {correction.upper()}")
        ax.plot(
            run.timestep, found.sqnr_db, color=color, ls="-" if correction == "none" else (0, (3, 1.5)), label=label
        )
        ax.fill_between(run.timestep, found.sqnr_db_low, found.sqnr_db_high, color=color, alpha=0.15, lw=0)
    return ax


def plot_thresholds(run: xr.Dataset, *, ax: Axes) -> Axes:
    """PTQD's SNR^F(t) = abar/(1-abar) as a threshold on the SQNR: read as power, and as amplitude (twice the dB)."""
    labels = {"power": "threshold SNR$^F$", "amplitude": "threshold 2 SNR$^F$"}
    for (reading, label), line in zip(labels.items(), ((0, (1, 1)), (0, (5, 1, 1, 1))), strict=True):
        level = ptqd_threshold_db(run.alpha_cumprod, reading)
        ax.plot(run.timestep, level, color="0.45", lw=0.8, ls=line, label=label)
    return ax


def snr_figure(parts: Sequence[tuple[str, Sequence[xr.Dataset]]]) -> Figure:
    """One row per part (title, runs), injected beside accumulated."""
    schemes = _schemes([run for _, runs in parts for run in runs])
    with style.paper():
        figure, axes = plt.subplots(
            len(parts), 2, figsize=style.size(2.15 * len(parts)), sharex=True, sharey="row",
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for row, (title, runs) in zip(axes, parts, strict=True):
            for ax, (variable, name) in zip(row, KINDS, strict=True):
                plot_snr(runs, variable, schemes=schemes, ax=ax)
                ax.set_title(f"{title}, {name}")
            limits = _limits(row)
            for ax in row:
                plot_thresholds(runs[0], ax=ax)
                ax.set_ylim(*limits)
            row[0].set_ylabel("SQNR of $\\epsilon$ (dB)")
            row[1].legend(ncols=1, loc="upper left", bbox_to_anchor=(1.0, 1.02))
        for ax in axes[-1]:
            ax.set_xlabel("timestep $t$")
        axes[0, 0].invert_xaxis()  # shared: sampling starts at the left
        return figure


def _schemes(runs: Sequence[xr.Dataset]) -> list[str]:
    return list(dict.fromkeys(run.scheme.item() for run in runs))


def _limits(row: Sequence[Axes]) -> tuple[float, float]:
    """Limits that hold every SQNR drawn so far; thresholds, which span 80 dB, may leave the frame."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for ax in row for line in ax.lines])
    finite = values[np.isfinite(values)]
    margin = 3.0
    return (finite.min() - margin, finite.max() + margin) if finite.size else (-10.0, 60.0)
