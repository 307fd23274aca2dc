"""Claim: a unit's error is its rounded operands', summed over a sample; what is dropped stays in full precision."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from simulator.calibration.batches import calibrate_on
from simulator.calibration.observers import MinMax
from simulator.calibration.reconstruction.preparation import prepared_network
from simulator.calibration.reconstruction.problem import Problem
from simulator.calibration.reconstruction.recording import Passes, record
from simulator.calibration.reconstruction.samples import Samples
from simulator.calibration.reconstruction.scales import OneScalePerStepSet
from simulator.calibration.reconstruction.units import Blocks, partition
from simulator.instrument.forward import forward
from simulator.instrument.plan import Plan
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.survey import survey

UNIT = "down"


@pytest.fixture(scope="module", params=["layer", "block"])
def recorded(request, tiny_model, one_thread):
    """The strided convolution of the tiny network at 3-bit activations, fed in full precision and rounded."""
    g = torch.Generator().manual_seed(2)
    batches = [(torch.randn(10, 1, 8, 8, generator=g), torch.arange(10) * 50)]
    ranges, samples = calibrate_on(tiny_model, batches), Samples.of(tiny_model, batches)
    units = partition(tiny_model, Blocks((UNIT,) if request.param == "block" else ()))
    plan = Plan(Scheme.parse("w8a3"), survey(tiny_model))
    network = prepared_network(tiny_model, plan, units, ranges, MinMax(), OneScalePerStepSet(), samples)
    unit = next(unit for unit in units if unit.name.startswith(UNIT))
    passes = Passes(tiny_model, samples, 4, None, ())
    target = record(passes, unit, None, output=True)
    inputs = record(passes, unit, network, activations=True)
    return tiny_model, batches[0], unit, network, target, inputs


def _problem(recorded, **changes):
    model, _, unit, network, target, inputs = recorded
    defaults = {"activations": True, "dropped": 0.0, "p": 2.0, "variant": "paper"}
    return Problem(model, unit, network, target, inputs, **(defaults | changes))


def test_recorded__inputs_and_outputs_are_those_of_a_whole_pass(recorded) -> None:
    model, batch, unit, _, target, inputs = recorded
    seen = {}

    def note(site, contraction):
        output = contraction.float()
        if site == unit.sites[0]:
            seen["input"], seen["output"] = contraction.input, output
        return output

    forward(model.module, note, *batch)
    torch.testing.assert_close(target.leaves[0], seen["input"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(target.output, seen["output"], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(inputs.leaves[0], target.leaves[0], atol=1e-2)


def test_error__is_the_mean_over_samples_of_the_power_of_the_difference(recorded) -> None:
    model, _, unit, network, target, inputs = recorded
    convolution = model.module.down
    scale, zero = network.scales[unit.sites[0], "input"](None)
    codes = torch.clamp(torch.round(inputs.leaves[0] / scale) + zero, 0, 7) - zero
    difference = (convolution(codes * scale) - target.output).double()
    for p in (2.0, 2.4):
        power = difference.abs() ** p
        assert _problem(recorded, p=p).total({}) == pytest.approx(power.flatten(1).sum(1).mean().item(), rel=1e-4)
        released = _problem(recorded, p=p, variant="released").total({})
        assert released == pytest.approx(power.sum(1).mean().item(), rel=1e-4)
    index = torch.tensor([3, 7])
    some = _problem(recorded).error(index, {}, None)
    assert some.item() == pytest.approx((difference[index] ** 2).flatten(1).sum(1).mean().item(), rel=1e-4)


@pytest.mark.parametrize("rounded", ["inputs", "operands"])
def test_dropping__all_leaves_nothing_of_either_rounding(recorded, rounded) -> None:
    """Inputs that are recorded rounded, and operands that are rounded in the unit, each by itself."""
    model, batch, unit, network, target, _ = recorded
    if rounded == "operands":
        recorded = (model, batch, unit, network, target, dataclasses.replace(target, output=None))
    index, activations = torch.arange(10), rounded == "operands"
    none, half, all_ = (
        _problem(recorded, dropped=dropped, activations=activations)
        .error(index, {}, torch.Generator().manual_seed(0)).item() for dropped in (0.0, 0.5, 1.0)
    )  # fmt: skip
    assert all_ < 1e-8 * none
    assert 0.2 * none < half < 0.8 * none
    assert _problem(recorded, dropped=0.5, activations=activations).total({}) == pytest.approx(none, rel=1e-4)


def test_draw__takes_rows_without_replacement(recorded) -> None:
    problem, g = _problem(recorded), torch.Generator().manual_seed(0)
    drawn = [problem.draw(6, g).tolist() for _ in range(20)]
    assert all(len(set(rows)) == 6 for rows in drawn)
    assert {row for rows in drawn for row in rows} == set(range(10))
    assert problem.draw(99, g).tolist() == list(range(10))
