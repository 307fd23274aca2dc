"""``qnoise predict``: a grid of predictions against measurements, cell by cell, resumable.

The folder holds a file per cell, ``job.json`` from the start, and table and figure when the grid is complete. Every
file is put in place whole, so an interrupted grid goes on where it stopped. How certain results must be is no part of
the folder's name: samples are added to the cells that are there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

    from simulator.models.registry import Model
    from studies.job import Job
    from studies.prediction.cells import Effort

DEFAULT_SCHEMES = ("w8a8", "w6a6", "w4a8")
DEFAULT_SAMPLERS = ("ddim:0", "ddim:0.5", "ddim:1", "ddpm:fixed_large")
DEFAULT_STEPS = (10, 20, 50, 100)
RECORDS = "prediction.json"
GOES_ON = ("standard_error", "most_samples", "prediction_standard_error", "most_prediction_samples")
"""Effort that a finished cell can be given more of."""


def run_grid(
    *,
    model: str,
    schemes: tuple[str, ...],
    samplers: tuple[str, ...],
    steps: tuple[int, ...],
    threads: int | None,
    conditioning: Path | None,
    guidance: float,
    out: Path,
    as_json: bool,
    **effort: Any,
) -> None:
    """Compute every missing cell of the grid, then print the table and draw the figure of all of them.

    Raises:
        BadInput: before the work, an option that breaks its rule.
    """
    import torch  # noqa: F401 - before any kernel, as in ``qnoise run``

    from noise_models.propagation.error_recursion import require_linear
    from simulator.instrument.scheme import Scheme
    from simulator.models.loading import is_factory, load
    from simulator.provenance import run_key
    from simulator.threads import set_threads
    from studies.console import progress
    from studies.job import Job, Part
    from studies.main_job import available_threads, put_working_folder_on_path
    from studies.prediction.cells import Effort, predict_cell
    from studies.prediction.summary import summarise
    from studies.results import folder_for, found_or_wrote, json_bytes, require_writable
    from studies.sampler_names import read_sampler, spell
    from studies.store.files import dataset_bytes, publish, read

    asked = Effort(**effort)
    counts = steps or DEFAULT_STEPS
    parts = tuple(
        Part(name, eta, schemes or DEFAULT_SCHEMES, knobs)
        for name, eta, knobs in map(read_sampler, samplers or DEFAULT_SAMPLERS)
    )
    names = [spell(part.sampler, part.eta, part.knobs) for part in parts]
    if len(set(names)) < len(names) or len(set(counts)) < len(counts):
        raise BadInput(
            "samplers and numbers of steps must differ", got=f"{', '.join(names)}; {counts}", fix="name each once"
        )
    job = Job(
        model, parts, counts[0], asked.most_samples, asked.seed, asked.calibration_samples, asked.batch_size,
        available_threads() if threads is None else threads,
        None if conditioning is None else str(conditioning), guidance,
    )  # fmt: skip
    if is_factory(model):
        put_working_folder_on_path()
    loaded, given = load(model), job.conditions()
    if given is not None:
        given.of(loaded, range(1))
    parsed = [Scheme.parse(text) for text in parts[0].schemes]
    cells = {
        f"{name.replace(':', '-')}-{count}.nc": (name, part.build(loaded, count))
        for name, part in zip(names, parts, strict=True)
        for count in counts
    }
    for _, sampler in cells.values():
        require_linear(sampler)
    require_writable(out)
    set_threads(job.threads)
    config = _config(job, loaded, asked)
    folder = folder_for(out, loaded.name, run_key(config), "predict")
    reused = (folder / RECORDS).exists()
    folder.mkdir(exist_ok=True)
    publish(folder / "job.json", json_bytes({"config": config}))
    found = []
    with progress() as report:
        for file, (name, sampler) in cells.items():
            title = f"{name}, {sampler.config()['num_inference_steps']} steps"
            have = read(folder / file) if (folder / file).exists() else None
            cell = predict_cell(
                loaded, sampler, parsed, asked, partial(_under, report, title), name=name, conditioning=given, have=have
            )
            if cell is not have:
                publish(folder / file, dataset_bytes(cell))
                reused = False
            found.append(summarise(cell))
    show(found, folder, reused, as_json)
    if not as_json:
        print(found_or_wrote(folder, reused))


def _under(report: Callable[[str, int, int], None], title: str, what: str, done: int, total: int) -> None:
    report(f"{title}: {what}", done, total)


def show(cells: list[xr.Dataset], folder: Path, reused: bool, as_json: bool) -> None:
    """Print the table of all cells and draw predicted against measured."""
    import matplotlib

    matplotlib.use("agg")
    from studies.console import jsonable, print_json, print_table
    from studies.plots.prediction import prediction_figure
    from studies.plots.style import figure_bytes
    from studies.prediction.table import hits, prediction_records, prediction_rows
    from studies.results import json_bytes
    from studies.store.files import publish

    records = prediction_records(cells)
    figure = prediction_figure(cells)
    for suffix in ("pdf", "png"):
        publish(folder / f"prediction.{suffix}", figure_bytes(figure, suffix))
    publish(folder / RECORDS, json_bytes(jsonable(records)))
    if as_json:
        print_json({"folder": str(folder), "reused": reused, "predictions": records})
        return
    print_table("SQNR of the final sample, dB: measured, and what predictors are off by", *prediction_rows(records))
    for what, right, total in hits(records):
        print(f"{what}: {right} of {total} within 1 dB")


def _config(job: Job, model: Model, effort: Effort) -> dict[str, Any]:
    """What determines a cell besides its sampler and steps."""
    import dataclasses

    config = job.config(model)
    return {
        **{name: value for name, value in config.items() if name not in ("parts", "num_inference_steps", "samples")},
        **{name: value for name, value in dataclasses.asdict(effort).items() if name not in GOES_ON},
        "schemes_in_order": list(job.parts[0].schemes),
    }
