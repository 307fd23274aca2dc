"""The shipped cards reproduce from the shipped weights, and show neither speckle nor copies of training images."""

from __future__ import annotations

import json

import numpy as np
import pytest

from simulator.models import load
from simulator.models.card import LOSS_BINS, LOSS_SEED, card_figures, count_macs, generate
from simulator.models.card_text import card_text
from simulator.models.denoising import denoising_losses
from simulator.models.digits import load_digits
from simulator.models.distances import nearest_distances, pixel_rows
from simulator.models.registry import WEIGHTS, read_manifest


@pytest.fixture(scope="module", params=["digits-unet@1", "digits-dit@1"])
def model(request):
    return load(request.param)


@pytest.fixture(scope="module")
def figures(model):
    return json.loads((WEIGHTS / f"{model.name}@{model.version}.card.json").read_text())


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return load_digits()


def test_card__describes_the_weights_beside_it(model, figures):
    assert figures["weights_sha256"] == model.weights_digest
    stem = f"{model.name}@{model.version}"
    assert figures["training"] == read_manifest(WEIGHTS / f"{stem}.json")["training"]
    assert (WEIGHTS / f"{stem}.md").read_text() == card_text(model, figures)


def test_card__counts_parameters_and_macs(model, figures):
    assert figures["parameters"] == sum(p.numel() for p in model.module.parameters())
    assert figures["macs_per_sample"] == count_macs(model) <= 6_500_000


def test_card__held_out_loss_reproduces(model, figures, digits):
    parts = {"held_out": digits.held_out_labels, "held_out_without_label": None}
    for part, labels in parts.items() if model.classes else [("held_out", None)]:
        losses = denoising_losses(
            model.module, digits.held_out, model.schedule.alphas_cumprod, bins=LOSS_BINS, seed=LOSS_SEED, labels=labels
        )
        # The draws are the card's; what may differ is float32 rounding in other kernels, far below this tolerance.
        np.testing.assert_allclose(losses.mean(axis=1), figures["denoising"][part]["by_bin"], rtol=1e-3)


def test_card__held_out_loss_is_near_that_of_training(figures):
    found = figures["denoising"]
    assert found["held_out"]["mean"] < 1.15 * found["train"]["mean"]


def test_card__samples_are_no_copies(figures):
    """No sample is nearer to a training image than every held-out image is, and the quantiles lie no lower."""
    found, real = figures["samples"]["by_steps"]["50"], figures["real"]["nearest_train"]["held_out"]
    assert found["closer_than_any_held_out"] < 0.005
    assert all(found["nearest_train"][q] > 0.9 * real[q] for q in ("0.01", "0.05", "0.25", "0.5"))


def test_card__samples_are_nearly_as_close_to_held_out_images_as_training_images(figures):
    found, floor = figures["samples"]["by_steps"]["50"]["to_held_out"], figures["real"]["distances"]
    assert found["frechet"]["mean"] < 2.0 * floor["frechet"]["mean"]
    assert found["energy"]["mean"] < 0.02


def test_card__backgrounds_are_clean(figures):
    levels, real = figures["samples"]["by_steps"]["50"]["levels"], figures["real"]["levels"]["held_out"]
    assert levels["background"] > real["background"] - 0.03
    assert levels["faint"] < real["faint"] + 0.02


def test_samples__reproduce_and_do_not_depend_on_how_many_are_drawn(model):
    few, more = generate(model, 3, 5, seed=1), generate(model, 5, 5, seed=1)
    np.testing.assert_allclose(few, more[:3], rtol=0, atol=1e-3)


def test_samples__of_fifty_steps_look_like_digits_to_their_nearest_neighbours(model, digits):
    rows = pixel_rows(generate(model, 48, 50, seed=12))
    real, train = pixel_rows(digits.held_out), pixel_rows(digits.train)
    nearest, expected = nearest_distances(rows, train), nearest_distances(real, train)
    # 48 samples: the standard error of the mean is about 0.04, the means differ by about 0.1; noise is beyond 2.
    assert np.mean(nearest) < np.mean(expected) + 0.3


@pytest.mark.slow
def test_card__sample_figures_reproduce(model, figures, digits):
    fresh = card_figures(model, digits)
    for steps, found in fresh["samples"]["by_steps"].items():
        recorded = figures["samples"]["by_steps"][steps]
        for kind in ("frechet", "energy"):
            tolerance = recorded["to_held_out"][kind]["sd"] / 10
            assert found["to_held_out"][kind]["mean"] == pytest.approx(
                recorded["to_held_out"][kind]["mean"], abs=tolerance
            )
        assert found["levels"] == pytest.approx(recorded["levels"], abs=1e-3)
