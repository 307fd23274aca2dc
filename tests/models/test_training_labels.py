"""Labels reach the training of a conditional network, some of them dropped, and resuming still changes no bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from samplers.schedule import NoiseSchedule
from simulator.models.denoising import denoising_losses, generator
from simulator.models.digits import load_digits
from simulator.models.dit import NULL_LABEL, DiTConfig
from simulator.models.recipe import RECIPES, Recipe
from simulator.models.registry import WEIGHTS, load, read_manifest
from simulator.models.training import train
from simulator.models.training_state import DenoiserState, training_labels
from simulator.models.unet import UNetConfig

pytest.importorskip("sklearn")

TINY = Recipe(
    steps=6,
    batch_size=8,
    evaluate_every=2,
    warmup_steps=2,
    network=DiTConfig(
        width=16, depth=1, heads=2, mlp_width=16, condition_width=16, dropout=0.2, label_dropout=0.3
    ),
)  # fmt: skip
ABAR = NoiseSchedule().alphas_cumprod


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    train("digits-dit", out, recipe=TINY, card=False)
    return out


@pytest.mark.parametrize("stop_after", [1, 4])
def test_train__of_a_transformer_resumed_gives_the_bits_of_not_stopping(tmp_path, whole, stop_after):
    while train("digits-dit", tmp_path, recipe=TINY, card=False, stop_after=stop_after) is None:
        pass
    name = "digits-dit-custom@1.safetensors"
    assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_train__writes_a_conditional_model_without_what_only_training_uses(whole):
    model = load("digits-dit-custom", weights=whole)
    assert model.classes == 10
    assert model.module.config == dataclasses.replace(TINY.network, dropout=0.0, label_dropout=0.0)
    manifest = read_manifest(whole / "digits-dit-custom@1.json")
    assert manifest["architecture"] == "simulator.models.dit.DiT"
    assert DiTConfig(**manifest["training"]["recipe"]["network"]) == TINY.network


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.7])
def test_training_labels__are_dropped_with_the_stated_probability(probability):
    labels = np.arange(20_000) % 10
    (kept,) = training_labels(DiTConfig(label_dropout=probability), labels, generator(1))
    dropped = kept.numpy() == NULL_LABEL
    # five standard errors of a share of 20000
    assert abs(dropped.mean() - probability) <= 5 * np.sqrt(probability * (1 - probability) / 20_000)
    np.testing.assert_array_equal(kept.numpy()[~dropped], labels[~dropped])


def test_training_labels__of_a_network_without_classes_draw_nothing():
    random, untouched = generator(1), generator(1)
    assert training_labels(UNetConfig(), np.arange(5), random) == ()
    assert random.random() == untouched.random()


def test_advance__gives_each_image_its_own_label():
    digits = load_digits()
    recipe = dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, label_dropout=0.0))
    # abar near 1: x is the image itself, up to 1e-6 of noise
    state, seen = DenoiserState(recipe, np.full(1000, 1.0 - 1e-12)), []
    state.module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    state.advance(digits)
    ((x, _, label),) = seen
    distances = torch.cdist(x.double().flatten(1), torch.from_numpy(digits.train).double().flatten(1))
    assert distances.min(dim=1).values.max() < 1e-4
    np.testing.assert_array_equal(label.numpy(), digits.train_labels[distances.argmin(dim=1).numpy()])


def test_evaluate__measures_with_the_held_out_labels():
    digits, state = load_digits(), DenoiserState(TINY, ABAR)
    for _ in range(3):
        state.advance(digits)
    state.evaluate(digits)
    module = state.best()
    losses = [
        denoising_losses(module, digits.held_out, ABAR, bins=8, seed=TINY.seed + 3, labels=labels).mean()
        for labels in (digits.held_out_labels, None)
    ]
    assert state.history[-1] == [3, losses[0]]
    assert losses[0] != losses[1]


def test_shipped_transformer__comes_from_the_recipe_of_its_name():
    facts = read_manifest(WEIGHTS / "digits-dit@1.json")["training"]
    expected = dataclasses.asdict(RECIPES["digits-dit"])
    assert facts["recipe"] == expected
    assert facts["threads"] == 1
    history = np.array(facts["history"])
    assert facts["held_out_loss"] == history[:, 1].min()


def test_recipe__of_the_unet_keeps_its_digest():
    """A checkpoint of the released recipe stays its checkpoint, whatever other networks bring."""
    assert RECIPES["digits-unet"].digest.startswith("2e33e881b2b4445b")
