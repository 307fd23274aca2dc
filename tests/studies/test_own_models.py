"""``qnoise run --model`` takes a checkpoint folder and ``module:factory``; what is wrong with either is exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from studies import cli

SMALL = ["run", "--steps", "2", "--samples", "4", "--calibration-samples", "16", "--threads", "1", "--scheme", "w8a8"]
OWN = """
import torch
from torch import nn
from samplers.schedule import NoiseSchedule
from simulator import Model

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
    def forward(self, x, timestep):
        return self.last(torch.relu(self.first(x)))

def factory(beta_end=0.02, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Network()
    schedule = NoiseSchedule(beta_end=beta_end)
    return Model(**{**dict(name="own", version=1, module=module, schedule=schedule, sample_shape=(1, 8, 8),
                           prediction_type="epsilon", weights_digest=""), **changes})

def longer(): return factory(0.03)
def flow(): return factory(schedule=None)
def wrong(): return 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "own_network.py").write_text(OWN)
    monkeypatch.chdir(tmp_path / "work")
    before = list(sys.path)
    yield tmp_path / "work"
    sys.path[:] = before
    sys.modules.pop("own_network", None)


def qnoise(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qnoise", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_run__takes_a_factory_from_the_working_folder(folder, monkeypatch, capsys) -> None:
    found = []
    for name in ("factory", "longer"):
        assert qnoise(monkeypatch, *SMALL, "--model", f"own_network:{name}", "--json", "--out", "results") == 0
        found.append(json.loads(capsys.readouterr().out))
    assert not any(run["reused"] for run in found)  # equal names and weights, another schedule: another job
    assert Path(found[0]["folder"]).name.startswith("own-")
    assert qnoise(monkeypatch, *SMALL, "--model", "own_network:factory", "--json", "--out", "results") == 0
    assert json.loads(capsys.readouterr().out)["reused"]


def test_run__takes_a_checkpoint_folder(folder, monkeypatch, capsys) -> None:
    diffusers = pytest.importorskip("diffusers")
    from families import make

    make("UNet2DModel").save_pretrained(folder / "pipeline" / "unet")
    diffusers.DDPMScheduler().save_pretrained(folder / "pipeline" / "scheduler")
    index = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    (folder / "pipeline" / "model_index.json").write_text(json.dumps(index))
    assert qnoise(monkeypatch, *SMALL, "--model", "./pipeline", "--json", "--out", "results") == 0
    assert Path(json.loads(capsys.readouterr().out)["folder"]).name.startswith("UNet2DModel-")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("own_network:wrong", "must return a simulator.Model, got int"),
        ("own_network:missing", "module:factory"),
        ("nowhere:factory", "module:factory"),
        ("own_network:flow", "noise schedule"),
        ("./missing", "folder that exists"),
        ("./empty", "config.json"),
        ("empty", "write ./empty"),
        ("nothing", "available: digits-dit@1"),
    ],
)
def test_run__bad_model_is_one_line_and_exit_code_2(folder, monkeypatch, capsys, model, says) -> None:
    pytest.importorskip("diffusers")
    (folder / "empty").mkdir()
    assert qnoise(monkeypatch, *SMALL, "--model", model, "--out", "results") == 2
    error = capsys.readouterr().err
    assert error.startswith("qnoise: ")
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (folder / "results").exists()


@pytest.fixture
def dit(folder):
    """A pipeline's folder with a class-conditional latent transformer, and a file of labels."""
    diffusers = pytest.importorskip("diffusers")
    import torch
    from families import make
    from safetensors.torch import save_file

    make("DiT").save_pretrained(folder / "dit" / "transformer")
    diffusers.DDIMScheduler().save_pretrained(folder / "dit" / "scheduler")
    index = {"transformer": ["diffusers", "DiTTransformer2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
    (folder / "dit" / "model_index.json").write_text(json.dumps(index))
    save_file({"class_labels": torch.arange(10)}, folder / "labels.safetensors")
    save_file({"label": torch.arange(10)}, folder / "other.safetensors")
    return folder / "dit"


def test_run__takes_conditions_and_guidance(dit, monkeypatch, capsys) -> None:
    from studies.results import load_runs

    arguments = [*SMALL, "--model", "./dit", "--json", "--out", "results"]
    keys = []
    for more in (
        [],
        ["--conditioning", "labels.safetensors"],
        ["--conditioning", "labels.safetensors", "--guidance", "3"],
    ):
        assert qnoise(monkeypatch, *arguments, *more) == 0
        found = json.loads(capsys.readouterr().out)
        assert not found["reused"]
        run = load_runs(Path(found["folder"]))[0]
        keys.append(run.attrs["key"])
        config = json.loads(run.attrs["config"])
        assert config.get("guidance") == config["ranges"].get("guidance") == {0: None, 2: 1.0, 4: 3.0}[len(more)]
    assert len(set(keys)) == 3
    (dit.parent / "labels.safetensors").rename(dit.parent / "moved.safetensors")
    assert qnoise(monkeypatch, *arguments, "--conditioning", "moved.safetensors", "--guidance", "3") == 0
    assert json.loads(capsys.readouterr().out)["reused"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--conditioning", "missing.safetensors"], "readable safetensors"),
        (["--conditioning", "other.safetensors"], "takes: class_labels, got 'label'"),
        (["--guidance", "3"], "guidance needs conditions"),
        (["--conditioning", "labels.safetensors", "--guidance", "nan"], "guidance weight"),
    ],
)
def test_run__bad_conditions_are_one_line_and_exit_code_2(dit, monkeypatch, capsys, more, says) -> None:
    assert qnoise(monkeypatch, *SMALL, "--model", "./dit", "--out", "results", *more) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert not (dit.parent / "results").exists()
