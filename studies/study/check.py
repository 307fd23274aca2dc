"""``qnoise study check``: what a study would take, from one run of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from studies.engine.progress import duration
from studies.main_job import available_threads
from studies.store.files import dataset_bytes
from studies.study.plan import plan
from studies.study.spec import RunSpec
from studies.study.study import Study
from studies.study.workshop import Workshop


@dataclass(frozen=True)
class Estimate:
    """What a study takes, if its runs are as its first one but for samples and steps.

    Args:
        seconds: of all workers together.
        bytes: of all runs' files.
        probe: the run it is estimated from.
        probe_seconds: that it took, what runs share included, and without that.
    """

    seconds: float
    bytes: float
    probe: str
    probe_seconds: tuple[float, float]


def check_study(study: Study, *, workers: int | None, probe: bool, as_json: bool) -> None:
    """Print the number of runs, what varies, and an estimate of time and disk.

    Raises:
        BadInput: something of the study cannot be had.
    """
    tasks = plan(study)
    specs = [task.spec for task in tasks]
    threads = max(spec.threads for spec in specs)
    used = max(1, available_threads() // threads) if workers is None else workers
    found = estimate(specs) if probe else None
    facts: dict[str, Any] = {
        "study": study.name, "runs": len(tasks), "axes": {axis.name: len(axis) for axis in study.axes}, "workers": used,
    }  # fmt: skip
    if found is not None:
        facts |= {"seconds": round(found.seconds / used, 1), "bytes": round(found.bytes), "probe": found.probe}
    if as_json:
        from studies.console import print_json

        print_json(facts)
        return
    axes = " x ".join(f"{len(axis)} {axis.name}" for axis in study.axes)
    print(f"{study.name}: {len(tasks)} runs{f' ({axes})' if axes else ''}")
    if found is not None:
        whole, alone = found.probe_seconds
        print(f"probe: {found.probe}, {whole:.1f} s, of which {whole - alone:.1f} s are for what runs share")
        print(f"about {duration(found.seconds / used)} with {used} workers, and {found.bytes / 1e6:.1f} MB")


def estimate(specs: list[RunSpec]) -> Estimate:
    """Time and disk of runs, by computing the first twice: with what runs share, and without."""
    workshop, first = Workshop(), specs[0]
    workshop.run(RunSpec(**{**first.values(), "samples": 1, "num_inference_steps": 1}))  # compile, load
    started = time.perf_counter()
    workshop.run(first)
    between = time.perf_counter()
    size = len(dataset_bytes(workshop.run(first)))
    alone = time.perf_counter() - between
    whole = max(between - started, alone)
    shared = {_shared(spec): spec for spec in specs}
    seconds = sum(alone * _work(spec) / _work(first) for spec in specs)
    seconds += sum((whole - alone) * _work(spec) / _work(first) for spec in shared.values())
    sizes = sum(size * spec.num_inference_steps / first.num_inference_steps for spec in specs)
    return Estimate(seconds, sizes, first.title, (whole, alone))


def _work(spec: RunSpec) -> int:
    return spec.samples * spec.num_inference_steps


def _shared(spec: RunSpec) -> tuple[object, ...]:
    """What decides on calibration and full precision's trajectory."""
    return (
        spec.model, spec.sampler, spec.eta, spec.num_inference_steps, spec.conditioning, spec.guidance, spec.seed,
        spec.samples, spec.calibration_samples, spec.batch_size, spec.threads,
    )  # fmt: skip
