"""Claim: what cannot be reconstructed is refused before the work, with what it needs."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from samplers import BadInput
from samplers.schedule import NoiseSchedule
from simulator.arithmetic.rounding import Rounding
from simulator.calibration.batches import calibrate_on
from simulator.calibration.reconstruction.run import reconstruct
from simulator.calibration.reconstruction.samples import Samples
from simulator.calibration.reconstruction.settings import (
    LearnRoundings,
    LearnScales,
    Reconstruction,
    adaround,
    brecq,
    qdrop,
)
from simulator.calibration.reconstruction.units import Blocks
from simulator.calibration.steps import StepSets
from simulator.instrument.scheme.scheme import Rule, Scheme
from simulator.instrument.scheme.settings import Settings
from simulator.models.registry import Model

SHORT = Reconstruction("short", "layer", "float", roundings=LearnRoundings(2, 4), scales=None)


@pytest.fixture(scope="module")
def tiny(tiny_model, one_thread):
    g = torch.Generator().manual_seed(1)
    batches = [(torch.randn(6, 1, 8, 8, generator=g), torch.arange(6) * 100)]
    return tiny_model, Scheme.parse("w4a8"), calibrate_on(tiny_model, batches), batches


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LearnRoundings(iterations=0), "iterations"),
        (lambda: LearnRoundings(learning_rate=float("nan")), "learning_rate"),
        (lambda: LearnRoundings(warm_up=1.0), "warm_up"),
        (lambda: LearnRoundings(b=(20.0,)), "two exponents"),
        (lambda: LearnRoundings(b=(20.0, 0.5)), "at least 1"),
        (lambda: LearnRoundings(p=0.5), "p must be at least 1"),
        (lambda: LearnRoundings(error_unit="db"), "error_unit"),
        (lambda: LearnScales(batch_size=2.5), "batch_size"),
        (lambda: Reconstruction(unit="network"), "unit"),
        (lambda: Reconstruction(inputs="mixed"), "inputs"),
        (lambda: Reconstruction(dropped=1.5), "probability"),
        (lambda: Reconstruction(name=""), "name"),
        (lambda: Reconstruction(variant="mine"), "variant"),
        (lambda: Reconstruction(roundings=None), "roundings"),
        (lambda: adaround("slow"), "preset"),
    ],
)
def test_settings__break_no_rule(make, says) -> None:
    with pytest.raises(BadInput, match=says):
        make()


def test_presets__are_the_published_methods_and_quick_ones_differ_in_their_length() -> None:
    assert (adaround().unit, brecq().unit, qdrop().unit) == ("layer", "block", "block")
    assert (adaround().inputs, brecq().inputs, qdrop().inputs) == ("quantized", "quantized", "drop")
    assert adaround().scales is None
    assert brecq().scales == LearnScales(5000, p=2.4)
    assert brecq().roundings == LearnRoundings(20_000, 32, 1e-3, 2.0, 0.01, 0.2, (20.0, 2.0))
    assert qdrop().dropped == 0.5
    for method in (adaround, brecq, qdrop):
        lengths = [method(preset).roundings.iterations for preset in ("quick", "full", "published")]
        assert lengths == sorted(set(lengths))
        assert method("quick").unit == method().unit


@pytest.mark.parametrize(
    ("scheme", "says"),
    [
        (Scheme(rules=(Rule(("*",), Settings(weight_bits=4), steps=(0, 3)),)), "for all steps"),
        (Scheme(Settings(block="mxint8")), "integers"),
        (Scheme(Settings(rounding=Rounding.HALF_AWAY)), "half to even"),
    ],
)
def test_reconstruct__refuses_schemes_that_the_surrogate_cannot_follow(tiny, scheme, says) -> None:
    with pytest.raises(BadInput, match=says):
        reconstruct(tiny[0], scheme, tiny[2], tiny[3], SHORT)


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "needs samples"),
        ([(torch.zeros(2, 1, 8, 8), torch.zeros(2))], "int64"),
        ([(torch.zeros(2, 8, 8), torch.zeros(2, dtype=torch.long))], "shape"),
        ([(torch.full((2, 1, 8, 8), torch.nan), torch.zeros(2, dtype=torch.long))], "finite"),
        ([(torch.zeros(2, 1, 8, 8), *[torch.zeros(2, dtype=torch.long)] * 3)], "perhaps step"),
        ([(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long), -torch.ones(2, dtype=torch.long))], "0 or more"),
        (
            [(torch.zeros(2, 1, 8, 8), *[torch.zeros(2, dtype=torch.long)] * n) for n in (1, 2)],
            "for all or for none",
        ),
    ],
)
def test_reconstruct__refuses_samples_of_other_forms(tiny, batches, says) -> None:
    with pytest.raises(BadInput, match=says):
        reconstruct(*tiny[:3], batches, SHORT)


def test_samples__of_a_collected_set_keep_steps_and_members(tiny_model) -> None:
    @dataclasses.dataclass
    class Set:
        x: torch.Tensor
        timestep: torch.Tensor
        step: torch.Tensor
        member: torch.Tensor

    given = Set(torch.ones(3, 1, 8, 8), torch.tensor([9, 5, 1]), torch.tensor([0, 1, 2]), torch.tensor([4, 4, 7]))
    found = Samples.of(tiny_model, given)
    assert found.step.tolist() == [0, 1, 2]
    assert found.member.tolist() == [4, 4, 7]
    assert [part.member.tolist() for part in found.passes(2)] == [[4, 4], [7]]
    plain = Samples.of(tiny_model, [(given.x, given.timestep)])
    assert plain.step is None
    assert found.digest() != plain.digest()


def test_reconstruct__needs_steps_for_ranges_of_several_sets(tiny) -> None:
    model, scheme, ranges, batches = tiny
    bounds = {(site, role, name): b for (site, role, _), b in ranges.bounds.items() for name in "01"}
    stepwise = dataclasses.replace(ranges, bounds=bounds, steps=StepSets.each(2))
    with pytest.raises(BadInput, match="each sample's step"):
        reconstruct(model, scheme, stepwise, batches, SHORT)


def test_reconstruct__needs_ranges_of_every_activation(tiny) -> None:
    model, scheme, ranges, batches = tiny
    fewer = dataclasses.replace(ranges, bounds=dict(list(ranges.bounds.items())[1:]))
    with pytest.raises(BadInput, match="calibrated range"):
        reconstruct(model, scheme, fewer, batches, SHORT)


def test_reconstruct__refuses_a_folder_of_another_reconstruction(tiny, tmp_path) -> None:
    assert reconstruct(*tiny, SHORT, folder=tmp_path, stop_after=1) is None
    with pytest.raises(BadInput, match="that wrote it"):
        reconstruct(*tiny, SHORT, folder=tmp_path, seed=1)
    file = next(tmp_path.glob("roundings-*.safetensors"))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(BadInput, match="whole safetensors"):
        reconstruct(*tiny, SHORT, folder=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="folder"):
        reconstruct(*tiny, SHORT, folder=tmp_path / "file" / "inside")


def test_reconstruct__refuses_blocks_that_the_network_does_not_have(tiny) -> None:
    with pytest.raises(BadInput, match="module of the network"):
        reconstruct(*tiny, dataclasses.replace(SHORT, unit="block"), blocks=Blocks(("nowhere",)))


class _Computed(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.tied, self.layer = tied, nn.Linear(6, 6)

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        if self.tied:
            return nn.functional.linear(self.layer(x), self.layer.weight[:4], None).repeat(1, 2)[:, :6]
        return nn.functional.linear(x, self.layer.weight * 2)


@pytest.mark.parametrize(("tied", "says"), [(False, "stores"), (True, "one weight")])
def test_reconstruct__refuses_weights_that_are_computed_or_overlap(tied, says) -> None:
    model = Model("odd", 1, _Computed(tied).eval().requires_grad_(False), NoiseSchedule(), (6,), "epsilon", "")
    batches = [(torch.ones(4, 6), torch.zeros(4, dtype=torch.long))]
    with pytest.raises(BadInput, match=says):
        reconstruct(model, Scheme(Settings(weight_bits=4)), calibrate_on(model, batches), batches, SHORT)


def test_reconstruct__refuses_one_weight_at_two_widths() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
            self.two.weight = self.one.weight

        def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(x))

    model = Model("tied", 1, Tied().eval().requires_grad_(False), NoiseSchedule(), (6,), "epsilon", "")
    batches = [(torch.ones(4, 6), torch.zeros(4, dtype=torch.long))]
    scheme = Scheme(Settings(weight_bits=4), (Rule(("two*",), Settings(weight_bits=8)),))
    with pytest.raises(BadInput, match="in one way"):
        reconstruct(model, scheme, calibrate_on(model, batches), batches, SHORT)
