"""The latent model's card reproduces from its weights: reconstruction, losses in latents, samples in pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from simulator.models import load
from simulator.models.card import LOSS_BINS, LOSS_SEED, card_figures, count_macs, generate, sample_rows
from simulator.models.card_latent import autoencoder_figures
from simulator.models.card_text import card_text
from simulator.models.denoising import denoising_losses
from simulator.models.digits import load_digits
from simulator.models.distances import nearest_distances, pixel_rows
from simulator.models.registry import WEIGHTS, load_latent_space, read_manifest

STEM = "digits-latent@1"


@pytest.fixture(scope="module")
def model():
    return load(STEM)


@pytest.fixture(scope="module")
def space():
    return load_latent_space(STEM)


@pytest.fixture(scope="module")
def figures():
    return json.loads((WEIGHTS / f"{STEM}.card.json").read_text())


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return load_digits()


def test_card__describes_the_weights_beside_it(model, figures):
    assert figures["weights_sha256"] == model.weights_digest
    assert figures["autoencoder"]["weights_sha256"] == model.decoder.digest
    assert figures["training"] == read_manifest(WEIGHTS / f"{STEM}.json")["training"]
    assert figures["autoencoder"]["training"] == read_manifest(WEIGHTS / f"{STEM}.autoencoder.json")["training"]
    assert (WEIGHTS / f"{STEM}.md").read_text() == card_text(model, figures)


def test_card__counts_parameters_and_macs(model, figures):
    assert figures["parameters"] == sum(p.numel() for p in model.module.parameters())
    assert figures["macs_per_sample"] == count_macs(model)


def test_card__figures_of_the_autoencoder_reproduce(space, figures, digits):
    found, recorded = autoencoder_figures(space, digits), figures["autoencoder"]
    assert set(found) | {"training"} == set(recorded)
    for part in ("train", "held_out"):
        assert found["reconstruction"][part] == pytest.approx(recorded["reconstruction"][part], rel=1e-3)
    assert found["held_out_to_train"] == pytest.approx(recorded["held_out_to_train"], abs=1e-4)
    assert found["decoder_macs_per_sample"] == recorded["decoder_macs_per_sample"]


def test_card__reconstruction_error_is_that_of_the_pixels(model, space, figures, digits):
    latents = torch.from_numpy(space.encode(digits.held_out))
    decoded = model.decoder.decode(latents).numpy().astype(np.float64)
    square = np.mean((decoded - digits.held_out) ** 2)
    found = figures["autoencoder"]["reconstruction"]["held_out"]
    assert found["mean_square"] == pytest.approx(square, rel=1e-3)
    assert found["levels"] == pytest.approx(8 * np.sqrt(square), rel=1e-3)
    level = np.rint((np.clip(decoded, -1, 1) + 1) * 8)
    assert found["same_level"] == pytest.approx(np.mean(level == (digits.held_out + 1) * 8), abs=1e-3)
    assert found["levels"] < 0.55  # half of a grey level


def test_card__held_out_loss_is_measured_on_latents(model, space, figures, digits):
    losses = denoising_losses(
        model.module, space.encode(digits.held_out), model.schedule.alphas_cumprod, bins=LOSS_BINS, seed=LOSS_SEED
    )
    np.testing.assert_allclose(losses.mean(axis=1), figures["denoising"]["held_out"]["by_bin"], rtol=1e-3)


def test_card__samples_are_near_the_data_and_no_copies(figures):
    found, real = figures["samples"]["by_steps"]["50"], figures["real"]
    assert found["to_held_out"]["frechet"]["mean"] < 1.5 * real["distances"]["frechet"]["mean"]
    assert found["to_held_out"]["energy"]["mean"] < 0.02
    nearest = real["nearest_train"]["held_out"]
    assert found["closer_than_any_held_out"] < 0.005
    assert all(found["nearest_train"][q] > 0.9 * nearest[q] for q in ("0.01", "0.05", "0.25", "0.5"))


def test_samples__of_fifty_steps_decode_to_what_is_near_digits(model, digits):
    rows = sample_rows(model, generate(model, 48, 50, seed=12))
    real, train = pixel_rows(digits.held_out), pixel_rows(digits.train)
    # 48 samples: the standard error of the mean is about 0.04, the means differ by about 0.1; noise is beyond 2
    assert nearest_distances(rows, train).mean() < nearest_distances(real, train).mean() + 0.3
    noise = torch.randn(48, *model.sample_shape, generator=torch.Generator().manual_seed(1)).numpy()
    assert nearest_distances(sample_rows(model, noise), train).mean() > nearest_distances(rows, train).mean() + 0.3


@pytest.mark.slow
def test_card__all_figures_reproduce(model, space, figures, digits):
    fresh = card_figures(model, digits, space)
    assert set(fresh) | {"training"} == set(figures)
    for part in ("train", "held_out"):
        assert fresh["denoising"][part]["mean"] == pytest.approx(figures["denoising"][part]["mean"], rel=1e-3)
    for steps, found in fresh["samples"]["by_steps"].items():
        recorded = figures["samples"]["by_steps"][steps]
        for kind in ("frechet", "energy"):
            expected = recorded["to_held_out"][kind]
            assert found["to_held_out"][kind]["mean"] == pytest.approx(expected["mean"], abs=expected["sd"] / 10)
        assert found["levels"] == pytest.approx(recorded["levels"], abs=1e-3)
