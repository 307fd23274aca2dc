"""``qnoise run``: from options to a results folder."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.job import DEFAULT_SCHEMES, Job, Part, default_parts
from studies.sampler_names import read_sampler

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
    conditioning: Path | None = None,
    guidance: float = 1.0,
    state: str | None = None,
    knobs: tuple[str, ...] = (),
) -> Job:
    """The job that the command line asks for.

    Raises:
        BadInput: an option breaks its rule.
    """
    if schemes or eta is not None or sampler != "ddim" or knobs:
        name, chosen_eta, own = read_sampler(sampler, eta, knobs)
        parts: tuple[Part, ...] = (Part(name, chosen_eta, schemes or DEFAULT_SCHEMES, own),)
    else:
        parts = default_parts()
    return Job(
        model,
        parts,
        steps,
        samples,
        seed,
        calibration_samples,
        threads=available_threads() if threads is None else threads,
        conditioning=None if conditioning is None else str(conditioning),
        guidance=guidance,
        state=state,
    )


def run_main_job(*, out: Path, as_json: bool, **options: Any) -> None:
    """Run the job, or find it done; leave datasets, figures and a summary, and print the tables."""
    started = time.time()
    import torch  # noqa: F401 - before any kernel, so that both use torch's OpenMP pool and not one each

    job = job_from_options(**options)
    from simulator.arithmetic.compilation import compiling

    with compiling() as kernels_ready:  # a cold cache fills while float work runs
        runs, folder, reused = _find_or_compute(job, out, kernels_ready, started)
    _show(runs, folder, reused, as_json)


def _find_or_compute(
    job: Job, out: Path, kernels_ready: Callable[[], None], started: float
) -> tuple[list[xr.Dataset], Path, bool]:
    """The job's runs, their folder, and whether it was there already."""
    from simulator.models.loading import is_factory, load
    from simulator.threads import set_threads
    from studies.console import progress
    from studies.execute import execute, plan
    from studies.results import find_or_publish, folder_for, require_writable

    set_threads(job.threads)
    if is_factory(job.model):
        put_working_folder_on_path()
    model = load(job.model)
    checked, config = plan(job, model), job.config(model)
    require_writable(out)
    folder = folder_for(out, model.name, job.key(model))

    def compute() -> dict[str, bytes]:
        with progress() as report:
            parts = [(part.title, datasets) for part, datasets in execute(checked, report, kernels_ready)]
        return _files(parts, config, started)

    runs, reused = find_or_publish(folder, config, compute)
    return runs, folder, reused


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def put_working_folder_on_path() -> None:
    """As ``python -m`` does, so that ``module:factory`` finds what lies where the command runs."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)


def _files(parts: list[tuple[str, tuple[xr.Dataset, ...]]], config: dict[str, Any], started: float) -> dict[str, bytes]:
    """Every file of the results folder, by name."""
    import matplotlib

    matplotlib.use("agg")
    from studies.plots.samples import samples_figure
    from studies.plots.snr import snr_figure
    from studies.plots.style import figure_bytes
    from studies.results import complete, run_file
    from studies.store.files import dataset_bytes

    files = {run_file(dataset): dataset_bytes(dataset) for _, datasets in parts for dataset in datasets}
    runs = list(files)
    for name, figure in (("snr", snr_figure(parts)), ("samples", samples_figure(parts))):
        for suffix in ("pdf", "png"):
            files[f"{name}.{suffix}"] = figure_bytes(figure, suffix)
    return complete(files, config, runs, started)


def _show(runs: list[xr.Dataset], folder: Path, reused: bool, as_json: bool) -> None:
    from studies.console import print_json, print_summary, print_table
    from studies.results import found_or_wrote
    from studies.tables import site_rows, summary_rows

    rows = summary_rows(runs)
    if as_json:
        print_json({"folder": str(folder), "reused": reused, "runs": rows})
        return
    print_table("Sites: weight/activation bits under each scheme", *site_rows(runs))
    print_summary(rows)
    print(found_or_wrote(folder, reused))
