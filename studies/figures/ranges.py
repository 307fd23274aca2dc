"""Activation ranges over time: how the outputs of sites spread at each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from studies.figures.needs import with_sites
from studies.plots import style
from studies.plots.curve import escaped
from studies.plots.panels import View, entitle, headline, over_timesteps, panels, shared_legend
from studies.plots.ranges import plot_ranges, site_moments
from studies.plots.sites import COLORS, ROW, label_steps, plot_by_site
from studies.sources.groups import Panel, arranged
from studies.sources.run import Run

SHOWN = 6
"""Sites drawn one by one: those whose spread changes most."""


def range_views(runs: Sequence[Run]) -> Iterator[View]:
    """Per setting: the sites whose spread changes most, and the spread of every site over the steps.

    Full precision's outputs are drawn, so one system stands for all; minima and maxima are not recorded.
    """
    found = arranged(with_sites(runs, "ranges"))
    for panel in found:
        setting = f"{panel.title}, " if len(found) > 1 else ""
        moments = _moments(panel)
        deviation = moments.deviation.to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.nan_to_num(deviation.max(0) / deviation.min(0), posinf=0.0)
        moving = moments.site.values[np.argsort(-change, kind="stable")[:SHOWN]]
        with panels(len(moving), abreast=3, least=1.5, height=1.5) as (figure, axes):
            for ax, site in zip(axes, sorted(moving, key=list(moments.site.values).index), strict=True):
                plot_ranges(moments, site, ax=ax)
                ax.set_title(escaped(str(site)), fontsize=style.font(5.5))
            over_timesteps(axes)
            shared_legend(figure, axes)
            headline(figure, f"{panel.title}: outputs in full precision")
        yield View(f"{setting}sites that change most", figure)
        yield View(f"{setting}all sites", _map(panel, moments))


def _moments(panel: Panel) -> xr.Dataset:
    """Of the first system's runs, the mean over seeds."""
    found = [site_moments(run.dataset()) for run in panel.groups[0].runs]
    means = {name: np.mean([one[name].to_numpy() for one in found], axis=0) for name in ("mean", "deviation")}
    return found[0].assign({name: found[0][name].copy(data=values) for name, values in means.items()})


def _map(panel: Panel, moments: xr.Dataset) -> plt.Figure:
    share = moments.deviation / moments.deviation.max("step")
    with style.paper():
        size = style.size(ROW * share.sizes["site"] + 0.8)
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        plot_by_site(share, ax=ax, cmap=COLORS, vmin=0.0, vmax=1.0)
        label_steps(panel.groups[0].first.dataset(), ax=ax)
        bar = figure.colorbar(ax.collections[0], ax=ax, pad=0.01, aspect=40)
        bar.set_label("deviation, largest of all steps = 1")
        entitle(ax, panel.title)
        return figure
