"""Claim: a latent model's two trainings are one function of the recipe; its files load only together."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from samplers.errors import BadInput
from simulator.models.autoencoder import AutoencoderConfig
from simulator.models.autoencoder_state import AutoencoderState
from simulator.models.digits import load_digits
from simulator.models.recipe import RECIPES, AutoencoderRecipe, LatentRecipe
from simulator.models.registry import WEIGHTS, available, load, load_latent_space, read_manifest
from simulator.models.training import train
from simulator.models.unet import UNetConfig

pytest.importorskip("sklearn")

SHORT = {"batch_size": 8, "evaluate_every": 2, "warmup_steps": 2}
TINY = LatentRecipe(
    steps=5,
    network=UNetConfig(image_channels=3, channels=(16, 16), time_channels=16, dropout=0.2),
    autoencoder=AutoencoderRecipe(
        steps=4, network=AutoencoderConfig(latent_channels=3, channels=(4, 8)), kl_weight=0.01, **SHORT
    ),
    **SHORT,
)
NAME = "digits-latent-custom"
FILES = [f"{NAME}@1.safetensors", f"{NAME}@1.autoencoder.safetensors"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    train("digits-latent", out, recipe=TINY, card=False)
    return out


@pytest.fixture
def copy(whole, tmp_path):
    for path in whole.glob(f"{NAME}@1.*"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize("stop_after", [1, 3])
def test_train__stopped_in_either_stage_gives_the_bits_of_not_stopping(tmp_path, whole, stop_after):
    calls = 0
    while train("digits-latent", tmp_path, recipe=TINY, card=False, stop_after=stop_after) is None:
        calls += 1
        assert not list(tmp_path.glob("*.json"))
    assert calls == {1: 8, 3: 2}[stop_after]  # 9 steps in both stages together, and the last call ends them
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_train__makes_a_model_that_samples_latents_and_decodes_images(whole):
    model = load(NAME, weights=whole)
    assert model.sample_shape == (3, 4, 4)
    assert model.module(torch.zeros(2, 3, 4, 4), torch.tensor([1, 2])).shape == (2, 3, 4, 4)
    assert model.decoder.decode(torch.zeros(2, 3, 4, 4)).shape == (2, 1, 8, 8)
    assert available(whole) == {NAME: [1]}


def test_train__trains_on_latents_of_unit_variance_of_the_recorded_autoencoder(whole):
    latents = load_latent_space(NAME, weights=whole).digits(load_digits())
    assert latents.train.shape == (1402, 3, 4, 4)
    assert latents.train.std() == pytest.approx(1.0, abs=1e-5)
    assert latents.held_out.shape == (395, 3, 4, 4)
    decoder = load(NAME, weights=whole).decoder
    assert decoder.config() == {
        "digest": read_manifest(whole / f"{NAME}@1.json")["autoencoder"]["sha256"],
        **read_manifest(whole / f"{NAME}@1.autoencoder.json")["latents"],
    }


def test_autoencoder_state__held_out_loss_is_the_trained_one_on_fixed_draws():
    digits, state = load_digits(), AutoencoderState(TINY.autoencoder)
    state.evaluate(digits)
    state.evaluate(digits)
    (_, first), (_, second) = state.history
    assert first == second
    heavier = AutoencoderState(dataclasses.replace(TINY.autoencoder, kl_weight=1.01))
    heavier.evaluate(digits)
    mean, log_variance = (t.double() for t in state.module.encode(torch.from_numpy(digits.held_out)))
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    assert heavier.history[0][1] - first == pytest.approx(divergence.item(), rel=1e-4)


def test_train__a_checkpoint_of_the_denoiser_belongs_to_its_autoencoder(tmp_path):
    recipe = dataclasses.replace(TINY)
    train("digits-latent", tmp_path, recipe=recipe, card=False, stop_after=6)
    # another first stage of the same recipe, as another torch or CPU would give
    path = tmp_path / f"{NAME}@1.autoencoder.checkpoint.safetensors"
    state = AutoencoderState(recipe.autoencoder)
    state.read(path)
    state.best_average = {key: value * 1.01 for key, value in state.best_average.items()}
    state.write(path)
    with pytest.raises(BadInput, match="another recipe"):
        train("digits-latent", tmp_path, recipe=recipe, card=False)


def test_recipe__wants_a_network_for_its_latents():
    with pytest.raises(BadInput, match="latent's channels"):
        LatentRecipe(network=UNetConfig(image_channels=1))


def test_recipe__digest_depends_on_the_first_stage():
    other = dataclasses.replace(TINY, autoencoder=dataclasses.replace(TINY.autoencoder, kl_weight=0.02))
    assert other.digest != TINY.digest


@pytest.mark.parametrize("suffix", ["autoencoder.json", "autoencoder.safetensors"])
def test_load__names_the_missing_half(copy, suffix):
    (copy / f"{NAME}@1.{suffix}").unlink()
    with pytest.raises(BadInput, match="autoencoder"):
        load(NAME, weights=copy)


def test_load__refuses_a_truncated_autoencoder(copy):
    path = copy / FILES[1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadInput, match="truncated or changed"):
        load(NAME, weights=copy)


def test_load__refuses_the_autoencoder_of_another_training(copy):
    for suffix in ("json", "safetensors"):
        shutil.copy(WEIGHTS / f"digits-latent@1.autoencoder.{suffix}", copy / f"{NAME}@1.autoencoder.{suffix}")
    with pytest.raises(BadInput, match="that it was trained with"):
        load(NAME, weights=copy)


@pytest.mark.parametrize(
    "edit",
    [
        {"architecture": "os.system"},
        {"config": {"channels": [8, 8]}},
        {"config": {"unknown": 1}},
        {"latents": {"scale": 1.0}},
        {"latents": {"scale": 0.0, "shift": 0.0}},
        {"latents": None},
    ],
)
def test_load__refuses_an_autoencoder_manifest_that_does_not_fit(copy, edit):
    path = copy / f"{NAME}@1.autoencoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    with pytest.raises(BadInput):
        load(NAME, weights=copy)


def test_load_latent_space__refuses_a_model_of_pixels():
    with pytest.raises(BadInput, match="only latent models"):
        load_latent_space("digits-unet")
    assert load("digits-unet").decoder is None


def test_shipped_latent_model__comes_from_the_recipe_of_its_name_and_is_small():
    recipe = RECIPES["digits-latent"]
    parts = {f"digits-latent@1{part}": None for part in ("", ".autoencoder")}
    for stem, want in zip(parts, (recipe, recipe.autoencoder), strict=True):
        manifest = read_manifest(WEIGHTS / f"{stem}.json")
        facts, history = manifest["training"], np.array(manifest["training"]["history"])
        assert facts["recipe"] == json.loads(json.dumps(dataclasses.asdict(want)))
        assert facts["threads"] == 1
        assert facts["held_out_loss"] == history[:, 1].min()
        assert facts["best_step"] == history[history[:, 1].argmin(), 0]
    assert sum((WEIGHTS / f"{stem}.safetensors").stat().st_size for stem in parts) < 1_000_000
