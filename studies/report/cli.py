"""``qnoise report``: a store as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studies.figures.cli import SelectOption, SourceArgument, StudyOption


def report(
    source: SourceArgument,
    output: Annotated[
        Path | None, typer.Option(help="The file. [default: NAME-report.html in the working folder]")
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(help="As qnoise plot; repeat. [default: the study's own, else all that can be drawn]"),
    ] = None,
    select: SelectOption = None,
    study: StudyOption = None,
    replace: Annotated[bool, typer.Option(help="Replace the file if it exists.")] = False,
) -> None:
    """Write one self-contained HTML file: what was run, tables, figures, provenance, warnings."""
    from studies.report.command import run_report

    run_report(
        path=source, out=output, figures=tuple(figure or ()), select=tuple(select or ()), study=study, replace=replace
    )
