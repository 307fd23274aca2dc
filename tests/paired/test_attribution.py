"""Claim: attribution records what direct evaluation of each rung gives; its sources add up with their cross terms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noise_models import sqnr_db
from samplers.ddim import DDIM
from samplers.errors import BadInput
from samplers.noise import NoiseStream
from samplers.parameterization import predict
from samplers.state import FLOAT64
from simulator.attribution import attribute
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.forward import forward
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.rungs import LADDER, Rung, ladder
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.moments import moment_names
from simulator.paired import Arm, run
from simulator.variables import BY_NAME

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, SAMPLES = 3, 5
SCHEME = "w4a6o8-acc16"


@pytest.fixture(scope="module")
def sampler(tiny_model):
    return DDIM(tiny_model.schedule, STEPS)


@pytest.fixture(scope="module")
def ranges(tiny_model, sampler):
    return calibrate_ranges(tiny_model, sampler, samples=4, outputs=True)


@pytest.fixture(scope="module")
def quantized(tiny_model, ranges):
    return QuantizedModel(tiny_model, Scheme.parse(SCHEME), ranges)


@pytest.fixture(scope="module")
def dataset(quantized, sampler):
    with torch.random.fork_rng():
        return attribute(quantized, sampler, samples=SAMPLES, seed=3, batch_size=4, by_channel=True, by_sample=True)


def power(moments):
    return moments.sel(moment="ee") + moments.sel(moment="mean_e") ** 2


def test_variables__are_declared(dataset):
    for name, array in dataset.data_vars.items():
        assert array.dims == BY_NAME[name].dims
        assert array.attrs == BY_NAME[name].attrs
    assert dataset.rung.values.tolist() == [rung.value for rung in LADDER]


def test_complete_rung__is_the_injected_noise_of_a_paired_run(dataset, quantized, sampler):
    paired = run(Arm(quantized), sampler, samples=SAMPLES, seed=3, batch_size=4, kinds=("injected",))
    last = dataset.sel(rung="complete")
    assert np.array_equal(last.epsilon_rung, paired.epsilon_injected)
    assert np.array_equal(last.site_rung, paired.site_injected)
    for what in ("clipped", "overflowed", "saturated"):
        assert np.array_equal(last[f"site_rung_{what}"], paired[f"site_{what}_injected"])
    assert np.allclose(sqnr_db(dataset, "epsilon_rung").sqnr_db[-1], sqnr_db(paired).sqnr_db)


def passes(quantized, sampler):
    """Outputs of float and of every rung at the first step, epsilon among them."""
    model = quantized.model
    x = FLOAT64.cast(NoiseStream(3, "evaluate").initial(np.arange(4), model.sample_shape))
    update = sampler.updates[0]
    timestep = torch.full((4,), update.timestep)
    plain, contractions = {}, {}

    def keep(site, contraction):
        contractions[site] = contraction
        plain[site] = contraction.float()
        return plain[site]

    def epsilon(output):
        return predict(FLOAT64, "epsilon", update, x, FLOAT64.cast(output))[1]

    found = [(plain, epsilon(forward(model.module, keep, x.float(), timestep)))]
    for rung in LADDER:
        seen = {}
        network = QuantizedModel(model, quantized.scheme, quantized.ranges, rung=rung)
        output = network(x.float(), timestep, lambda site, out, seen=seen: seen.__setitem__(site, out.output))
        found.append((seen, epsilon(output)))
    return found, contractions


def test_rungs__are_errors_against_float_and_against_the_rung_before(dataset, quantized, sampler):
    found, contractions = passes(quantized, sampler)
    first = dataset.isel(step=0, block=slice(0, 4))
    for index in range(len(LADDER)):
        for name, reference in (("rung", found[0]), ("rung_added", found[index])):
            error = (found[index + 1][1] - reference[1]).square().mean(dim=(1, 2, 3))
            assert np.allclose(power(first[f"epsilon_{name}"]).isel(rung=index, channel=0), error, rtol=1e-9)
            for position, facts in enumerate(quantized.sites):
                y, other = (outputs[facts.key].double() for outputs in (reference[0], found[index + 1][0]))
                error = (other - y).square().reshape(4, -1).mean(1) if facts.batched else (other - y).square().mean()
                got = power(first[f"site_{name}"]).isel(rung=index, site=position)
                assert np.allclose(got, error, rtol=1e-6, atol=1e-20)
    for position, facts in enumerate(quantized.sites):
        alone = quantized.emulate(facts.key, contractions[facts.key]).output.double()
        error = (alone - found[0][0][facts.key]).square()
        error = error.reshape(4, -1).mean(1) if facts.batched else error.mean()
        assert np.allclose(power(first.site_local).isel(site=position), error, rtol=1e-6, atol=1e-20)


def test_cross_terms__close_the_sum_of_powers(dataset, quantized, sampler):
    found, _ = passes(quantized, sampler)
    for index in range(1, len(LADDER)):
        before = found[index][1] - found[0][1]
        added = found[index + 1][1] - found[index][1]
        want = (before * added).mean(dim=(1, 2, 3))
        got = dataset.epsilon_rung_cross.isel(rung=index, step=0, channel=0, block=slice(0, 4))
        scale = before.square().mean() + added.square().mean()
        assert np.allclose(got, want, atol=1e-12 * float(scale))
    assert not dataset.epsilon_rung_cross.isel(rung=0).any()
    assert not dataset.site_rung_cross.isel(rung=0).any()


def test_details__agree_with_the_block_moments(dataset, quantized):
    last = dataset.sel(rung="complete")
    blocks = power(last.site_rung)
    for position, facts in enumerate(quantized.sites):
        samples = power(dataset.site_sample_rung).isel(site=position)
        assert np.allclose(samples, blocks.isel(site=position), rtol=1e-9)  # 5 samples are 5 blocks
        channels = power(dataset.site_channel_rung)[:, (dataset.site_of_channel == str(facts.key)).values]
        assert np.allclose(channels.mean("site_channel"), blocks.isel(site=position).mean("block"), rtol=1e-6)
        size = facts.weight_shape[0] if facts.weight_shape else channels.sizes["site_channel"]
        assert channels.sizes["site_channel"] == size
    assert (dataset.site_reference_low <= dataset.site_reference_high).all()
    assert not np.array_equal(dataset.site_quantized_high, dataset.site_reference_high)


@pytest.mark.parametrize(
    ("scheme", "rungs"),
    [
        ("w4a6", (Rung.WEIGHTS, Rung.INTEGERS)),
        ("w4a6-acc16", (Rung.WEIGHTS, Rung.INTEGERS, Rung.REGISTER)),
        ("w4a6o8", (Rung.WEIGHTS, Rung.INTEGERS, Rung.COMPLETE)),
        ("w4a6-f16", (Rung.WEIGHTS, Rung.INTEGERS, Rung.COMPLETE)),
        (SCHEME, LADDER),
    ],
)
def test_ladder__leaves_out_rungs_that_change_nothing(tiny_model, ranges, scheme, rungs):
    assert ladder(QuantizedModel(tiny_model, Scheme.parse(scheme), ranges).plan) == rungs


def test_ladder__looks_at_every_step(tiny_model, ranges, sampler):
    rule = Rule(("@qk",), Settings(output_bits=8), (2, 3))
    stepped = QuantizedModel(tiny_model, Scheme(rules=(rule,)), ranges)
    found = attribute(stepped, sampler, samples=2)
    assert found.rung.values.tolist() == ["weights", "integers", "complete"]
    added = power(found.epsilon_rung_added).sel(rung="complete").sum(("channel", "block")).values
    assert (added > 0).tolist() == [False, False, True]


@pytest.mark.parametrize("rungs", [(), (Rung.WEIGHTS, Rung.WEIGHTS)])
def test_attribute__refuses_rungs_that_do_not_climb(quantized, sampler, rungs):
    with pytest.raises(BadInput, match="different rungs"):
        attribute(quantized, sampler, rungs=rungs)


def test_attribute__refuses_a_network_on_a_rung_and_empty_runs(quantized, sampler):
    with pytest.raises(BadInput, match="complete"):
        attribute(quantized.on(Rung.INTEGERS), sampler)
    for sizes in ({"samples": 0}, {"batch_size": 0}):
        with pytest.raises(BadInput):
            attribute(quantized, sampler, **sizes)


def test_float_network__adds_nothing_on_any_rung(tiny_model, ranges, sampler):
    kept = Scheme(rules=(Rule(("*",), Settings(keep_float=True)),))
    found = attribute(QuantizedModel(tiny_model, kept, ranges), sampler, samples=2, rungs=LADDER)
    errors = [name for name in moment_names() if "e" in name.removeprefix("mean_")]
    for name in ("epsilon_rung", "site_rung", "site_rung_added", "site_local"):
        assert not found[name].sel(moment=errors).any()
