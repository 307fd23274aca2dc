"""Predicted against measured SQNR of every site: on the diagonal where operand rounding alone explains its noise."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.plots import style

KINDS = (("convolution", ("conv",), "o"), ("linear", ("linear", "addmm"), "s"), ("attention", ("qk", "pv"), "^"))
"""Label, what an operation's name starts with, marker."""

NAMED_DB = 3.0
"""Sites off by more than this carry their name."""


def plot_layer_prediction(
    compared: xr.Dataset,
    *,
    predictor: str = "uniform",
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One point per site, powers pooled over steps: predicted SQNR to the right, measured upwards, in dB.

    Bars are the measured intervals, the band is the comparison's tolerance around the diagonal. Sites off by more than
    3 dB carry their name. Sites without both values are left out.

    Args:
        compared: of ``noise_models.theory.layer_comparison.compare_layers``.
        predictor: one of ``noise_models.theory.layers.PREDICTORS``.
        limits: of both axes; the data's own if absent.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    predicted = compared["site_predicted_sqnr_db"].sel(predictor=predictor).values
    measured = compared["site_measured_sqnr_db"].values
    low, high = (compared[f"site_measured_sqnr_db_{end}"].values for end in ("low", "high"))
    drawn = np.isfinite(predicted) & np.isfinite(measured)
    ends = _limits([compared], predictor) if limits is None else limits
    diagonal, tolerance = np.array(ends), compared.attrs["tolerance_db"]
    ax.fill_between(diagonal, diagonal - tolerance, diagonal + tolerance, color="0.85", lw=0, zorder=0)
    ax.plot(diagonal, diagonal, color="0.5", lw=0.6, zorder=1)
    kinds = np.array([_kind(str(site)) for site in compared.site.values])
    for index, (label, _, marker) in enumerate((*KINDS, ("other", (), "D"))):
        chosen = drawn & (kinds == index)
        if not chosen.any():
            continue
        bars = np.nan_to_num([measured - low, high - measured])[:, chosen]
        ax.errorbar(
            predicted[chosen], measured[chosen], yerr=bars, fmt=marker, ms=3, mew=0.4, mec="white", elinewidth=0.6,
            color=style.COLORS[index], label=label, zorder=2,
        )  # fmt: skip
    missed = np.flatnonzero(drawn & (abs(predicted - measured) > NAMED_DB))
    names = [str(compared.site.values[site]).split(":")[0] for site in missed]
    _name(ax, predicted[missed], measured[missed], names, ends[1] - ends[0])
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.set_aspect("equal")
    return ax


def layer_prediction_figure(compared: Sequence[xr.Dataset], *, predictor: str = "uniform", columns: int = 2) -> Figure:
    """One panel per dataset, schemes of one network, with the axes in common."""
    limits = _limits(compared, predictor)
    rows, width = -(-len(compared) // columns), style.size(1.0)[0]
    columns = min(columns, len(compared))
    with style.paper():
        figure, axes = plt.subplots(
            rows, columns, figsize=(width * columns / 2, width / 2 * rows), sharex=True,
            sharey=True, squeeze=False, layout="constrained",
        )  # fmt: skip
        for ax in axes.flat[len(compared) :]:
            ax.set_axis_off()
        for ax, dataset in zip(axes.flat, compared, strict=False):
            plot_layer_prediction(dataset, predictor=predictor, limits=limits, ax=ax)
            ax.set_title(dataset.scheme.item().upper())
        for ax in axes[:, 0]:
            ax.set_ylabel("measured SQNR (dB)")
        for ax in axes[-1]:
            ax.set_xlabel("predicted SQNR (dB)")
        axes[0, 0].legend(loc="upper left")
        return figure


def _name(ax: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], span: float) -> None:
    """Names beside their points, away from the diagonal, from the top down with a line's height between them."""
    for right in (True, False):
        side = np.flatnonzero((y < x) == right)
        below = np.inf
        for index in side[np.argsort(-y[side], kind="stable")]:
            below = min(y[index], below - 0.035 * span)
            at = x[index] + (0.02 if right else -0.02) * span, below
            ax.annotate(names[index], at, fontsize=style.font(5), ha="left" if right else "right", va="center")


def _kind(site: str) -> int:
    operation = site.rsplit(":", 1)[-1]
    found = [index for index, (_, starts, _) in enumerate(KINDS) if operation.startswith(starts)]
    return found[0] if found else len(KINDS)


def _limits(compared: Sequence[xr.Dataset], predictor: str) -> tuple[float, float]:
    """A little more than all finite values; 0 to 1 without one."""
    values = np.concatenate(
        [each["site_predicted_sqnr_db"].sel(predictor=predictor).values for each in compared]
        + [each["site_measured_sqnr_db"].values for each in compared]
    )
    finite = values[np.isfinite(values)]
    return (float(finite.min()) - 2, float(finite.max()) + 2) if finite.size else (0.0, 1.0)
