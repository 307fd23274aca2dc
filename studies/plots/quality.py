"""Quality: the Fréchet distance against the number of samples with its extrapolation, and KID with intervals."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.plots import style

FULL_PRECISION, HELD_OUT = "full_precision", "held_out"
_MARKERS = "osD^vP*X"
_TITLES = {"real": "against real images", FULL_PRECISION: "against full precision, other noise"}


def plot_frechet(dataset: xr.Dataset, reference: str, *, sets: list[str] | None = None, ax: Axes | None = None) -> Axes:
    """Fréchet distance over 1/n: measured in parts, the fitted line, and left of 0 its intercept with its interval.

    Args:
        dataset: of ``studies.quality.measurement.measure``.
        reference: "real" or "full_precision".
        sets: which; all that were compared if absent.
        ax: axes to draw on.
    """
    ax = plt.gca() if ax is None else ax
    names, drawn = dataset.sample_set.values.tolist(), 0
    shown = _compared(dataset, reference) if sets is None else sets
    widest = 1000 * float(dataset.inverse_part_size.sel(sample_set=shown, reference=reference).max())
    for name in shown:
        cell = dataset.sel(sample_set=name, reference=reference)
        color, marker = _look(names, name)
        x, y = 1000 * cell.inverse_part_size.values, cell.frechet_by_part.values
        ax.plot(x, y, marker, color=color, ms=3, label=_label(name, reference))
        end = float(cell.frechet_infinite)
        if np.isfinite(end):
            reach = np.array([0.0, np.nanmax(x)])
            ax.plot(reach, end + float(cell.frechet_slope) * reach / 1000, color=color, lw=0.8)
            errors = [[end - float(cell.frechet_infinite_low)], [float(cell.frechet_infinite_high) - end]]
            beside = -0.02 * (1 + drawn) * widest  # so that intervals do not hide each other
            ax.errorbar(
                [beside], [end], yerr=errors, color=color, marker=marker, ms=3, mfc="white", capsize=1.5, lw=0.9
            )
            drawn += 1
    ax.axhline(0.0, color="0.4", lw=0.6)
    ax.axvline(0.0, color="0.4", lw=0.6)
    ax.set_xlabel("1000 / samples of either set")
    return ax


def plot_kid(dataset: xr.Dataset, reference: str, *, sets: list[str] | None = None, ax: Axes | None = None) -> Axes:
    """KID of every set with its interval, one row each; arguments as :func:`plot_frechet`."""
    ax = plt.gca() if ax is None else ax
    names = dataset.sample_set.values.tolist()
    shown = _compared(dataset, reference) if sets is None else sets
    for row, name in enumerate(shown):
        cell = dataset.sel(sample_set=name, reference=reference)
        color, marker = _look(names, name)
        value, low, high = (1000 * float(cell[key]) for key in ("kid", "kid_low", "kid_high"))
        ax.errorbar([value], [row], xerr=[[value - low], [high - value]], color=color, marker=marker, ms=3, capsize=2)
    ax.axvline(0.0, color="0.4", lw=0.6)
    ax.set_yticks(range(len(shown)), [_label(name, reference) for name in shown])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_xlabel("1000 KID")
    return ax


def quality_figure(dataset: xr.Dataset) -> Figure:
    """One row per reference: Fréchet distance over 1/n beside KID, of the sets near enough to share a scale."""
    references = dataset.reference.values.tolist()
    with style.paper():
        figure, axes = plt.subplots(
            len(references), 2, figsize=style.size(2.0 * len(references) + 0.3), squeeze=False,
            layout="constrained", gridspec_kw={"width_ratios": [1.25, 1.0]},
        )  # fmt: skip
        for row, reference in zip(axes, references, strict=True):
            near, far = near_and_far(dataset, reference)
            plot_frechet(dataset, reference, sets=near, ax=row[0])
            row[0].set_ylabel("Fréchet distance")
            row[0].set_title(_TITLES.get(reference, reference))
            plot_kid(dataset, reference, sets=near, ax=row[1])  # its labels are the legend of both
            if far:
                outside = ", ".join(_label(name, reference) for name in far)
                row[1].set_title(f"far outside, not shown: {outside}", fontsize=style.font(6.5))
        return figure


def near_and_far(dataset: xr.Dataset, reference: str) -> tuple[list[str], list[str]]:
    """Sets that share a scale, and those five times as far as all that is drawn of these."""
    compared = _compared(dataset, reference)
    parts = dataset.frechet_by_part.sel(reference=reference)
    nearest = {name: float(parts.sel(sample_set=name).min()) for name in compared}
    near: list[str] = []
    for name in sorted(compared, key=lambda name: nearest[name]):
        if len(near) > 1 and nearest[name] > 5 * float(parts.sel(sample_set=near).max()):
            break
        near.append(name)
    return [name for name in compared if name in near], [name for name in compared if name not in near]


def _compared(dataset: xr.Dataset, reference: str) -> list[str]:
    compared = np.isfinite(dataset.frechet.sel(reference=reference))
    return dataset.sample_set.values[compared.values].tolist()


def _look(names: list[str], name: str) -> tuple[str, str]:
    """Colour and marker, the same in every axes; grey for what is no sample of a scheme."""
    marker = _MARKERS[names.index(name) % len(_MARKERS)]
    if name in (FULL_PRECISION, HELD_OUT):
        return ("0.25" if name == FULL_PRECISION else "0.55"), marker
    schemes = [each for each in names if each not in (FULL_PRECISION, HELD_OUT)]
    return style.COLORS[schemes.index(name) % len(style.COLORS)], marker


def _label(name: str, reference: str) -> str:
    floor = " (floor)" if name in (HELD_OUT, reference) else ""
    return {FULL_PRECISION: "full precision", HELD_OUT: "held-out images"}.get(name, name.upper()) + floor
