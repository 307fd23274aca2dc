"""SQNR of each step: injected beside accumulated, a row of panels per setting, a line per system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from noise_models.metrics import sqnr_db
from studies.figures.needs import with_variables
from studies.plots.curve import plot_curve
from studies.plots.panels import View, entitle, headline, over_timesteps, panels, shared_legend
from studies.plots.snr import KINDS, plot_thresholds
from studies.sources.curves import curve_of, intervals_of
from studies.sources.groups import Panel, arranged
from studies.sources.run import Run

MOST_PANELS = 3
"""Settings in one figure."""


def snr_views(runs: Sequence[Run]) -> Iterator[View]:
    """A view for every three settings, PTQD's thresholds over the measurement."""
    found = arranged(
        with_variables(runs, "snr", [name for name, _ in KINDS], "runs with both kinds of noise", "run it as a study")
    )
    for first in range(0, len(found), MOST_PANELS):
        part = found[first : first + MOST_PANELS]
        yield _view(part, "" if len(found) <= MOST_PANELS else f"{first + 1} to {first + len(part)}")


def _view(parts: Sequence[Panel], label: str) -> View:
    with panels(2 * len(parts), share_y=True) as (figure, axes):
        for row, panel in enumerate(parts):
            own = axes[2 * row : 2 * row + 2]
            for ax, (variable, name) in zip(own, KINDS, strict=True):
                for index, group in enumerate(panel.groups):
                    curve = curve_of(group, partial(sqnr_db, variable=variable), "sqnr_db")
                    plot_curve(curve, index=index, label=group.label, ax=ax)
                entitle(ax, f"{panel.title}: {name}")
                ax.set_ylabel("SQNR of $\\epsilon$ (dB)")
            limits = _limits(own)
            for ax in own:
                plot_thresholds(panel.groups[0].first.dataset(), ax=ax)
                ax.set_ylim(*limits)
        over_timesteps(axes)
        shared_legend(figure, axes)
        headline(figure, intervals_of(group for panel in parts for group in panel.groups))
    return View(label, figure)


def _limits(axes: Sequence[Axes]) -> tuple[float, float]:
    """Limits that hold every SQNR drawn so far; thresholds, which span 80 dB, may leave the frame."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for ax in axes for line in ax.lines])
    finite = values[np.isfinite(values)]
    return (finite.min() - 3.0, finite.max() + 3.0) if finite.size else (-10.0, 60.0)
