"""Features come from the shipped classifier, from Inception weights in a file, or from a user's factory."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import safetensors.torch
import torch

from samplers.errors import BadInput
from simulator.models.shipped_classifier import load_classifier
from studies.quality import FeatureExtractor, Features, features_of, load_features
from studies.quality.inception_network import FID, TORCHVISION, InceptionV3
from studies.quality.real_images import real_images


def digits_like(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 1, 8, 8)).astype(np.float32)


def test_digits_features__are_the_classifiers():
    extractor = load_features("digits-classifier")
    assert isinstance(extractor, FeatureExtractor)
    images = digits_like(300)
    found, clipped = features_of(extractor, images)
    assert (found.pooled.shape, found.spatial.shape, found.posteriors.shape) == ((300, 64), (300, 64), (300, 10))
    np.testing.assert_allclose(found.posteriors.sum(1), 1, rtol=1e-5)
    expected = load_classifier().module.describe(torch.from_numpy(images[256:]))
    np.testing.assert_array_equal(found.pooled[256:], expected.pooled.numpy())
    assert clipped == 0
    assert (extractor.name, extractor.digest) == ("digits-classifier@1", load_classifier().weights_digest)


def test_features_of__clips_as_a_picture_would_and_says_how_much():
    extractor, images = load_features("digits-classifier"), digits_like(20)
    wide = images.copy()
    wide[0] = np.sign(wide[0]) * 1.5
    images[0] = np.sign(images[0])
    found, clipped = features_of(extractor, wide)
    np.testing.assert_array_equal(found.pooled, features_of(extractor, images)[0].pooled)
    assert clipped == 1 / 20


def test_features_of__refuses_nan_and_images_of_another_shape():
    extractor = load_features("digits-classifier")
    with pytest.raises(BadInput, match="must be finite"):
        features_of(extractor, np.full((2, 1, 8, 8), np.nan, np.float32))
    with pytest.raises(BadInput, match="takes images"):
        features_of(extractor, np.zeros((2, 3, 8, 8), np.float32))


@pytest.fixture(scope="module", params=[TORCHVISION, FID])
def inception_file(request, tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = InceptionV3(request.param)
    state = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    state["AuxLogits.fc.weight"] = torch.zeros(2)  # torchvision's head that inference never runs
    path = tmp_path_factory.mktemp("inception") / "weights.safetensors"
    safetensors.torch.save_file({k: v.half() if k == "fc.bias" else v for k, v in state.items()}, path)
    return path, request.param


def test_inception__is_known_by_its_last_layer_and_takes_small_grey_images(inception_file):
    path, rows = inception_file
    extractor = load_features(str(path))
    found, _ = features_of(extractor, digits_like(2))
    assert (found.pooled.shape, found.spatial.shape, found.posteriors.shape) == ((2, 2048), (2, 2023), (2, rows))
    assert extractor.name.startswith("inception-v3-fid-" if rows == FID else "inception-v3-torchvision-")


def test_inception__has_the_published_number_of_parameters():
    """torchvision's 27,161,264 less its auxiliary head: 768 to 128 and 128 to 768 convolutions, and 1000 x 769."""
    with torch.device("meta"):
        network = InceptionV3(TORCHVISION)
    auxiliary = (768 * 128 + 2 * 128) + (128 * 768 * 25 + 2 * 768) + 1000 * 769
    assert sum(p.numel() for p in network.parameters()) == 27_161_264 - auxiliary


def test_load_features__refuses_files_of_something_else(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"fc.weight": torch.zeros(1000, 2048)}, path)
    with pytest.raises(BadInput, match="must hold Inception-v3"):
        load_features(path)
    safetensors.torch.save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(BadInput, match="0 rows"):
        load_features(path)
    with pytest.raises(BadInput, match="readable safetensors"):
        load_features(tmp_path / "missing.safetensors")
    with pytest.raises(BadInput, match="features must be"):
        load_features("vgg")
    with pytest.raises(BadInput, match="must be one that exists"):
        load_features("digits-classifier@7")


class Means:
    """Features of a user's: means of rows."""

    name, digest = "means", "0"

    def __call__(self, images):
        return Features(images.mean((1, 3)).numpy(), None, None)


def test_load_features__takes_a_factory(monkeypatch):
    module = types.ModuleType("of_a_user")
    module.make, module.broken, module.other = Means, lambda: 1 / 0, lambda: 3
    monkeypatch.setitem(sys.modules, "of_a_user", module)
    found, _ = features_of(load_features("of_a_user:make"), digits_like(3))
    assert found.pooled.shape == (3, 8)
    assert found.spatial is None
    for name, says in (
        ("broken", "ZeroDivisionError"),
        ("other", "must return a FeatureExtractor"),
        ("no", "Attribute"),
    ):
        with pytest.raises(BadInput, match=says):
            load_features(f"of_a_user:{name}")


def test_features_of__refuses_an_extractor_that_breaks_its_promise():
    class Broken(Means):
        def __call__(self, images):
            return Features(images.mean((1, 3)).numpy()[:1], None, None)

    with pytest.raises(BadInput, match="a row for each image"):
        features_of(Broken(), digits_like(3))


def test_real_images__come_from_the_digits_or_a_file(tmp_path):
    pytest.importorskip("sklearn")
    digits = real_images("digits")
    assert (len(digits.real), len(digits.held_out)) == (1402, 395)
    path = tmp_path / "real.safetensors"
    safetensors.torch.save_file({"images": torch.zeros(5, 3, 4, 4)}, path)
    found = real_images(str(path))
    assert found.real.shape == (5, 3, 4, 4)
    assert found.held_out is None
    assert found.config != digits.config
    assert real_images("none").real is None


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"pictures": torch.zeros(5, 3, 4, 4)}, "pictures"),
        ({"images": torch.zeros(5, 3, 4)}, r"\(5, 3, 4\)"),
        ({"images": torch.zeros(5, 3, 4, 4, dtype=torch.uint8)}, "uint8"),
        ({"images": torch.full((5, 3, 4, 4), 255.0)}, "outside"),
        ({"images": torch.full((5, 3, 4, 4), np.nan)}, "outside"),
    ],
)
def test_real_images__refuses_files_of_something_else(tmp_path, tensors, says):
    path = tmp_path / "real.safetensors"
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(BadInput, match=says):
        real_images(str(path))
    with pytest.raises(BadInput, match="safetensors file"):
        real_images(str(tmp_path / "missing"))
