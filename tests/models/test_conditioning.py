"""A class belongs to a sample, not to a place in a batch; labels a model does not have are one readable error."""

from __future__ import annotations

import pytest
import torch

from samplers.ddim import DDIM
from samplers.errors import BadInput
from samplers.loop import sample
from samplers.noise import NoiseStream
from simulator.models import load
from simulator.models.conditioning import class_denoiser, cyclic_labels
from simulator.models.dit import NULL_LABEL


@pytest.fixture(scope="module")
def model():
    return load("digits-dit@1")


def _inputs(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.full((batch,), 300)


def test_cyclic_labels__belong_to_the_sample_index():
    assert cyclic_labels(range(8, 13), 10).tolist() == [8, 9, 0, 1, 2]
    assert cyclic_labels([3, 25], 10).tolist() == [3, 5]
    assert cyclic_labels(range(0), 10).dtype == torch.int64


def test_class_denoiser__without_guidance_is_the_network_with_labels(model):
    x, timestep = _inputs(3)
    labels = torch.tensor([1, NULL_LABEL, 9])
    assert torch.equal(class_denoiser(model, labels)(x, timestep), model.module(x, timestep, labels))
    alone = class_denoiser(model, labels, weight=0.0)(x, timestep)
    assert torch.equal(alone, model.module(x, timestep))


def test_class_denoiser__guides_away_from_the_unconditional_prediction(model):
    x, timestep = _inputs(3)
    labels = torch.tensor([1, 4, 9])
    without, given = model.module(x, timestep), model.module(x, timestep, labels)
    expected = without + 3.0 * (given - without)
    torch.testing.assert_close(class_denoiser(model, labels, weight=3.0)(x, timestep), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_class_denoiser__gives_a_sample_the_same_class_in_every_batch(model, weight):
    sampler, noise = DDIM(model.schedule, 5), NoiseStream(1, "test")

    def draw(members: range) -> torch.Tensor:
        denoiser = class_denoiser(model, cyclic_labels(members, model.classes), weight=weight)
        return sample(denoiser, sampler, noise, members, model.sample_shape)

    whole, parts = draw(range(6)), torch.cat([draw(range(4)), draw(range(4, 6))])
    # torch's float bits depend on the batch size; another class moves pixels by about 1
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-3)


def test_class_denoiser__needs_a_model_with_classes():
    with pytest.raises(BadInput, match="need a model with classes"):
        class_denoiser(load("digits-unet"), torch.tensor([1]))


@pytest.mark.parametrize("labels", [torch.tensor([10]), torch.tensor([0, -2]), torch.tensor([1.0]), torch.tensor(3)])
def test_class_denoiser__refuses_labels_the_model_does_not_have(model, labels):
    with pytest.raises(BadInput, match="labels must be"):
        class_denoiser(model, labels)
