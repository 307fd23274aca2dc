"""Panels side by side and below one another, as many abreast as the venue's column holds, with one legend for all."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.plots import style
from studies.plots.curve import escaped

LETTERS = 14.5
"""Of a title, in an inch."""


@dataclass(frozen=True)
class View:
    """One of a figure's views: of another setting, system or kind of noise than the others.

    Args:
        label: what tells it from the others; empty where there are none.
        figure: the drawing.
    """

    label: str
    figure: Figure


@contextmanager
def panels(
    count: int, *, abreast: int = 2, least: float = 2.2, height: float = 1.9, share_y: bool = False
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with so many axes, laid out within the venue's width; within, its settings hold.

    Args:
        count: of axes.
        abreast: at most, side by side.
        least: width of one, inches.
        height: of one, inches of print.
        share_y: whether rows share the y-axis.
    """
    columns = min(count, style.abreast(abreast, least))
    rows = -(-count // columns)
    with style.paper():
        figure, axes = plt.subplots(
            rows, columns, figsize=style.size(height * rows + 0.35), squeeze=False, layout="constrained",
            sharey="row" if share_y else False,
        )  # fmt: skip
        for ax in axes.flat[count:]:
            ax.set_axis_off()
        yield figure, list(axes.flat[:count])


def headline(figure: Figure, text: str) -> None:
    """A title above all axes, over as many lines as the width asks for."""
    figure.suptitle(escaped(wrapped(text, 1)), fontsize="medium")


def entitle(ax: Axes, text: str) -> None:
    """A title above axes that does not run into its neighbour's."""
    place = ax.get_subplotspec()
    ax.set_title(escaped(wrapped(text, place.get_gridspec().ncols if place else 1)))


def wrapped(text: str, columns: int) -> str:
    """Text in lines that fit one of so many columns."""
    return "\n".join(textwrap.wrap(text, max(12, int(LETTERS * style.size(1.0)[0] / style.font(1.0) / columns))))


def over_timesteps(axes: Sequence[Axes]) -> None:
    """Label the x-axes; sampling runs from left to right."""
    for ax in axes:
        ax.set_xlabel("timestep $t$")
        if not ax.xaxis_inverted():
            ax.invert_xaxis()


def shared_legend(figure: Figure, axes: Sequence[Axes], *, least: float = 1.1) -> None:
    """One legend below, of all that is labelled in any of the axes."""
    found: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    longest = max(map(len, found), default=0)
    columns = style.abreast(6, max(least, 0.35 + 0.055 * longest))
    if found:
        place: Any = "outside lower center"  # not in matplotlib's stub
        figure.legend(list(found.values()), list(found), loc=place, ncols=min(columns, len(found)))
