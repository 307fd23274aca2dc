"""What a store costs: overhead per run, status of a large store, merging many runs, and what a second worker brings.

python benchmarks/stores.py              # 1000 runs, 100 000 files, 10 000 runs to merge, two workers
python benchmarks/stores.py --tiny       # a hundredth of it
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from samplers.ddim import DDIM
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.models.loading import load
from simulator.paired import Arm, run
from simulator.provenance import canonical
from simulator.threads import set_threads
from studies.engine.outcome import State
from studies.engine.pool import LocalPool
from studies.engine.stopping import Stop
from studies.engine.work import work
from studies.store.files import dataset_bytes
from studies.store.journal import Journal
from studies.store.merging import merge
from studies.store.register import register
from studies.store.store import Store
from studies.study.plan import plan
from studies.study.spec import RunSpec
from studies.study.status import standings
from studies.study.study import Axis, Study
from studies.study.workshop import Workshop


def real_run() -> xr.Dataset:
    """A run of the shipped UNet: 64 samples, 50 steps."""
    model = load("digits-unet")
    sampler = DDIM(model.schedule, 50)
    network = QuantizedModel(model, Scheme.parse("w8a8"), calibrate_ranges(model, sampler, samples=4))
    return run(Arm(network), sampler, samples=64, sites=False)


def as_run(dataset: xr.Dataset, spec: RunSpec) -> xr.Dataset:
    """The dataset under another spec's name."""
    config = canonical(spec.values())
    named = {"study_config": config, "study_key": hashlib.sha256(config.encode()).hexdigest(), "study_spec": config}
    return dataset.assign_coords(seed=spec.seed).assign_attrs(named)


class Ready(Workshop):
    """Gives a run that is made already."""

    def __init__(self, dataset: xr.Dataset) -> None:
        super().__init__()
        self._dataset = dataset

    def run(self, spec: RunSpec, report: Callable[[str, int, int], None] = lambda *_: None) -> xr.Dataset:
        """The same numbers for every spec."""
        return as_run(self._dataset, spec)


def overhead(folder: Path, dataset: xr.Dataset, runs: int) -> float:
    """Seconds per run beside computing it: claim, bytes, publish with its syncs, journal."""
    store, workshop = Store.create(folder / "overhead"), Ready(dataset)
    journal = Journal(store.journal)
    specs = [RunSpec(scheme="w8a8", seed=seed) for seed in range(runs)]
    keys = [workshop.run(spec).attrs["study_key"] for spec in specs]
    started = time.perf_counter()
    for spec in specs:
        workshop.run(spec)
    alone = time.perf_counter() - started
    started = time.perf_counter()
    states = [work(store, workshop, journal, key, spec).state for key, spec in zip(keys, specs, strict=True)]
    assert states == [State.DONE] * runs
    return (time.perf_counter() - started - alone) / runs


def status(folder: Path, runs: int) -> float:
    """Seconds to say how a store of so many runs stands."""
    store = Store.create(folder / "status")
    keys = tuple(hashlib.sha256(str(i).encode()).hexdigest() for i in range(runs))
    register(store, Study("large", fixed={"scheme": "w8a8"}).config(), keys)
    for key in keys:
        store.run(key).write_bytes(b"")
    started = time.perf_counter()
    (found,) = standings(Store.open(store.path))
    assert found.done == runs
    return time.perf_counter() - started


def merging(folder: Path, dataset: xr.Dataset, runs: int) -> float:
    """Seconds to merge so many runs of four steps and eight samples."""
    store = Store.create(folder / "merging")
    study = Study("many", fixed={"scheme": "w8a8"}, axes=(Axis({"seed": tuple(range(runs))}),))
    small = dataset.isel(step=slice(4), sample=slice(8), shown=slice(4), block=slice(8))
    made = [as_run(small, spec) for spec in study.specs()]
    for one in made:
        store.run(one.attrs["study_key"]).write_bytes(dataset_bytes(one))
    register(store, study.config(), tuple(one.attrs["study_key"] for one in made))
    started = time.perf_counter()
    assert merge(store, folder / "merged.zarr").groups == (runs,)
    return time.perf_counter() - started


def workers(folder: Path, samples: int, seeds: int) -> float:
    """How much faster two workers run a study than one, from their first run to their last."""
    fixed: dict[str, Any] = {"num_inference_steps": 20, "samples": samples, "calibration_samples": 64}
    axes = (Axis({"seed": tuple(range(seeds))}), Axis({"scheme": ("w8a8", "w4a8", "w4a4")}))
    tasks = plan(Study("speed", fixed=fixed, axes=axes))
    seconds = []
    for count in (1, 2):
        ended: list[float] = []

        def listen(event: object, ended: list[float] = ended) -> None:
            if getattr(event, "state", None) is State.DONE:
                ended.append(time.perf_counter())

        LocalPool(Store.create(folder / f"workers{count}"), count).run(tasks, listen, Stop())
        seconds.append((ended[-1] - ended[count - 1]) / (len(ended) - count))  # starting is left out
    return seconds[0] / seconds[1]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    part = 100 if parser.parse_args().tiny else 1
    set_threads(1)
    dataset = real_run()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"overhead per run: {overhead(folder, dataset, 1000 // part) * 1e3:.1f} ms")
        print(f"status of {100_000 // part} runs: {status(folder, 100_000 // part):.2f} s")
        print(f"merging {10_000 // part} runs: {merging(folder, dataset, 10_000 // part):.1f} s")
        print(f"two workers against one: {workers(folder, 16 if part > 1 else 64, 2 if part > 1 else 8):.2f}")


if __name__ == "__main__":
    main()
