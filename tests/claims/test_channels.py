"""Claim: salient channels are counted per row, chance is taken off, and every channel's error is its own codes'."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplers.ddim import DDIM
from simulator import QuantizedModel, Scheme, calibrate_ranges
from simulator.calibration.balancing.salience import Salience, collect_salience
from studies.claims.channels import channel_errors, coincident, excess_db, halves, moved, salient


def test_salient__is_a_tenth_of_each_row_and_one_at_least() -> None:
    rows = np.array([np.arange(20.0), -np.arange(20.0)])
    found = salient(rows)
    assert [list(np.flatnonzero(row)) for row in found] == [[18, 19], [0, 1]]
    assert salient(np.array([1.0, 3.0, 2.0])).tolist() == [False, True, False]
    assert salient(np.ones(30)).sum() == 3  # of ties no more than there are places


def test_coincident__is_a_share_of_the_salient_and_about_a_tenth_by_chance() -> None:
    ramp = np.arange(40.0)
    assert coincident(ramp, ramp) == 1
    assert coincident(ramp, -ramp) == 0
    half = ramp.copy()
    half[[38, 39]] = -1  # two of the four are salient in one only
    assert coincident(ramp, half) == 0.5
    draws = np.random.default_rng(0).random((4000, 40))
    assert coincident(draws, ramp).mean() == pytest.approx(0.1, abs=0.01)


def test_moved__is_nothing_where_halves_differ_as_much_as_steps() -> None:
    generator = np.random.default_rng(1)
    chance = [moved(*generator.random((2, 2, 100))) for _ in range(400)]
    assert abs(np.mean(chance)) < 0.01  # without the halves it would be 0.9


def test_moved__is_all_where_other_channels_are_salient_later() -> None:
    ramp = np.arange(40.0)
    assert moved(np.stack([ramp, ramp]), np.stack([-ramp, -ramp])) == 1
    assert moved(np.stack([ramp, ramp]), np.stack([ramp, ramp])) == 0


def test_halves__are_of_samples_within_a_step() -> None:
    # 3 steps, 4 samples, 2 channels: the value names step and sample
    values = np.array([[10.0 * step + sample] * 2 for step in range(3) for sample in range(4)])
    found = halves(Salience({"layer": values}, {}), ("layer",), 3)
    np.testing.assert_array_equal(found[..., 0], [[1, 3], [11, 13], [21, 23]])


def test_halves__give_the_paper_variants_maxima_together(tiny_model, one_thread) -> None:
    sampler = DDIM(tiny_model.schedule, 3)
    rows = collect_salience(tiny_model, sampler, variant="released", samples=6, batch_size=6)
    steps = collect_salience(tiny_model, sampler, variant="paper", samples=6, batch_size=6)
    for layer in rows.maxima:
        np.testing.assert_array_equal(halves(rows, (layer,), 3).max(1), steps.maxima[layer])


def test_excess__is_the_salient_channels_power_over_the_others() -> None:
    magnitudes, errors = np.arange(20.0), np.ones(20)
    errors[-2:] = 10
    assert excess_db(magnitudes, errors) == pytest.approx(10)
    assert excess_db(-magnitudes, errors) == pytest.approx(-10 * np.log10(2))


def test_errors__are_those_of_each_input_channel(tiny_model, one_thread) -> None:
    sampler = DDIM(tiny_model.schedule, 3)
    layer = next(name for name, module in tiny_model.module.named_modules() if isinstance(module, torch.nn.Linear))
    ranges = calibrate_ranges(tiny_model, sampler, samples=8)
    network = QuantizedModel(tiny_model, Scheme.parse("w4a8"), ranges)
    found = channel_errors(
        network, sampler, [layer], samples=6, seed=0, batch_size=4, progress=lambda *_: None
    )[layer]  # fmt: skip
    weight = tiny_model.module.get_submodule(layer).weight.detach().double().numpy()
    scale = np.float32(np.abs(weight).max(1, keepdims=True) / 7)
    codes = np.rint(weight / scale)
    np.testing.assert_allclose(found.weight, np.abs(weight).max(0))
    np.testing.assert_allclose(found.weight_errors, ((codes * scale - weight) ** 2).mean(0), rtol=1e-4)
    assert found.activations.shape == found.activation_errors.shape == (weight.shape[1],)
    (low, high) = next(b for (site, role, _), b in ranges.bounds.items() if site.module == layer and role == "input")
    step = (max(float(high), 0) - min(float(low), 0)) / 255
    assert (found.activation_errors < step**2).all()
    assert found.activation_errors.mean() == pytest.approx(step**2 / 12, rel=0.2)
