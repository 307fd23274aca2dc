"""``qnoise store``: look after a store's files. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look after a store: verify, merge, export, tidy up.", rich_markup_mode=None)

StoreArgument = Annotated[Path, typer.Argument(help="The store's folder.")]
StudyOption = Annotated[str | None, typer.Option(help="Which study, where the store has several.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def verify(store: StoreArgument, json: JsonOption = False) -> None:
    """Hash every file, and hold every run's name against its contents; 1 if one is damaged."""
    from studies.store.command import run_verify

    raise typer.Exit(run_verify(store, as_json=json))


@app.command()
def merge(
    store: StoreArgument,
    output: Annotated[Path, typer.Option(help="Folder of the Zarr store that is written.")],
    study: StudyOption = None,
) -> None:
    """Write a study's runs as one Zarr store with named axes."""
    from studies.store.command import run_merge

    run_merge(store, output, study)


@app.command()
def export(
    store: StoreArgument,
    output: Annotated[Path, typer.Option(help="The file: .nc for the merged dataset, .csv or .parquet for rows.")],
    rows: Annotated[str, typer.Option(help="What a row is: runs or steps.")] = "runs",
    study: StudyOption = None,
) -> None:
    """Write a study's runs for other programs."""
    from studies.store.command import run_export

    run_export(store, output, study, rows)


@app.command()
def gc(
    store: StoreArgument,
    shared: Annotated[bool, typer.Option("--shared", help="Also what is made again when a run needs it.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also damaged files, to be computed again.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Also runs that no study of the store asks for.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove what processes that died left behind."""
    from studies.store.command import run_gc

    run_gc(store, shared=shared, damaged=damaged, orphans=orphans, as_json=json)
