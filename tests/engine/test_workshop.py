"""Claim: a workshop's runs are those of ``simulator.run``, and what they have in common is made once for a store."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import simulator
from noise_models.correction.ptqd_fit import fit_ptqd
from samplers.ddim import DDIM
from studies.store.files import dataset_bytes
from studies.store.store import Store
from studies.study.configurations import Configurations
from studies.study.plan import plan
from studies.study.spec import RunSpec
from studies.study.study import Study
from studies.study.workshop import Workshop

pytestmark = pytest.mark.usefixtures("one_thread", "folder")


def test_run__is_what_the_parts_give_when_put_together_by_hand(study, folder) -> None:
    task = plan(study)[-1]
    assert (task.spec.scheme, task.spec.correction, task.spec.seed) == ("w4a4", "ptqd", 1)
    found = Workshop().run(task.spec)
    model = simulator.load("tiny_study_network:factory")
    sampler = DDIM(model.schedule, 3, eta=1.0)
    sizes = {"seed": 1, "batch_size": 256}
    ranges = simulator.calibrate_ranges(model, sampler, samples=16, **sizes)
    network = simulator.QuantizedModel(model, simulator.Scheme.parse("w4a4"), ranges)
    fitted = simulator.run(
        simulator.Arm(network), sampler, purpose="calibrate", samples=16, kinds=("injected",), sites=False, **sizes
    )
    arm = simulator.Arm(network, fit_ptqd(fitted))
    expected = simulator.run(arm, sampler, samples=4, sites=False, **sizes)
    for name in expected.data_vars:
        np.testing.assert_array_equal(found[name], expected[name])
    assert found.attrs["key"] == expected.attrs["key"]
    assert found.attrs["study_key"] == task.key
    assert found.correction.item() == "ptqd"
    assert found.calibration_samples.item() == 16


def test_run__makes_what_runs_share_once_for_a_store(study, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    made: Counter[str] = Counter()
    first: dict[str, bytes] = {}
    for task in plan(study):  # every run by a process of its own, so to speak
        workshop = Workshop(store)
        first[task.key] = dataset_bytes(workshop.run(task.spec))
        made.update(workshop.shared.made)
    assert made == {
        "ranges": 2, "full precision, evaluate": 2, "full precision, calibrate": 2, "calibration run": 4,
    }  # fmt: skip
    alone = {task.key: dataset_bytes(Workshop().run(task.spec)) for task in plan(study)}
    assert alone == first


def test_run__makes_a_damaged_shared_file_again(study, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    task = plan(study)[1]
    expected = dataset_bytes(Workshop(store).run(task.spec))
    for path in (store.path / "shared").iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    assert dataset_bytes(Workshop(store).run(task.spec)) == expected
    for path in (store.path / "shared").iterdir():
        assert path.read_bytes()[-40:].startswith(b"QNOISE1\n")


def test_run__of_a_recipe_has_its_network_and_names_it(folder) -> None:
    fixed = {"model": "tiny_study_network:factory", "recipe": "minmax", "bits": "w4a8", "num_inference_steps": 2}
    (task,) = plan(Study("recipe", fixed={**fixed, "samples": 4}))
    found = Workshop().run(task.spec)
    assert (found.recipe.item(), found.bits.item()) == ("minmax", "w4a8")
    assert float(found.bops) > 0


def test_run__with_sites_has_the_noise_of_the_run_without(study, folder) -> None:
    spec = plan(study)[0].spec
    plain = Workshop().run(spec)
    with_sites = Workshop().run(RunSpec(**{**spec.values(), "sites": True}))
    assert "site_injected" in with_sites
    for name in ("epsilon_injected", "epsilon_accumulated", "state_accumulated"):
        np.testing.assert_array_equal(plain[name], with_sites[name])


def test_key__follows_everything_that_determines_the_run_and_nothing_else(study, folder) -> None:
    spec = plan(study)[0].spec
    key = Configurations().key(spec)
    assert Configurations().key(RunSpec(**spec.values())) == key
    changes = {
        "scheme": "w4a8", "rung": "fake-quant", "correction": "ptqd", "sampler": "ddim:0.5", "num_inference_steps": 4,
        "state": "float16", "seed": 7, "samples": 5, "calibration_samples": 17, "batch_size": 3, "threads": 2,
        "sites": True,
    }  # fmt: skip
    found = {Configurations().key(RunSpec(**{**spec.values(), "eta": None, name: v})) for name, v in changes.items()}
    assert len(found) == len(changes)
    assert key not in found
