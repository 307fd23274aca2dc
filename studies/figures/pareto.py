"""Pareto: bit operations, or bytes of weights, against the SQNR of the final sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from noise_models.metrics import sqnr_db
from studies.figures.needs import with_variables
from studies.plots.cost import Point, plot_cost
from studies.plots.panels import View, entitle, headline, panels, shared_legend
from studies.seeds import over_seeds
from studies.sources.curves import intervals_of
from studies.sources.groups import Group, arranged
from studies.sources.numbers import NUMBERS
from studies.sources.run import Run

COSTS = ("bops", "weight_bytes")


def pareto_views(runs: Sequence[Run]) -> Iterator[View]:
    """A view per cost, a panel per setting."""
    found = arranged(
        with_variables(
            runs, "pareto", (*COSTS, "state_accumulated"), "runs whose costs were counted", "run them as a study"
        )
    )
    for cost in COSTS:
        number = NUMBERS[cost]
        with panels(len(found), least=2.4, height=2.2) as (figure, axes):
            for ax, panel in zip(axes, found, strict=True):
                plot_cost([_point(group, cost) for group in panel.groups], ax=ax)
                entitle(ax, panel.title)
                ax.set_xlabel(number.title)
                ax.set_ylabel("final SQNR (dB)")
            shared_legend(figure, axes)
            said = intervals_of(group for panel in found for group in panel.groups)
            headline(figure, f"SQNR of the final sample, {said}")
        yield View(cost.replace("_", " "), figure)


def _point(group: Group, cost: str) -> Point:
    runs = [run.dataset() for run in group.runs]
    number = NUMBERS[cost]
    final = [sqnr_db(run, "state_accumulated").isel(step=-1) for run in runs]
    if len(runs) > 1:
        value, low, high = map(float, over_seeds([float(one.sqnr_db) for one in final]))
    else:
        value, low, high = (float(final[0][f"sqnr_db{end}"]) for end in ("", "_low", "_high"))
    spent = sum(number.of(run) for run in runs) / len(runs)
    return Point(group.label, spent * number.scale, value, low, high)
