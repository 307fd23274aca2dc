"""A store of small runs with all that a figure may need, and with names that would break a careless page."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("agg")

import simulator
from samplers import DDIM
from simulator.provenance import canonical
from studies import cli
from studies.store.files import dataset_bytes
from studies.store.register import register
from studies.store.store import Store
from studies.study.spec import RunSpec
from studies.study.study import Axis, Study

HOSTILE = "</script><img src=x onerror=alert(1)>$x"
SCHEMES, SEEDS, STEPS = ("w8a8", "w4a4"), (0, 1, 2), 4


@dataclass(frozen=True)
class Made:
    """A store's folder and the bytes of one of its runs' files."""

    path: Path
    run: Path
    missing: str


@pytest.fixture(scope="session")
def made(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two schemes over three seeds with sites and kept samples; one more failed, and one was never computed."""
    store = Store.create(tmp_path_factory.mktemp("figures") / "store")
    sampler = DDIM(tiny_model.schedule, STEPS, eta=1.0)
    keys = []
    for seed in SEEDS:
        ranges = simulator.calibrate_ranges(tiny_model, sampler, samples=8, seed=seed)
        arms = [
            simulator.Arm(simulator.QuantizedModel(tiny_model, simulator.Scheme.parse(scheme), ranges))
            for scheme in SCHEMES
        ]
        found = simulator.run_arms(arms, sampler, samples=24, seed=seed, subsample=21)
        for scheme, run in zip(SCHEMES, found, strict=True):
            spec = RunSpec(
                model=HOSTILE, scheme=scheme, num_inference_steps=STEPS, eta=1.0, samples=24, seed=seed, sites=True,
                keep=21,
            )  # fmt: skip
            keys.append(_key(spec))
            bops = 8.0 if scheme == "w8a8" else 4.0
            run = run.assign(bops=((), bops * 1e6), weight_bytes=((), bops * 1e3))
            run = run.assign_attrs(study_spec=canonical(spec.values()), study_key=keys[-1])
            store.publish(keys[-1], dataset_bytes(run))
    failed, missing = ("f" * 64, "e" * 64)
    store.note_failure(failed, {"spec": {"scheme": HOSTILE}, "error": f"BadInput: {HOSTILE}"})
    study = Study(
        "tiny", f"What {HOSTILE} does.", {"eta": 1.0}, (Axis({"scheme": SCHEMES}), Axis({"seed": SEEDS})),
        ("snr", "sites", "residuals", "targets"),
    )  # fmt: skip
    register(store, study.config(), (*keys, failed, missing))
    return Made(store.path, store.run(keys[0]), missing)


def _key(spec: RunSpec) -> str:
    return hashlib.sha256(canonical(spec.values()).encode()).hexdigest()


@pytest.fixture
def qnoise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Run the command in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["qnoise", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = capsys.readouterr()
        return int(stopped.value.code or 0), said.out, said.err

    return run
