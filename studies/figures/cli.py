"""``qnoise plot`` and ``qnoise table``: stored runs as figures and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from studies.plots.venues import COLUMNS, STYLES

SourceArgument = Annotated[
    Path, typer.Argument(help="A store, a results folder of qnoise run, or a run's .nc file.", show_default=False)
]
SelectOption = Annotated[
    list[str] | None,
    typer.Option(help="field=value: only these runs; repeat for several fields, or for several values of one."),
]
StudyOption = Annotated[str | None, typer.Option(help="One of a store's studies. [default: all]")]


def plot(
    source: Annotated[Path | None, typer.Argument(help="A store, a results folder, or a run's .nc file.")] = None,
    figure: Annotated[
        list[str] | None, typer.Option(help="Its name; repeat for several. [default: those that the study names]")
    ] = None,
    style: Annotated[str, typer.Option(help=f"{', '.join(STYLES)}: widths and letters.")] = "iclr",
    column: Annotated[
        str | None,
        typer.Option(help=f"{' or '.join(COLUMNS)}, of icml and cvpr. [default: by the figure]"),
    ] = None,
    format: Annotated[list[str] | None, typer.Option(help="pdf, png or svg; repeat. [default: pdf and png]")] = None,
    select: SelectOption = None,
    study: StudyOption = None,
    output: Annotated[Path, typer.Option(help="Folder; files of the same name are replaced, whole.")] = Path("figures"),
    list_: Annotated[bool, typer.Option("--list", help="List the figures, with what each needs.")] = False,
) -> None:
    """Draw figures of stored runs: means over seeds with intervals, the same bytes each time."""
    from studies.figures.command import list_figures, run_plot

    if list_:
        list_figures()
        return
    if source is None:
        raise typer.BadParameter("name a store, a results folder or a run's file, or use --list")
    run_plot(
        path=source, figures=tuple(figure or ()), style=style, column=column, formats=tuple(format or ()),
        select=tuple(select or ()), study=study, out=output,
    )  # fmt: skip


def table(
    source: SourceArgument,
    rows: Annotated[
        list[str] | None, typer.Option(help="Field of a run; repeat. [default: the first that varies]")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="Field of a run. [default: the next that varies]")] = None,
    value: Annotated[
        str,
        typer.Option(
            help="final_sqnr_db, final_median_db, injected_sqnr_db, accumulated_sqnr_db, decoded_sqnr_db, bops or "
            "weight_bytes."
        ),
    ] = "final_sqnr_db",
    format: Annotated[str, typer.Option(help="text, latex (booktabs), html, markdown or csv.")] = "text",
    select: SelectOption = None,
    study: StudyOption = None,
    output: Annotated[Path | None, typer.Option(help="File. [default: standard output]")] = None,
) -> None:
    """Print a table of stored runs: means over seeds with 95 % intervals."""
    from studies.figures.tabulate import run_table

    run_table(
        path=source, rows=tuple(rows or ()), columns=columns, value=value, form=format, select=tuple(select or ()),
        study=study, out=output,
    )  # fmt: skip
