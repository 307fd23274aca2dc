"""Noise against the output that it is noise of: slope k and correlation at every step, and kept samples' elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from noise_models.decomposition.split import decompose
from studies.figures.needs import with_variables
from studies.plots.curve import plot_curve
from studies.plots.noise_scatter import noise_scatter_figure
from studies.plots.panels import View, headline, over_timesteps, panels, shared_legend
from studies.sources.curves import curve_of, intervals_of
from studies.sources.groups import Panel, arranged
from studies.sources.run import Run

QUANTITIES = {"slope": "slope $k$", "correlation": "correlation with $\\epsilon$"}
KEPT = ("epsilon_kept", "noise_kept_injected")


def noise_output_views(runs: Sequence[Run]) -> Iterator[View]:
    """Slope and correlation of injected noise from all samples' moments; below, elements where a run keeps samples."""
    found = arranged(
        with_variables(runs, "noise-output", ["epsilon_injected"], "runs with injected noise", "run it as a study")
    )
    for panel in found:
        setting = f"{panel.title}, " if len(found) > 1 else ""
        yield View(f"{setting}slope", _slopes(panel).figure)
        for group in panel.groups:
            if group.first.has(*KEPT):
                yield View(f"{setting}{group.label}, elements", noise_scatter_figure(group.first.dataset()))


def _slopes(panel: Panel) -> View:
    with panels(2) as (figure, axes):
        for ax, (name, label) in zip(axes, QUANTITIES.items(), strict=True):
            for index, group in enumerate(panel.groups):
                curve = curve_of(group, partial(decompose, variable="epsilon_injected"), name)
                plot_curve(curve, index=index, label=group.label, ax=ax)
            ax.axhline(0, color="0.3", lw=0.6, zorder=0)
            ax.set_ylabel(label)
        over_timesteps(axes)
        shared_legend(figure, axes)
        headline(figure, f"{panel.title}: injected noise, {intervals_of(panel.groups)}")
    return View("", figure)
