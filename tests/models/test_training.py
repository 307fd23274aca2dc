"""Training is a function of its recipe: stopped and resumed it ends in the same bits; nothing half-written stays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from samplers.errors import BadInput
from simulator.models.recipe import RECIPES, Recipe
from simulator.models.registry import WEIGHTS, load, read_manifest
from simulator.models.training import train
from simulator.models.unet import UNetConfig

pytest.importorskip("sklearn")

TINY = Recipe(
    steps=6,
    batch_size=8,
    evaluate_every=2,
    warmup_steps=2,
    network=UNetConfig(channels=(16, 16), time_channels=16, dropout=0.2),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    train("digits-unet", out, recipe=TINY, card=False)
    return out


def _weights(folder):
    return (folder / "digits-unet-custom@1.safetensors").read_bytes()


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_train__resumed_gives_the_bits_of_not_stopping(tmp_path, whole, stop_after):
    while train("digits-unet", tmp_path, recipe=TINY, card=False, stop_after=stop_after) is None:
        assert not (tmp_path / "digits-unet-custom@1.safetensors").exists()
    assert _weights(tmp_path) == _weights(whole)
    histories = [read_manifest(f / "digits-unet-custom@1.json")["training"]["history"] for f in (tmp_path, whole)]
    assert histories[0] == histories[1]


def test_train__does_not_depend_on_global_random_state(tmp_path, whole):
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    train("digits-unet", tmp_path, recipe=TINY, card=False)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert _weights(tmp_path) == _weights(whole)


def test_train__writes_a_model_that_loads(whole):
    model = load("digits-unet-custom", weights=whole)
    assert read_manifest(whole / "digits-unet-custom@1.json")["training"]["steps_run"] == TINY.steps
    x = torch.zeros(1, *model.sample_shape)
    assert torch.isfinite(model.module(x, torch.tensor([5]))).all()
    assert not list(whole.glob(".*"))


def test_train__restores_the_thread_count(whole, tmp_path):
    before = torch.get_num_threads()
    train("digits-unet", tmp_path, recipe=TINY, card=False, threads=before + 1, stop_after=0)
    assert torch.get_num_threads() == before


def test_train__refuses_a_checkpoint_of_another_recipe(tmp_path):
    train("digits-unet", tmp_path, recipe=TINY, card=False, stop_after=1)
    with pytest.raises(BadInput, match="another recipe"):
        train("digits-unet", tmp_path, recipe=TINY, steps=7, card=False)


def test_train__refuses_a_truncated_checkpoint_and_starts_afresh_when_told(tmp_path, whole):
    train("digits-unet", tmp_path, recipe=TINY, card=False, stop_after=1)
    (checkpoint,) = tmp_path.glob("*.checkpoint.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(BadInput, match="whole safetensors file"):
        train("digits-unet", tmp_path, recipe=TINY, card=False)
    train("digits-unet", tmp_path, recipe=TINY, card=False, resume=False)
    assert _weights(tmp_path) == _weights(whole)


def test_train__stops_where_the_held_out_loss_stops_falling(tmp_path):
    # A learning rate of 0 leaves the initial weights: the first evaluation is the best, and patience ends the run.
    still = dataclasses.replace(TINY, learning_rate=0.0, patience=1)
    path = train("digits-unet", tmp_path, recipe=still, card=False)
    facts = read_manifest(path)["training"]
    assert (facts["best_step"], facts["steps_run"]) == (2, 4)


def test_train__rejects_unknown_names_and_steps_below_one(tmp_path):
    with pytest.raises(BadInput, match="available: digits-unet, digits-dit"):
        train("cats", tmp_path)
    with pytest.raises(BadInput, match="steps must be at least 1"):
        train("digits-unet", tmp_path, steps=0)


def test_train__never_writes_into_the_package_nor_over_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="never overwrites the package"):
        train("digits-unet", WEIGHTS)
    with pytest.raises(BadInput, match="must be a writable folder"):
        train("digits-unet", tmp_path / "file")


def test_train__says_so_when_the_loss_diverges(tmp_path):
    with pytest.raises(BadInput, match="must stay finite"):
        train("digits-unet", tmp_path, recipe=dataclasses.replace(TINY, learning_rate=1e38), card=False)


def test_shipped_weights__come_from_the_recipe_of_their_name():
    facts = read_manifest_of_package()["training"]
    recorded = facts["recipe"]
    expected = dataclasses.asdict(RECIPES["digits-unet"])
    assert recorded | {"network": None} == expected | {"network": None}
    assert UNetConfig(**recorded["network"]) == RECIPES["digits-unet"].network
    assert facts["threads"] == 1


def test_shipped_weights__are_those_of_the_lowest_held_out_loss():
    history = np.array(read_manifest_of_package()["training"]["history"])
    facts = read_manifest_of_package()["training"]
    assert facts["held_out_loss"] == history[:, 1].min()
    assert facts["best_step"] == history[history[:, 1].argmin(), 0]


def read_manifest_of_package():
    return read_manifest(WEIGHTS / "digits-unet@1.json")


def test_train__never_replaces_weights(whole):
    before = _weights(whole)
    with pytest.raises(BadInput, match="never replaced"):
        train("digits-unet", whole, recipe=TINY, card=False)
    assert _weights(whole) == before


def test_train__names_weights_of_another_recipe_apart(whole):
    assert not list(whole.glob("digits-unet@*"))
