"""``qnoise predict``: a grid of predictions against measurements, cell by cell, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samplers.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

    from samplers.sampler import Sampler
    from simulator.models.registry import Model
    from studies.prediction.cells import Effort

DEFAULT_SCHEMES = ("w8a8", "w6a6", "w4a8")
DEFAULT_SAMPLERS = ("ddim:0", "ddim:0.5", "ddim:1", "ddpm:fixed_large")
DEFAULT_STEPS = (10, 20, 50, 100)


def run_grid(
    *,
    model: str,
    schemes: tuple[str, ...],
    samplers: tuple[str, ...],
    steps: tuple[int, ...],
    threads: int,
    out: Path,
    **effort: Any,
) -> None:
    """Compute every missing cell of the grid, then print the table and draw the figure of all of them.

    Raises:
        BadInput: before the work, an option that breaks its rule.
    """
    import torch  # noqa: F401 - before any kernel, as in ``qnoise run``

    from simulator.instrument.scheme import Scheme
    from simulator.models.loading import load
    from simulator.threads import set_threads
    from studies.console import progress
    from studies.prediction.cells import Effort, label, predict_cell
    from studies.results import require_writable
    from studies.store import dataset_bytes, read, write

    loaded, asked = load(model), Effort(**effort)
    parsed = [Scheme.parse(text) for text in schemes or DEFAULT_SCHEMES]
    cells = [build(text, loaded, count) for text in samplers or DEFAULT_SAMPLERS for count in steps or DEFAULT_STEPS]
    require_writable(out)
    set_threads(threads)
    folder = out / f"predict-{loaded.name}-{_key(loaded, schemes or DEFAULT_SCHEMES, asked, threads)}"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    with progress() as report:
        for sampler in cells:
            title = f"{label(sampler)}, {len(sampler.updates)} steps"
            path = folder / f"{label(sampler).replace(':', '-')}-{len(sampler.updates)}.nc"
            if not path.exists():
                cell = predict_cell(loaded, sampler, parsed, asked, partial(_under, report, title))
                write(path, dataset_bytes(cell))
            found.append(read(path))
    show(found, folder)


def _under(report: Callable[[str, int, int], None], title: str, what: str, done: int, total: int) -> None:
    report(f"{title}: {what}", done, total)


def build(text: str, model: Model, steps: int) -> Sampler:
    """A sampler from ``ddim:ETA`` or ``ddpm:VARIANCE_TYPE``.

    Raises:
        BadInput: neither of the two.
    """
    from samplers.ddim import DDIM
    from samplers.ddpm import DDPM
    from samplers.schedule import require_schedule

    schedule = require_schedule(model.schedule)
    name, _, value = text.partition(":")
    if name == "ddpm":
        return DDPM(schedule, steps, value or "fixed_small", prediction_type=model.prediction_type)
    try:
        if name == "ddim":
            return DDIM(schedule, steps, float(value or 0), prediction_type=model.prediction_type)
    except ValueError:
        pass
    raise BadInput("a sampler is ddim:ETA or ddpm:VARIANCE_TYPE", got=text, fix="write ddim:0.5, say")


def show(cells: Sequence[xr.Dataset], folder: Path) -> None:
    """Print the table of all cells and draw predicted against measured."""
    import matplotlib

    matplotlib.use("agg")
    from studies.console import print_table
    from studies.plots import style
    from studies.plots.prediction import prediction_figure
    from studies.prediction.table import hits, prediction_records, prediction_rows

    records = prediction_records(cells)
    print_table("SQNR of the final sample, dB: measured, and what predictors are off by", *prediction_rows(records))
    for what, right, total in hits(records):
        print(f"{what}: {right} of {total} within 1 dB")
    (folder / "prediction.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    style.save(prediction_figure(cells), folder / "prediction")
    print(f"wrote: {folder}")


def _key(model: Model, schemes: Sequence[str], effort: Effort, threads: int) -> str:
    """What determines the cells, in eight characters."""
    import dataclasses

    from simulator.provenance import model_config

    config = {**model_config(model), "schemes": list(schemes), **dataclasses.asdict(effort), "threads": threads}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
