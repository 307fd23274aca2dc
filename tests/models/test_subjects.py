"""Claim: the exact subjects load by name, run in the integer engine, and sample what they say they do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import simulator
from noise_models import sqnr_db
from samplers import DDIM, BadInput, NoiseStream, sample
from simulator.models.digits import load_digits
from simulator.models.gaussian import Gaussian
from simulator.models.subjects import SUBJECTS, digits_empirical, gaussian, subject

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", SUBJECTS)
def test_load__gives_a_subject_by_name(name: str) -> None:
    model = simulator.load(name)
    assert (model.name, model.version, model.prediction_type) == (name, 1, "epsilon")
    assert model.weights_digest == simulator.load(f"{name}@1").weights_digest
    assert len(model.weights_digest) == 64
    assert not model.module.training
    output = model.module(torch.zeros(2, *model.sample_shape), torch.tensor([0, 999]))
    assert output.shape == (2, *model.sample_shape)


def test_load__lists_the_subjects_beside_the_shipped_models() -> None:
    for name in ("gaussian@2", "gaussian@", "gausian"):
        with pytest.raises(BadInput, match=r"available: digits-dit@1.*exact subjects: gaussian@1"):
            simulator.load(name)


def test_subject__is_told_apart_by_its_data_and_its_form() -> None:
    digests = {simulator.load(name).weights_digest for name in SUBJECTS}
    shifted = subject("gaussian", Gaussian.standard(64), (1, 8, 8))
    assert len({*digests, shifted.weights_digest}) == len(SUBJECTS) + 1
    assert gaussian("v_prediction").name == "gaussian-v_prediction"
    assert gaussian("v_prediction").module.prediction_type == gaussian("v_prediction").prediction_type
    with pytest.raises(BadInput, match="64 elements"):
        subject("gaussian", Gaussian.standard(64), (3, 8, 8))


def test_digits_empirical__is_made_of_the_training_part_alone() -> None:
    points = digits_empirical().module.data.means.reshape(-1, 1, 8, 8)
    np.testing.assert_array_equal(points, load_digits().train)
    assert len(points) == 1402


def test_digits_empirical__gives_training_images_back() -> None:
    model = digits_empirical()
    noise = NoiseStream(0, "test")
    x = sample(model.module, DDIM(model.schedule, 20), noise, range(12), (1, 8, 8), denoiser_dtype=torch.float64)
    rows = x.reshape(12, 64).numpy()
    nearest = np.linalg.norm(rows[:, None] - model.module.data.means, axis=2).min(1)
    assert nearest.max() < 1e-3
    # As fresh images are to their nearest training image: a distance of about 2.
    held_out = load_digits().held_out[:50].reshape(-1, 1, 64)
    assert np.linalg.norm(held_out - model.module.data.means, axis=2).min(1).mean() > 1


SITES = {
    "gaussian": {"linear": ("input",), "linear#1": ("input",)},
    "gaussian-mixture": {"matmul": ("left", "right")},
    "digits-empirical": {"qk": ("query", "key"), "pv": ("probability", "value")},
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_run__takes_a_subject_through_the_integer_engine(name: str) -> None:
    model = simulator.load(name)
    sampler = DDIM(model.schedule, 5)
    ranges = simulator.calibrate_ranges(model, sampler, samples=32)
    texts = ("w8a8", "w16a16-attn16" if "qk" in SITES[name] else "w16a16")
    arms = [simulator.Arm(simulator.QuantizedModel(model, simulator.Scheme.parse(text), ranges)) for text in texts]
    assert {str(facts.key): facts.roles for facts in arms[0].quantized.sites} == SITES[name]
    found = simulator.run_arms(arms, sampler, samples=16, kinds=("injected",))
    coarse, fine = (sqnr_db(dataset, "site_injected").sqnr_db.values for dataset in found)
    assert coarse.shape == (5, len(SITES[name]))
    assert np.isfinite(coarse).all()
    # Sites with a weight are a network's first and last layer, which a short string keeps at 8 bits.
    if name != "gaussian":
        assert np.all(fine[-2:] > coarse[-2:] + 20)
    else:
        assert np.all(coarse[:2] > 25)


def test_digits_empirical__even_probabilities_round_to_nothing_at_8_bits() -> None:
    # At x_T the softmax over 1402 images is nearly even, 1/1402 each, below half of 1/255: every code is 0, and so is
    # the mixture: noise as large as its signal, which one more bit of weight on each operand does not mend.
    model = digits_empirical()
    sampler = DDIM(model.schedule, 5)
    ranges = simulator.calibrate_ranges(model, sampler, samples=8)
    network = simulator.QuantizedModel(model, simulator.Scheme.parse("w8a8"), ranges)
    found = simulator.run(simulator.Arm(network), sampler, samples=8, kinds=("injected",))
    pv = sqnr_db(found, "site_injected").sqnr_db.sel(site="pv").values
    assert abs(pv[0]) < 1
    assert pv[-1] > 30
