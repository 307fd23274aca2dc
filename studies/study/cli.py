"""``qnoise study``: run grids of runs, and see how they stand. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run a study: a grid of runs, into a store that loses nothing.", rich_markup_mode=None)

FileArgument = Annotated[Path, typer.Argument(help="A study's TOML file, or a stored run's .nc file.")]
StoreArgument = Annotated[Path, typer.Argument(help="The store's folder.")]
StoreOption = Annotated[Path | None, typer.Option(help="The store's folder. [default: results/NAME]")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="field=value, in place of what the file says; a list varies. Repeat for several."),
]
WorkersOption = Annotated[int | None, typer.Option(help="Processes on this machine. [default: as cores allow]")]
SchedulerOption = Annotated[str | None, typer.Option(help="Address of a dask scheduler, such as tcp://host:8786.")]
RecomputeOption = Annotated[str | None, typer.Option(help="stale: make runs again that other code or libraries made.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON; of run and resume, a line per event.")]


@app.command()
def run(
    file: FileArgument,
    store: StoreOption = None,
    change: SetOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    recompute: RecomputeOption = None,
    json: JsonOption = False,
) -> None:
    """Run what the store does not hold yet; stop and go on at any time."""
    from studies.study.command import run_study
    from studies.study.sources import study_from

    study = study_from(file, tuple(change or ()))
    raise typer.Exit(
        run_study(
            study, store or Path("results") / study.name, workers=workers, scheduler=scheduler, recompute=recompute,
            as_json=json,
        )
    )  # fmt: skip


@app.command()
def resume(
    store: StoreArgument,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    recompute: RecomputeOption = None,
    json: JsonOption = False,
) -> None:
    """Go on with all that was asked of a store."""
    from studies.study.command import resume as resume_store

    raise typer.Exit(resume_store(store, workers=workers, scheduler=scheduler, recompute=recompute, as_json=json))


@app.command()
def check(
    file: FileArgument,
    change: SetOption = None,
    workers: WorkersOption = None,
    probe: Annotated[bool, typer.Option(help="Compute one run, to estimate time and disk.")] = True,
    json: JsonOption = False,
) -> None:
    """Check a study without running it: how many runs, and about how long and how large."""
    from studies.study.check import check_study
    from studies.study.sources import study_from

    check_study(study_from(file, tuple(change or ())), workers=workers, probe=probe, as_json=json)


@app.command()
def status(store: StoreArgument, json: JsonOption = False) -> None:
    """Print how the studies of a store stand, and why runs failed."""
    from studies.study.status import show_status

    raise typer.Exit(show_status(store, as_json=json))
