"""The classifier is trained by its recipe, resumable to the bit; what is shipped reaches 97 %, as its card says."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from samplers.errors import BadInput
from simulator.models.card_classifier import classifier_figures, classifier_text
from simulator.models.classifier import Classifier, ClassifierConfig
from simulator.models.classifier_state import shifted
from simulator.models.digits import load_digits
from simulator.models.loading import load
from simulator.models.recipe import RECIPES, ClassifierRecipe
from simulator.models.registry import CLASSIFIER, WEIGHTS, available, read_manifest
from simulator.models.shipped_classifier import load_classifier
from simulator.models.training import train

pytest.importorskip("sklearn")

TINY = ClassifierRecipe(
    steps=6, batch_size=8, evaluate_every=2, warmup_steps=2, network=ClassifierConfig(channels=(4, 8), dropout=0.3)
)
NAME = "digits-classifier-custom"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    train("digits-classifier", out, recipe=TINY)
    return out


@pytest.mark.parametrize("stop_after", [1, 4])
def test_train__resumed_gives_the_bits_of_not_stopping(tmp_path, whole, stop_after):
    while train("digits-classifier", tmp_path, recipe=TINY, card=False, stop_after=stop_after) is None:
        torch.manual_seed(7)  # nothing may come from the global generator
    files = [(folder / f"{NAME}@1.safetensors").read_bytes() for folder in (tmp_path, whole)]
    assert files[0] == files[1]


def test_train__writes_a_classifier_that_loads_and_is_no_noise_predictor(whole):
    classifier = load_classifier(NAME, weights=whole)
    assert not classifier.module.training
    assert (classifier.sample_shape, classifier.module.config.dropout) == ((1, 8, 8), 0.0)
    assert available(whole) == {}
    assert available(whole, kind=CLASSIFIER) == {NAME: [1]}
    assert f"# {NAME}@1" in (whole / f"{NAME}@1.md").read_text()


def test_load__keeps_classifiers_and_noise_predictors_apart():
    assert "digits-classifier" not in available()
    with pytest.raises(BadInput, match=r"available: .*digits-unet@1"):
        load("digits-classifier")
    with pytest.raises(BadInput, match="available: digits-classifier@1"):
        load_classifier("digits-unet")


def test_load_classifier__refuses_changed_weights(tmp_path):
    for path in WEIGHTS.glob("digits-classifier@1.*"):
        shutil.copy(path, tmp_path)
    file = tmp_path / "digits-classifier@1.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BadInput, match="recorded sha256"):
        load_classifier(weights=tmp_path)


def test_shipped_classifier__is_right_on_97_percent_of_held_out_images_and_its_card_says_so():
    digits, classifier = load_digits(), load_classifier()
    found = classifier.module(torch.from_numpy(digits.held_out)).argmax(1).numpy() == digits.held_out_labels
    assert found.mean() >= 0.97
    figures = json.loads((WEIGHTS / "digits-classifier@1.card.json").read_text())
    manifest = read_manifest(WEIGHTS / "digits-classifier@1.json")
    assert figures["accuracy"]["held_out"]["right"] == found.sum()
    assert figures["training"] == manifest["training"]
    assert figures["weights_sha256"] == classifier.weights_digest
    assert (WEIGHTS / "digits-classifier@1.md").read_text() == classifier_text(figures)
    fresh = classifier_figures(classifier, digits)
    for part, accuracy in fresh["accuracy"].items():
        cross_entropy = figures["accuracy"][part].pop("cross_entropy")
        assert accuracy.pop("cross_entropy") == pytest.approx(cross_entropy, rel=1e-3)
    assert {name: figures[name] for name in fresh} == fresh


def test_shipped_classifier__comes_from_the_recipe_of_its_name():
    facts = read_manifest(WEIGHTS / "digits-classifier@1.json")["training"]
    recorded = dict(facts["recipe"])
    assert (
        ClassifierRecipe(**{**recorded, "network": ClassifierConfig(**recorded["network"])})
        == RECIPES["digits-classifier"]
    )
    history = np.array(facts["history"])
    assert (facts["threads"], facts["best_step"]) == (1, history[history[:, 1].argmin(), 0])


def test_describe__gives_pooled_and_spatial_features_and_logits():
    classifier = load_classifier().module
    x = torch.rand(3, 1, 8, 8) * 2 - 1
    found = classifier.describe(x)
    assert [tuple(part.shape) for part in found] == [(3, 64), (3, 64), (3, 10)]
    assert torch.equal(found.logits, classifier(x))
    assert torch.allclose(classifier.head(found.pooled), found.logits)
    assert (found.pooled >= 0).all()


def test_shifted__moves_chosen_images_onto_black():
    image = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(2, 1, 1, 1)
    found = shifted(image, np.array([[1, -1], [1, -1]]), np.array([True, False]))
    assert found[0, 0].tolist() == [[-1, -1, -1], [1, 2, -1], [4, 5, -1]]
    assert torch.equal(found[1], image[1])


@pytest.mark.parametrize(
    "sizes", [{"channels": (0, 4)}, {"channels": (4,)}, {"spatial_channels": 65}, {"dropout": 1.0}, {"classes": 0}]
)
def test_config__refuses_impossible_sizes(sizes):
    with pytest.raises(BadInput):
        Classifier(ClassifierConfig(**sizes))
