"""Heat maps over sites and steps: where, and when, noise arises."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from noise_models.metrics import sqnr_db
from studies.figures.needs import with_sites
from studies.plots import style
from studies.plots.curve import escaped
from studies.plots.panels import View, entitle, headline
from studies.plots.sites import COLORS, ROW, label_steps, plot_by_site
from studies.sources.groups import Group, arranged
from studies.sources.run import Run

KINDS = ("injected", "accumulated")


def sites_views(runs: Sequence[Run]) -> Iterator[View]:
    """A view per setting and kind of noise: one heat map per system, means over seeds, with one scale of colours."""
    found = arranged(with_sites(runs, "sites"))
    for panel in found:
        kinds = [kind for kind in KINDS if all(run.has(f"site_{kind}") for run in panel.runs)]
        for kind in kinds:
            maps = {group: site_map(group, f"site_{kind}") for group in panel.groups}
            for part in _parts(panel.groups, maps):
                named = [panel.title] * (len(found) > 1) + [kind]
                named += [part[0].label] * (len(part) < len(panel.groups))
                yield View(", ".join(named), _figure(part, maps, kind, panel.title))


def site_map(group: Group, variable: str) -> xr.DataArray:
    """SQNR in dB over (step, site), the mean over seeds."""
    found = [sqnr_db(run.dataset(), variable).sqnr_db for run in group.runs]
    with np.errstate(invalid="ignore"):
        return found[0].copy(data=np.mean([one.to_numpy() for one in found], axis=0))


def _parts(groups: Sequence[Group], maps: dict[Group, xr.DataArray]) -> list[list[Group]]:
    """Groups that share a figure: of the same sites, as many as stand side by side."""
    abreast, parts = style.abreast(4, 1.15), list[list[Group]]()
    for group in groups:
        last = parts[-1] if parts else []
        if last and len(last) < abreast and np.array_equal(maps[last[0]].site, maps[group].site):
            last.append(group)
        else:
            parts.append([group])
    return parts


def _figure(groups: Sequence[Group], maps: dict[Group, xr.DataArray], kind: str, title: str) -> plt.Figure:
    finite = np.concatenate([maps[group].values[np.isfinite(maps[group].values)] for group in groups])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    sites = maps[groups[0]].sizes["site"]
    with style.paper():
        size = style.size(ROW * sites + 0.8)
        figure, axes = plt.subplots(1, len(groups), figsize=size, sharey=True, squeeze=False, layout="constrained")
        for ax, group in zip(axes[0], groups, strict=True):
            plot_by_site(maps[group], ax=ax, cmap=COLORS, vmin=low, vmax=high)
            label_steps(group.first.dataset(), ax=ax, count=3 if len(groups) > 2 else 5)
            entitle(ax, group.label)
        every = math.ceil(sites * style.font(ROW * 72) / (72 * (size[1] - style.font(0.8))))  # labels must not overlap
        ax = axes[0, 0]
        ax.set_yticks(
            np.arange(0, sites, every),
            [escaped(str(name)) for name in maps[groups[0]].site.values[::every]], fontsize=style.font(5),
        )  # fmt: skip
        for ax in axes[0, 1:]:
            ax.tick_params(axis="y", length=0)
        bar = figure.colorbar(axes[0, -1].collections[0], ax=axes, pad=0.01, aspect=40)
        bar.set_label(f"SQNR of the site's output, {kind} (dB)")
        headline(figure, title)
        return figure
