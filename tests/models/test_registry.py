"""Shipped weights load by name, are small and unchanged; broken or unknown ones give one readable error."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
import torch

from samplers.errors import BadInput
from simulator.models import Model, load
from simulator.models.registry import WEIGHTS, available


@pytest.fixture
def copy(tmp_path):
    for path in WEIGHTS.glob("digits-unet@1.*"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_load__gives_a_frozen_network_in_eval_mode():
    model = load("digits-unet")
    assert isinstance(model, Model)
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    assert model.sample_shape == (1, 8, 8)
    assert model.prediction_type == "epsilon"
    assert model.schedule.num_train_timesteps == 1000
    output = model.module(torch.zeros(2, *model.sample_shape), torch.tensor([0, 999]))
    assert output.shape == (2, 1, 8, 8)
    assert output.dtype == torch.float32


def test_load__says_how_many_classes_a_model_has():
    assert load("digits-unet").classes is None
    model = load("digits-dit")
    assert model.classes == 10
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    output = model.module(torch.zeros(2, *model.sample_shape), torch.tensor([0, 999]), torch.tensor([3, -1]))
    assert output.shape == (2, 1, 8, 8)


def test_weights__are_small_and_have_the_recorded_digest():
    for name, versions in available().items():
        for version in versions:
            content = (WEIGHTS / f"{name}@{version}.safetensors").read_bytes()
            manifest = json.loads((WEIGHTS / f"{name}@{version}.json").read_text())
            assert len(content) == manifest["weights"]["bytes"] < 2_000_000
            assert hashlib.sha256(content).hexdigest() == manifest["weights"]["sha256"]
            assert load(f"{name}@{version}").weights_digest == manifest["weights"]["sha256"]


def test_load__resolves_a_plain_name_to_the_newest_version(copy):
    for suffix in ("json", "safetensors"):
        shutil.copy(copy / f"digits-unet@1.{suffix}", copy / f"digits-unet@10.{suffix}")
        shutil.copy(copy / f"digits-unet@1.{suffix}", copy / f"digits-unet@2.{suffix}")
    assert load("digits-unet", weights=copy).version == 10
    assert load("digits-unet@2", weights=copy).version == 2


@pytest.mark.parametrize(
    "name", ["", "digits", "digits-unet@7", "digits-unet@", "digits-unet@x", "digits-unet@²", "@1"]
)
def test_load__lists_the_models_when_the_name_is_unknown(name):
    with pytest.raises(BadInput, match=r"available: .*digits-unet@1"):
        load(name)


def test_load__says_so_when_the_folder_is_empty_or_missing(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadInput, match="none in"):
            load("digits-unet", weights=folder)


@pytest.mark.parametrize("keep", [0, 7, 4096, -1])
def test_load__rejects_truncated_weights(copy, keep):
    path = copy / "digits-unet@1.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match="truncated or changed"):
        load("digits-unet", weights=copy)


def test_load__rejects_one_flipped_bit(copy):
    path = copy / "digits-unet@1.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match="truncated or changed"):
        load("digits-unet", weights=copy)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"weights": {"sha256": 1, "bytes": "many"}}'])
def test_load__rejects_a_broken_manifest(copy, content):
    (copy / "digits-unet@1.json").write_text(content)
    with pytest.raises(BadInput, match="readable manifest"):
        load("digits-unet", weights=copy)


def test_load__rejects_a_missing_manifest(copy):
    (copy / "digits-unet@1.json").unlink()
    with pytest.raises(BadInput, match="readable manifest"):
        load("digits-unet", weights=copy)


@pytest.mark.parametrize(
    "edit",
    [
        {"config": {"channels": [16, 16]}},
        {"config": {"channels": [17, 64]}},
        {"config": {"unknown": 1}},
        {"config": None},
        {"architecture": "simulator.models.dit.DiT"},
        {"architecture": "simulator.models.dit.DiT", "config": {"width": 32}},
        {"architecture": "os.system"},
        {"architecture": None},
        {"schedule": {"beta_schedule": "unknown"}},
        {"schedule": []},
        {"sample_shape": None},
    ],
)
def test_load__rejects_a_manifest_that_does_not_fit(copy, edit):
    path = copy / "digits-unet@1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(BadInput, match="must describe the weights"):
        load("digits-unet", weights=copy)


def test_models__import_without_torch():
    code = "import sys, simulator.models; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
