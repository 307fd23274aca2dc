"""A set's samples are those of a paired run, bit for bit: same noise, same bits, with and without a correction."""

from __future__ import annotations

import numpy as np
import pytest

from noise_models.correction.ptqd import PTQD
from noise_models.correction.ptqd_fit import fit_ptqd
from samplers.ddim import DDIM
from samplers.ddpm import DDPM
from samplers.errors import BadInput
from simulator import Arm, QuantizedModel, Scheme, calibrate_ranges, load, run
from simulator.calibration.trajectory import PURPOSE
from studies.quality import Generator, final_images

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["ddim", "ddpm"])
def drawn(request, tiny_model):
    schedule = tiny_model.schedule
    sampler = DDIM(schedule, 3, eta=0.5) if request.param == "ddim" else DDPM(schedule, 3)
    network = QuantizedModel(tiny_model, Scheme.parse("w4a4"), calibrate_ranges(tiny_model, sampler, samples=8))
    return tiny_model, sampler, network


def test_final_images__are_those_of_a_paired_run(drawn):
    model, sampler, network = drawn
    expected = run(Arm(network), sampler, samples=10, batch_size=4, seed=3, sites=False)
    options = {"samples": 10, "batch_size": 4, "seed": 3}
    np.testing.assert_array_equal(final_images(Generator(model), sampler, **options), expected.sample_reference)
    np.testing.assert_array_equal(
        final_images(Generator(model, network), sampler, **options), expected.sample_quantized
    )


def test_final_images__are_corrected_as_in_a_paired_run(drawn):
    model, sampler, network = drawn
    fit = run(Arm(network), sampler, samples=16, purpose=PURPOSE, kinds=("injected",), sites=False)
    correction = fit_ptqd(fit)
    assert isinstance(correction, PTQD)
    expected = run(Arm(network, correction), sampler, samples=6, sites=False).sample_quantized
    found = final_images(Generator(model, network, correction), sampler, samples=6, batch_size=64)
    np.testing.assert_array_equal(found, expected)
    assert (found != final_images(Generator(model, network), sampler, samples=6, batch_size=64)).any()


def test_final_images__of_a_latent_model_are_decoded():
    model = load("digits-latent")
    sampler = DDIM(model.schedule, 2)
    assert final_images(Generator(model), sampler, samples=3).shape == (3, 1, 8, 8)


def test_final_images__depend_on_seed_and_purpose(drawn):
    model, sampler, _ = drawn
    one, other = (final_images(Generator(model), sampler, samples=2, purpose=p) for p in ("evaluate", "repeat"))
    assert (one != other).all()


def test_final_images__refuses_sizes_below_1_and_networks_of_another_model(drawn):
    model, sampler, network = drawn
    with pytest.raises(BadInput, match="samples must be"):
        final_images(Generator(model), sampler, samples=0)
    with pytest.raises(BadInput, match="one of the model"):
        Generator(load("digits-unet"), network)
