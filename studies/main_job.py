"""``qnoise run``: from options to a results folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.job import DEFAULT_SCHEMES, Job, Part, default_parts

if TYPE_CHECKING:
    import xarray as xr


def job_from_options(
    *,
    model: str,
    schemes: tuple[str, ...],
    sampler: str,
    steps: int,
    eta: float | None,
    samples: int,
    seed: int,
    calibration_samples: int,
    threads: int | None,
) -> Job:
    """The job that the command line asks for.

    Raises:
        BadInput: an option breaks its rule.
    """
    if schemes or eta is not None or sampler != "ddim":
        chosen_eta = (0.0 if eta is None else eta) if sampler == "ddim" else eta
        parts: tuple[Part, ...] = (Part(sampler, chosen_eta, schemes or DEFAULT_SCHEMES),)
    else:
        parts = default_parts()
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Job(
        model, parts, steps, samples, seed, calibration_samples, threads=available if threads is None else threads
    )


def run_main_job(*, out: Path, as_json: bool, **options: Any) -> None:
    """Run the job, or find it done; leave datasets, figures and a summary, and print the tables."""
    started = time.time()
    job = job_from_options(**options)
    from simulator.arithmetic.compilation import compiling

    with compiling() as kernels_ready:  # a cold cache fills while torch loads and float work runs
        runs, folder, reused = _find_or_compute(job, out, kernels_ready, started)
    _show(runs, folder, reused, as_json)


def _find_or_compute(
    job: Job, out: Path, kernels_ready: Callable[[], None], started: float
) -> tuple[list[xr.Dataset], Path, bool]:
    """The job's runs, their folder, and whether it was there already."""
    from simulator.models.registry import load
    from simulator.threads import set_threads
    from studies.console import progress
    from studies.execute import execute, plan
    from studies.results import folder_for, load_runs, publishing, require_writable, run_file, write_json
    from studies.store import dataset_bytes, write

    set_threads(job.threads)
    model = load(job.model)
    checked = plan(job, model)
    require_writable(out)
    folder = folder_for(out, model.name, job.key(model))
    if folder.exists():
        return load_runs(folder), folder, True
    with progress() as report:
        parts = [(part.title, datasets) for part, datasets in execute(checked, report, kernels_ready)]
    runs = [dataset for _, datasets in parts for dataset in datasets]
    with publishing(folder) as temporary:
        for dataset in runs:
            write(temporary / run_file(dataset), dataset_bytes(dataset))
        _draw(parts, temporary)
        names = [run_file(dataset) for dataset in runs]
        write_json(temporary / "job.json", {"config": job.config(model), "runs": names})
        write_json(temporary / "log.json", {"seconds": round(time.time() - started, 3), "started": started})
    return runs, folder, False


def _draw(parts: list[tuple[str, tuple[xr.Dataset, ...]]], folder: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from studies.plots.samples import samples_figure
    from studies.plots.snr import snr_figure
    from studies.plots.style import save

    for name, figure in (("snr", snr_figure(parts)), ("samples", samples_figure(parts))):
        for suffix in ("pdf", "png"):
            save(figure, folder / f"{name}.{suffix}")


def _show(runs: list[xr.Dataset], folder: Path, reused: bool, as_json: bool) -> None:
    from studies.console import print_summary, print_table
    from studies.tables import site_rows, summary_rows

    rows = summary_rows(runs)
    if as_json:
        print(json.dumps({"folder": str(folder), "reused": reused, "runs": rows}, indent=1))
        return
    print_table("Sites: weight/activation bits under each scheme", *site_rows(runs))
    print_summary(rows)
    print(f"{'found, nothing recomputed' if reused else 'wrote'}: {folder}")
