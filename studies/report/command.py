"""From a source to a report's file."""

from __future__ import annotations

from pathlib import Path

from samplers.errors import BadInput
from studies.figures.registry import find_figure


def run_report(
    *, path: Path, out: Path | None, figures: tuple[str, ...], select: tuple[str, ...], study: str | None, replace: bool
) -> None:
    """Write the report of a source.

    Raises:
        BadInput: no such source or figure, or a file that exists or cannot be written.
    """
    for name in figures:
        find_figure(name)
    if out is not None and out.exists() and not replace:
        raise _exists(out)
    import matplotlib

    matplotlib.use("agg")
    from studies.report.page import page
    from studies.results import require_writable
    from studies.sources.source import open_source
    from studies.store.files import publish

    source = open_source(path, study, select)
    place = out or Path(f"{source.name}-report.html")
    if place.exists() and not replace:
        raise _exists(place)
    require_writable(place.parent)
    publish(place, page(source, figures).encode())
    print(f"wrote: {place}")


def _exists(place: Path) -> BadInput:
    return BadInput(
        "a report never replaces a file", got=str(place), fix="name another with --output, or use --replace"
    )
