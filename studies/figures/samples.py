"""Grids of final samples: full precision above every system, on the same noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from studies.figures.needs import with_variables
from studies.plots.curve import escaped
from studies.plots.panels import View
from studies.plots.samples import grid_figure, shown_images
from studies.sources.groups import arranged
from studies.sources.run import Run

FULL = "full precision"


def sample_views(runs: Sequence[Run]) -> Iterator[View]:
    """A view per setting, of the least seed."""
    found = arranged(
        with_variables(
            runs, "samples", ("sample_quantized", "sample_reference"), "runs that walked to final samples",
            "run it as a study",
        )
    )  # fmt: skip
    for panel in found:
        rows = [(FULL, shown_images(panel.groups[0].first.dataset(), "reference"))]
        rows += [(escaped(group.label), shown_images(group.first.dataset(), "quantized")) for group in panel.groups]
        yield View(panel.title if len(found) > 1 else "", grid_figure(rows))
