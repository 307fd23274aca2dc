"""Figures of a report: every view an SVG inside the page, and what could not be drawn, said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt

from samplers.errors import BadInput
from studies.figures.registry import FIGURES, find_figure
from studies.plots.style import drawn_for, figure_bytes
from studies.plots.venues import ICLR
from studies.report.markup import Html, element, joined
from studies.report.svg import inlined
from studies.sources.run import Run


@dataclass(frozen=True)
class Drawing:
    """A figure by its name.

    Args:
        name: of ``qnoise plot``.
        content: its views; empty where it could not be drawn.
        lacks: why not.
    """

    name: str
    content: Html
    lacks: str = ""


def drawings(runs: Sequence[Run], names: Sequence[str], prefix: str) -> Iterator[Drawing]:
    """The figures that are named, else all that the runs have the data of.

    Args:
        runs: of one study.
        names: of figures; one that cannot be drawn is said to lack something.
        prefix: of ids, other for each study of a page.
    """
    for name in names or FIGURES:
        try:
            yield Drawing(name, _drawn(name, runs, f"{prefix}-{name}"))
        except BadInput as error:
            if names:
                yield Drawing(name, Html(""), str(error))


def _drawn(name: str, runs: Sequence[Run], prefix: str) -> Html:
    entry, views = find_figure(name), list[Html]()
    with drawn_for(ICLR):
        for index, view in enumerate(entry.views(runs)):
            title = f"{entry.title}: {view.label}" if view.label else entry.title
            drawing = inlined(figure_bytes(view.figure, "svg"), f"{prefix}-{index}", title)
            plt.close(view.figure)
            heading = element("h4", view.label) if view.label else Html("")
            views.append(
                element(
                    "section", heading, element("div", drawing, class_="drawing"), class_="view", data_label=view.label
                )
            )
    content = element("div", *views, class_="views", data_title=entry.title) if len(views) > 1 else joined(*views)
    return element("figure", element("figcaption", f"{entry.title[0].upper()}{entry.title[1:]}"), content, id=prefix)
