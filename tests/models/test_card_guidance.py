"""The transformer's card: samples are of the class asked for, guidance sharpens that, and it has a price."""

from __future__ import annotations

import json

import numpy as np
import pytest

from simulator.models import load
from simulator.models.card import generate, guidance_figures
from simulator.models.conditioning import cyclic_labels
from simulator.models.digits import load_digits
from simulator.models.distances import nearest_indices, pixel_rows
from simulator.models.registry import WEIGHTS


@pytest.fixture(scope="module")
def model():
    return load("digits-dit@1")


@pytest.fixture(scope="module")
def guidance():
    return json.loads((WEIGHTS / "digits-dit@1.card.json").read_text())["guidance"]


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return load_digits()


def test_card__samples_are_of_the_class_asked_for(guidance):
    shares = {weight: found["nearest_has_label"]["all"] for weight, found in guidance["by_weight"].items()}
    assert shares["1"] > 0.9
    assert shares["2"] > 0.97
    assert shares["4"] > 0.97
    assert min(guidance["by_weight"]["1"]["nearest_has_label"]["by_class"]) > 0.75


def test_card__without_a_label_classes_come_by_chance(guidance):
    # 1580 samples at one tenth: the standard error is 0.0075
    assert abs(guidance["by_weight"]["0"]["nearest_has_label"]["all"] - 0.1) < 0.04


def test_card__strong_guidance_leaves_the_data(guidance):
    frechet = {weight: found["to_held_out"]["frechet"]["mean"] for weight, found in guidance["by_weight"].items()}
    assert frechet["1"] < frechet["2"] < frechet["4"]


def test_samples__follow_the_label_and_not_the_noise(model, digits):
    """Thirty samples of ten steps, one seed: with another order of labels the same noises become other digits."""
    rows = pixel_rows(generate(model, 30, 10, seed=5, weight=2.0))
    found = digits.train_labels[nearest_indices(rows, pixel_rows(digits.train))]
    assert (found == cyclic_labels(range(30), 10).numpy()).mean() > 0.85


def test_guidance_figures__count_the_label_asked_for(model, digits, monkeypatch):
    """Samples that are training images of known labels: the shares are known."""
    first = np.array([np.flatnonzero(digits.train_labels == label)[0] for label in range(10)])
    wrong = first.copy()
    wrong[3] = first[8]
    monkeypatch.setattr("simulator.models.card.SAMPLES", 10)
    monkeypatch.setattr("simulator.models.card.generate", lambda *_, **__: digits.train[wrong])
    shares = guidance_figures(model, digits, [2.0])["by_weight"]["2"]["nearest_has_label"]
    assert shares["all"] == 0.9
    assert shares["by_class"] == [1.0, 1.0, 1.0, 0.0, *[1.0] * 6]


@pytest.mark.slow
def test_card__guidance_figures_reproduce(model, guidance, digits):
    fresh = guidance_figures(model, digits, [1.0, 4.0])
    for weight, found in fresh["by_weight"].items():
        recorded = guidance["by_weight"][weight]["nearest_has_label"]["all"]
        assert found["nearest_has_label"]["all"] == pytest.approx(recorded, abs=0.01)
