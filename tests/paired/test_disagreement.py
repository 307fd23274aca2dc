"""Two arithmetics of one scheme are compared on the same x_t, site by site and code by code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import simulator
from noise_models import sqnr_db
from samplers import DDIM
from samplers.errors import BadInput
from simulator.disagreement import disagreement
from simulator.instrument.rungs import Rung
from simulator.instrument.scheme import Scheme

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sampler(tiny_model):
    return DDIM(tiny_model.schedule, 4)


@pytest.fixture(scope="module")
def ranges(tiny_model, sampler):
    return simulator.calibrate_ranges(tiny_model, sampler, samples=8, outputs=True)


def network(model, ranges, scheme: str, rung: Rung = Rung.COMPLETE):
    return simulator.QuantizedModel(model, Scheme.parse(scheme), ranges, rung=rung)


def test_disagreement__of_a_network_with_itself_is_none_at_all(tiny_model, ranges, sampler) -> None:
    found = disagreement(*(network(tiny_model, ranges, "w8a8o8") for _ in range(2)), sampler, samples=3)
    assert not found.difference_power.any()
    assert not found.flipped.any()
    assert (found.noise_power > 0).all()
    assert dict(found.sizes) == {"step": 4, "site": len(network(tiny_model, ranges, "w8a8").sites)}


@pytest.mark.parametrize("scheme", ["w4a4", "w8a8o8", "w8a8-f16"])
def test_disagreement__noise_is_that_of_a_paired_run(tiny_model, ranges, sampler, scheme: str) -> None:
    hardware, fake = (network(tiny_model, ranges, scheme, rung) for rung in (Rung.COMPLETE, Rung.FAKE_QUANT))
    found = disagreement(hardware, fake, sampler, samples=5, seed=3)
    run = simulator.run(simulator.Arm(hardware), sampler, samples=5, seed=3, kinds=("injected",))
    moments, count = run.site_injected, run.site_count
    power = ((moments.sel(moment="ee") + moments.sel(moment="mean_e") ** 2) * count).sum("block") / count.sum("block")
    np.testing.assert_allclose(found.noise_power, power.transpose("step", "site"), rtol=1e-9)
    assert sqnr_db(run, "site_injected").sizes["site"] == found.sizes["site"]
    np.testing.assert_array_equal(found.timestep, run.timestep)


def test_disagreement__flips_are_counted_where_operands_part_and_not_before(tiny_model, ranges, sampler) -> None:
    found = disagreement(
        network(tiny_model, ranges, "w8a8o4"),
        network(tiny_model, ranges, "w8a8o4", Rung.FAKE_QUANT),
        sampler,
        samples=3,
    )
    flipped = found.flipped.sum("step")
    assert flipped.sel(site="embed.0:linear") == 0
    assert flipped.sel(site="first:conv2d") == 0, "it reads x_t, which both share"
    assert (flipped.sel(site=["embed.2:linear", "down:conv2d", "last:conv2d"]) > 0).all()
    assert (found.flipped <= found.operands).all()
    per_sample = {str(facts.key): facts.operands for facts in network(tiny_model, ranges, "w8a8").sites}
    np.testing.assert_array_equal(found.operands[0], [3 * per_sample[site] for site in found.site.values])


def test_disagreement__leaves_operands_without_static_codes_uncounted(tiny_model, ranges, sampler) -> None:
    found = disagreement(
        network(tiny_model, ranges, "w8a8-dyn"), network(tiny_model, ranges, "w8a8-dyn", Rung.FAKE_QUANT), sampler,
        samples=2,
    )  # fmt: skip
    counted = found.site.values[(found.operands > 0).any("step").values]
    assert [str(site).rpartition(":")[2] for site in counted] == ["pv"], "softmax outputs have a known range"


def test_disagreement__refuses_networks_that_share_no_codes(tiny_model, ranges, sampler) -> None:
    for other in (network(tiny_model, ranges, "w8a4"), network(tiny_model, simulator.calibrate_ranges(
        tiny_model, sampler, samples=4), "w8a8")):  # fmt: skip
        with pytest.raises(BadInput, match="one model, scheme and ranges"):
            disagreement(network(tiny_model, ranges, "w8a8"), other, sampler)
    with pytest.raises(BadInput, match="samples"):
        disagreement(*(network(tiny_model, ranges, "w8a8") for _ in range(2)), sampler, samples=0)
    assert not torch.is_inference_mode_enabled()
