"""A small run's dataset with everything that runs hold, and a store of a tiny study made without a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from simulator.provenance import canonical
from studies.store.files import dataset_bytes
from studies.store.register import register
from studies.store.store import Store
from studies.study.spec import RunSpec
from studies.study.study import Axis, Study

Make = Callable[..., xr.Dataset]


def made_run(spec: RunSpec, sites: tuple[str, ...] = ("first:linear", "last:linear")) -> xr.Dataset:
    """What a workshop gives, with invented numbers that depend on the spec."""
    config = spec.values()
    key = hashlib.sha256(canonical(config).encode()).hexdigest()
    random = np.random.default_rng(int(key[:8], 16))
    steps = spec.num_inference_steps
    coords = {name: value for name, value in config.items() if value is not None and name != "eta"}
    return xr.Dataset(
        {
            "timestep": ("step", np.arange(steps)[::-1].copy(), {"units": "1"}),
            "epsilon_injected": (("step", "moment"), random.normal(size=(steps, 3)), {"units": "1"}),
            "site_injected": (("step", "site"), random.normal(size=(steps, len(sites))).astype(np.float32)),
            "bops": ((), random.uniform(), {"units": "1"}),
        },
        {**coords, "eta": np.nan if spec.eta is None else spec.eta, "moment": list("abc"), "site": list(sites)},
        {"study_config": canonical(config), "study_key": key, "study_spec": canonical(config), "version_qnoise": "0.1"},
    )


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., tuple[Store, Study, dict[str, xr.Dataset]]]:
    """Make a store that holds a study's runs, but for those left out by index."""

    def make(study: Study, leave_out: tuple[int, ...] = ()) -> tuple[Store, Study, dict[str, xr.Dataset]]:
        store = Store.create(tmp_path / "store")
        runs = {run.attrs["study_key"]: run for run in map(made_run, study.specs())}
        register(store, study.config(), tuple(runs))
        for number, (key, run) in enumerate(runs.items()):
            if number not in leave_out:
                store.publish(key, dataset_bytes(run))
        return store, study, runs

    return make


@pytest.fixture
def study() -> Study:
    """Two schemes by three seeds, three steps each."""
    axes = (Axis({"scheme": ("w8a8", "w4a8")}), Axis({"seed": (0, 1, 5)}))
    return Study("small", "A grid.", {"num_inference_steps": 3}, axes)
