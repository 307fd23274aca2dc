"""The runs that ``qnoise explain`` analyses: stored ones, or those it makes, with samples kept whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from samplers.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

    from studies.execute import Plan
    from studies.job import Job

DEFAULT_SCHEMES = ("w8a8", "w4a8")


class Runs(NamedTuple):
    """What is analysed, the calibration runs beside it, and a name for results."""

    evaluated: list[xr.Dataset]
    fits: list[xr.Dataset]
    name: str

    @property
    def config(self) -> dict[str, Any]:
        """The keys of all runs, which determine every analysis of them."""
        return {"runs": [run.attrs["key"] for run in (*self.fits, *self.evaluated)]}


def stored(*sources: Path) -> Runs:
    """Runs and calibration runs of files or of results folders; a run that is in several counts once."""
    from studies.results import load_runs
    from studies.store.files import read

    found: dict[str, xr.Dataset] = {}
    for source in sources:
        if not source.exists():
            raise BadInput(
                "the source must be a run's file or a results folder", got=str(source), fix="name one, or leave it out"
            )
        for run in load_runs(source) if source.is_dir() else [read(source)]:
            found[run.attrs["key"]] = run
    fits, runs = _separate(list(found.values()))
    if not runs:
        raise BadInput(
            "the source must hold an evaluation run", got=f"{len(fits)} calibration runs", fix="name another"
        )
    return Runs(runs, fits, sources[0].stem)


def _separate(loaded: Sequence[xr.Dataset]) -> tuple[list[xr.Dataset], list[xr.Dataset]]:
    from simulator.calibration.trajectory import PURPOSE

    fits = [run for run in loaded if json.loads(run.attrs["config"])["purpose"] == PURPOSE]
    return fits, [run for run in loaded if not any(run is fit for fit in fits)]


def computed(
    schemes: tuple[str, ...], keep: int, out: Path, weights: tuple[float, ...], options: dict[str, Any]
) -> Runs:
    """The runs that the options ask for at each guidance weight, from folders of theirs that are there."""
    from studies.main_job import job_from_options

    if len(set(weights)) < len(weights):
        raise BadInput("guidance weights must differ", got=", ".join(map(str, weights)), fix="name each once")
    jobs = [job_from_options(schemes=schemes or DEFAULT_SCHEMES, guidance=w, **options) for w in weights or (1.0,)]
    for job in jobs:
        if not 0 <= keep <= job.samples:
            raise BadInput(
                f"--keep must be 0 to {job.samples}, the samples", got=keep, fix="keep fewer, or sample more"
            )
    made = [_computed(job, keep, out) for job in jobs]
    return Runs([run for each in made for run in each.evaluated], [f for each in made for f in each.fits], made[0].name)


def _computed(job: Job, keep: int, out: Path) -> Runs:
    from simulator.arithmetic.compilation import compiling
    from simulator.models.loading import is_factory, load
    from simulator.provenance import run_key
    from simulator.threads import set_threads
    from studies.console import progress
    from studies.execute import plan
    from studies.main_job import put_working_folder_on_path
    from studies.results import (
        JOB_FILE,
        AlreadyThere,
        folder_for,
        json_bytes,
        load_runs,
        publishing,
        require_writable,
        run_file,
    )
    from studies.store.files import dataset_bytes, write

    with compiling() as kernels_ready:
        set_threads(job.threads)
        if is_factory(job.model):
            put_working_folder_on_path()
        model = load(job.model)
        checked, config = plan(job, model), {**job.config(model), "keep": keep}
        require_writable(out)
        folder = folder_for(out, model.name, run_key(config), "runs")
        if not folder.exists():
            with progress() as report:
                loaded = _execute(checked, keep, report, kernels_ready)
            files = {run_file(run): dataset_bytes(run) for run in loaded}
            runs = list(files)
            files[JOB_FILE] = json_bytes({"config": config, "runs": runs, "files": sorted(files)})
            with suppress(AlreadyThere), publishing(folder) as temporary:  # there: the same runs, made meanwhile
                for name, content in files.items():
                    write(temporary / name, content)
    loaded = load_runs(folder, config)
    fits, evaluated = _separate(loaded)
    return Runs(evaluated, fits, model.name)


def _execute(
    checked: Plan, keep: int, report: Callable[[str, int, int], None], kernels_ready: Callable[[], None]
) -> list[xr.Dataset]:
    """Per scheme a calibration run, the run itself and the run with PTQD."""
    from simulator.calibration.trajectory import PURPOSE, calibrate_ranges
    from simulator.instrument.quantized import QuantizedModel
    from simulator.paired import INJECTED, Arm, run_arms
    from studies.execute import ptqd_for

    job, (part,) = checked.job, checked.job.parts
    sampler, given = checked.samplers[part], checked.conditioning
    common: dict[str, Any] = {"seed": job.seed, "batch_size": job.batch_size}

    def progress(what: str) -> Callable[[int, int], None]:
        return lambda done, total: report(f"{part.title}: {what}", done, total)

    schemes = [checked.schemes[text] for text in part.schemes]
    fit_set: dict[str, Any] = {"samples": job.calibration_samples, **common}
    ranges = {
        outputs: calibrate_ranges(
            checked.model, sampler, outputs=outputs, conditioning=given, progress=progress("calibrating ranges"),
            **fit_set,
        )
        for outputs in sorted({scheme.requantizes for scheme in schemes})
    }  # fmt: skip
    kernels_ready()
    networks = [QuantizedModel(checked.model, s, ranges[s.requantizes], conditioning=given) for s in schemes]
    fits = run_arms(
        [Arm(network) for network in networks], sampler, purpose=PURPOSE, kinds=(INJECTED,), sites=False,
        progress=progress("fitting"), **fit_set,
    )  # fmt: skip
    arms = [
        arm
        for network, fit in zip(networks, fits, strict=True)
        for arm in (Arm(network), Arm(network, ptqd_for(sampler, fit)))
    ]
    runs = run_arms(
        arms, sampler, samples=job.samples, subsample=keep, progress=progress("sampling"), **common
    )  # fmt: skip
    return [*fits, *runs]
