"""Claim: quantized networks that derive from a model are held against that model, whatever was done to them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from samplers import DDIM, BadInput, NoiseSchedule
from simulator import Arm, QuantizedModel, Scheme, calibrate_ranges, run_arms
from simulator.models.derived import derive

SAMPLER = DDIM(NoiseSchedule(), 3, 1.0)


def arm(model) -> Arm:
    return Arm(QuantizedModel(model, Scheme.parse("w4a8"), calibrate_ranges(model, SAMPLER, samples=8)))


def test_reference__of_an_unchanged_copy_gives_the_run_without_one(tiny_model, one_thread) -> None:
    copy = derive(tiny_model, lambda module: None, "copy")
    (alone,) = run_arms([arm(tiny_model)], SAMPLER, samples=8, sites=False)
    (found,) = run_arms([arm(copy)], SAMPLER, samples=8, sites=False, reference=tiny_model)
    for name in ("epsilon_injected", "state_accumulated"):
        np.testing.assert_array_equal(alone[name], found[name])
    assert copy.module is not tiny_model.module
    assert copy.weights_digest == tiny_model.weights_digest or copy.name.endswith("+copy")
    assert found.attrs["key"] != alone.attrs["key"]


def test_reference__is_what_noise_is_measured_against(tiny_model, one_thread) -> None:
    """A network whose last layer is scaled errs by that scale before anything is quantized."""

    def double(module: torch.nn.Module) -> None:
        with torch.no_grad():
            module.last.weight.mul_(2.0)
            module.last.bias.mul_(2.0)

    doubled = derive(tiny_model, double, "doubled")
    assert doubled.weights_digest != tiny_model.weights_digest
    plain, twice = run_arms([arm(tiny_model), arm(doubled)], SAMPLER, samples=8, sites=False, reference=tiny_model)
    y2 = float((plain.epsilon_injected.sel(moment="yy") + plain.epsilon_injected.sel(moment="mean_y") ** 2)[0].mean())
    e2 = float((twice.epsilon_injected.sel(moment="ee") + twice.epsilon_injected.sel(moment="mean_e") ** 2)[0].mean())
    assert e2 / y2 == pytest.approx(1.0, abs=0.2)  # epsilon itself
    assert float(plain.epsilon_injected.sel(moment="ee")[0].mean()) / y2 < 0.1


def test_reference__refuses_sites_and_models_of_other_samples(tiny_model) -> None:
    found = arm(tiny_model)
    with pytest.raises(BadInput, match="sites of another network"):
        run_arms([found], SAMPLER, samples=8, reference=tiny_model)
    other = dataclasses.replace(tiny_model, prediction_type="sample")
    with pytest.raises(BadInput, match="the reference's prediction_type"):
        run_arms([found], SAMPLER, samples=8, sites=False, reference=other)
    with pytest.raises(BadInput, match="needs an arm"):
        run_arms([], SAMPLER, samples=8, sites=False, reference=tiny_model)
    with pytest.raises(BadInput, match="name the reference"):
        run_arms([found, arm(derive(tiny_model, lambda module: None, "copy"))], SAMPLER, samples=8)
