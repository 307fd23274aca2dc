"""Claim: a run with labels and guidance records what direct evaluation gives, both rows of a sample as that one's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import simulator
from noise_models import fit_ptqd
from samplers.ddim import DDIM
from samplers.errors import BadInput
from samplers.loop import sample
from samplers.noise import NoiseStream
from simulator.calibration.collector import Collector
from simulator.instrument.forward import forward
from simulator.models.conditioning import Conditioning
from simulator.moments import row_moments
from simulator.record import sample_rows

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 3
LABELS = {"label": torch.tensor([7, 1, 4, 9, 0])}


@pytest.fixture(scope="module")
def model(one_thread):
    return simulator.load("digits-dit@1")


@pytest.fixture(scope="module")
def sampler(model):
    return DDIM(model.schedule, STEPS)


@pytest.fixture(scope="module")
def guided():
    return Conditioning(LABELS, weight=3.0)


@pytest.fixture(scope="module")
def quantized(model, sampler, guided):
    ranges = simulator.calibrate_ranges(model, sampler, samples=4, conditioning=guided)
    return simulator.QuantizedModel(model, simulator.Scheme.parse("w4a8"), ranges, conditioning=guided)


@pytest.fixture(scope="module")
def dataset(quantized, sampler):
    return simulator.run(simulator.Arm(quantized), sampler, samples=5, seed=3, batch_size=4)


def stored(y: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    rows = row_moments(y.reshape(len(y), -1).double().numpy(), other.reshape(len(y), -1).double().numpy())
    return np.concatenate([rows[:, 1:3], rows[:, 3:] / rows[:, :1]], axis=1)


def by_hand(network, labels: torch.Tensor, weight: float):
    """Guidance written out: one pass of 2n rows of ``network(x, timestep, labels)``."""

    def denoise(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        none = torch.full_like(labels, -1)
        both = network(torch.cat([x, x]), torch.cat([timestep, timestep]), torch.cat([none, labels]))
        without, given = both[: len(x)], both[len(x) :]
        return without + weight * (given - without)

    return denoise


def walk(denoiser_of, model, sampler) -> list[tuple[torch.Tensor, ...]]:
    """(x_t, output, x_{t-1}) of every step; ``denoiser_of(members)`` gives each batch its own."""
    parts = []
    for members in (range(4), range(4, 5)):
        steps: list = []
        sample(
            denoiser_of(members), sampler, NoiseStream(3, "evaluate"), members, model.sample_shape,
            callback=lambda step, t, x, out, after, steps=steps: steps.append((x, out, after)),
        )  # fmt: skip
        parts.append(steps)
    return [tuple(torch.cat(t) for t in zip(*same, strict=True)) for same in zip(*parts, strict=True)]


def float_network(model):
    def keep(site, contraction):
        return contraction.float()

    def network(x, timestep, labels):
        return forward(model.module, keep, x, timestep, call=lambda m, x, t: m(x, t, labels))

    return network


def integer_network(quantized):
    def network(x, timestep, labels):
        return quantized(x, timestep, call=lambda m, x, t: m(x, t, labels))

    return network


def test_run__with_guidance_equals_direct_evaluation(dataset, model, sampler, quantized):
    label = LABELS["label"]
    full = walk(lambda members: by_hand(float_network(model), label[list(members)], 3.0), model, sampler)
    own = walk(lambda members: by_hand(integer_network(quantized), label[list(members)], 3.0), model, sampler)
    for step, ((x, output, after), (_, own_output, own_after)) in enumerate(zip(full, own, strict=True)):
        for members in (slice(0, 4), slice(4, 5)):
            timestep = torch.full((len(x[members]),), sampler.updates[step].timestep)
            direct = by_hand(integer_network(quantized), label[members], 3.0)(x[members].float(), timestep)
            want = stored(output[members], direct)
            assert np.array_equal(dataset.epsilon_sample_injected[step, 0, members], want)
        assert np.array_equal(dataset.epsilon_sample_accumulated[step, 0], stored(output, own_output))
        assert np.array_equal(dataset.state_sample_accumulated[step, 0], stored(after, own_after))
    assert np.array_equal(dataset.sample_reference, full[-1][2].float())
    assert np.array_equal(dataset.sample_quantized, own[-1][2].float())


def test_sites__hold_both_rows_of_each_sample(dataset, model, sampler, quantized, guided):
    x = NoiseStream(3, "evaluate").initial(range(4), model.sample_shape).float()
    timestep = torch.full((4,), sampler.updates[0].timestep)
    call = guided.of(model, range(4))
    plain, integer = {}, {}

    def keep(site, contraction):
        plain[site] = contraction.float()
        return plain[site]

    forward(model.module, keep, x, timestep, call=call)
    quantized(x, timestep, lambda site, found: integer.__setitem__(site, found.output), call=call)
    for index, facts in enumerate(quantized.sites):
        assert facts.batched
        assert facts.sample_axis == 0
        # rows i and 4 + i are sample i's; attention folds nothing into its first axis here
        y, other = (torch.stack([t[facts.key][:4], t[facts.key][4:]], 1) for t in (plain, integer))
        want, got = stored(y, other), dataset.site_injected[0, index, :4].values
        assert np.allclose(got, want, rtol=1e-9, atol=1e-11 * np.abs(want).max()), str(facts.key)
        assert dataset.site_count.values[index].tolist() == [y[0].numel()] * 5


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("axis", [0, 1])
def test_sample_rows__give_each_sample_its_part_of_every_pass(axis, heads):
    # pass p, sample s, head h holds 100 p + 10 s + h throughout
    parts = [100.0 * p + 10 * s + h for p in range(2) for s in range(4) for h in range(heads)]
    output = torch.tensor(parts)[:, None, None].expand(-1, 5, 2).movedim(0, axis)
    rows = sample_rows(output, 4, axis, passes=2)
    assert rows.shape == (4, 2 * heads * 5 * 2)
    for s, row in enumerate(rows):
        assert set(row) == {100.0 * p + 10 * s + h for p in range(2) for h in range(heads)}


def test_sample_rows__of_images_under_guidance_are_whole():
    images = torch.arange(2.0 * 3 * 4 * 5 * 5).reshape(6, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    rows = sample_rows(images, 3, 0, passes=2, image=True)
    for s, row in enumerate(rows):
        assert sorted(row) == sorted(images[[s, 3 + s]].flatten().tolist())


def test_sample_rows__of_a_site_that_runs_once_are_alike_in_every_pass():
    rows = sample_rows(torch.arange(6.0).reshape(2, 3), 4, None, passes=2)
    assert rows.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]] * 4


def test_run__does_not_depend_on_how_batches_are_cut(quantized, sampler):
    whole, parts = (
        simulator.run(simulator.Arm(quantized), sampler, samples=5, batch_size=b, sites=False) for b in (5, 2)
    )
    # float bits depend on the batch size; a sample with another label moves by about 1
    assert np.allclose(whole.sample_reference, parts.sample_reference, rtol=0, atol=1e-3)
    other = simulator.run(
        simulator.Arm(quantized), sampler, samples=5, batch_size=5, sites=False,
        conditioning=Conditioning({"label": LABELS["label"].roll(1)}, weight=3.0),
    )  # fmt: skip
    assert not np.allclose(whole.sample_reference, other.sample_reference, rtol=0, atol=0.1)
    assert other.attrs["key"] != whole.attrs["key"]


def test_calibration__observes_both_passes_of_the_conditioned_trajectory(model, sampler, guided, quantized):
    observer = Collector()

    def observed(x, timestep, labels):
        return forward(model.module, observer, x, timestep, call=lambda m, x, t: m(x, t, labels))

    sample(
        by_hand(observed, LABELS["label"][:4], 3.0), sampler, NoiseStream(0, "calibrate"), range(4), model.sample_shape
    )
    assert dict(quantized.ranges.bounds) == dict(observer.ranges({}).bounds)
    assert quantized.ranges.source["guidance"] == 3.0


def test_config__names_conditions_only_where_there_are_some(dataset, model, sampler, guided, quantized):
    config = json.loads(dataset.attrs["config"])
    for name, value in guided.config().items():
        assert config[name] == config["ranges"][name] == value
    assert dataset.guidance.item() == 3.0
    ranges = simulator.calibrate_ranges(model, sampler, samples=2)
    plain = simulator.run(
        simulator.Arm(simulator.QuantizedModel(model, quantized.scheme, ranges)), sampler, samples=2, sites=False
    )
    known = json.loads(plain.attrs["config"])
    assert set(known) == set(config) - {"guidance", "conditions"}
    assert set(known["ranges"]) == set(config["ranges"]) - {"guidance", "conditions"}
    assert "guidance" not in plain.coords


def test_run__takes_other_conditions_than_its_networks_own(quantized, sampler, dataset):
    given = simulator.run(
        simulator.Arm(quantized), sampler, samples=5, seed=3, batch_size=4, conditioning=Conditioning(LABELS, weight=3)
    )
    assert given.attrs["key"] == dataset.attrs["key"]
    for name in dataset.data_vars:
        assert given[name].values.tobytes() == dataset[name].values.tobytes()


def test_run__refuses_arms_of_different_conditions_and_guidance_that_no_network_was_made_for(
    model, sampler, quantized, guided
):
    plain = simulator.QuantizedModel(model, quantized.scheme, quantized.ranges)
    other = simulator.QuantizedModel(
        model, quantized.scheme, quantized.ranges, conditioning=Conditioning(LABELS, weight=2.0)
    )
    with pytest.raises(BadInput, match="same conditions"):
        simulator.run_arms([simulator.Arm(quantized), simulator.Arm(other)], sampler, samples=2)
    with pytest.raises(BadInput, match="quantized under guidance"):
        simulator.run(simulator.Arm(plain), sampler, samples=2, conditioning=guided)
    with pytest.raises(BadInput, match="quantized under guidance"):
        simulator.run(simulator.Arm(quantized), sampler, samples=2, conditioning=Conditioning(LABELS))
    labelled = simulator.run(simulator.Arm(plain), sampler, samples=2, sites=False, conditioning=Conditioning(LABELS))
    assert labelled.guidance.item() == 1.0


def test_correction__fitted_under_one_guidance_is_refused_under_another(model, sampler, quantized):
    fit = simulator.run(
        simulator.Arm(quantized), sampler, samples=16, purpose="calibrate", kinds=("injected",), sites=False
    )
    correction = fit_ptqd(fit)
    assert simulator.run(simulator.Arm(quantized, correction), sampler, samples=2, sites=False).correction == "ptqd"
    weaker = Conditioning(LABELS, weight=2.0)
    with pytest.raises(BadInput, match="guidance"):
        simulator.run(simulator.Arm(quantized, correction), sampler, samples=2, sites=False, conditioning=weaker)
