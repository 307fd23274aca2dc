"""``qnoise plot``: figures of stored runs as files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samplers.errors import BadInput
from studies.figures.registry import FIGURES, find_figure
from studies.plots.venues import find_style

if TYPE_CHECKING:
    from studies.plots.venues import Style
    from studies.sources.run import Run
    from studies.sources.source import Source

FORMATS = ("pdf", "png", "svg")
DEFAULT_FORMATS = ("pdf", "png")


def list_figures() -> None:
    """Print every figure with what it needs."""
    from studies.console import print_table

    print_table("Figures", ["name", "shows", "needs"], [[name, e.title, e.needs or "-"] for name, e in FIGURES.items()])


def run_plot(
    *, path: Path, figures: tuple[str, ...], style: str, column: str | None, formats: tuple[str, ...],
    select: tuple[str, ...], study: str | None, out: Path,
) -> None:  # fmt: skip
    """Write figures of a source's runs, those named or those that its studies name.

    Raises:
        BadInput: an unknown name, a figure that the runs do not have the data of, or a folder that cannot be written.
    """
    venue = find_style(style)
    venue.width(column)
    for name in figures:
        find_figure(name)
    for name in formats:
        if name not in FORMATS:
            raise BadInput(f"format must be one of {', '.join(FORMATS)}", got=repr(name), fix="choose one")
    import matplotlib

    matplotlib.use("agg")
    from studies.results import require_writable
    from studies.sources.source import open_source, require_runs
    from studies.store.files import publish

    source = open_source(path, study, select)
    runs = require_runs(source)
    tell_left_out(source)
    chosen = figures or source.figures
    if not chosen:
        raise BadInput(
            "a figure must be named where no study names one", got=source.name, fix=f"--figure {', '.join(FIGURES)}"
        )
    require_writable(out)
    for name in chosen:
        for file, content in drawn(name, runs, venue, column, tuple(dict.fromkeys(formats)) or DEFAULT_FORMATS):
            publish(out / file, content)
            print(f"wrote: {out / file}")


def drawn(
    name: str, runs: Sequence[Run], venue: Style, column: str | None, formats: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """File names and bytes of a figure's views: the same bytes for the same runs.

    Raises:
        BadInput: the runs do not have what it needs.
    """
    import matplotlib.pyplot as plt

    from studies.plots.style import drawn_for, file_bytes

    entry, taken = find_figure(name), set[str]()
    with drawn_for(venue, column, wide=entry.wide):
        for view in entry.views(runs):
            stem = _stem(name, view.label, taken)
            for suffix in formats:
                yield f"{stem}.{suffix}", file_bytes(view.figure, suffix)
            plt.close(view.figure)


def tell_left_out(source: Source) -> None:
    """Say on standard error which runs are not in what follows."""
    for part in source.parts:
        if part.failures or part.missing or part.doubles:
            left_out = (
                f"{len(part.failures)} failed, {part.missing} not computed yet, {part.doubles} of the same fields"
            )
            print(f"{part.name}: {len(part.runs)} runs; left out: {left_out}", file=sys.stderr)


def _stem(name: str, label: str, taken: set[str]) -> str:
    """A file's name without its suffix: letters, digits, dots, dashes; each once."""
    plain = label.replace("η", "eta").replace("+", "")
    short = re.sub(r"[^A-Za-z0-9.]+", "-", plain).strip("-.").lower()[:80]
    stem, count = "-".join(filter(None, (name, short))), 1
    while stem in taken:
        count += 1
        stem = f"{'-'.join(filter(None, (name, short)))}-{count}"
    taken.add(stem)
    return stem
