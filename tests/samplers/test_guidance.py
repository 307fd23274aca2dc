"""Guidance is the formula on two predictions; at weights 0 and 1 it is one of them, to the bit and in one call."""

from __future__ import annotations

import math

import pytest
import torch

from samplers.ddim import DDIM
from samplers.errors import BadInput
from samplers.guidance import combine, guided
from samplers.loop import sample
from samplers.noise import NoiseStream
from samplers.schedule import NoiseSchedule

NULL = torch.tensor(-1)


class Recorder:
    """A denoiser that is a function of its three arguments, and keeps the arguments of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        self.calls.append((x, timestep, condition))
        return torch.sin(x * (2.0 + condition)[:, None]) + timestep[:, None] / 7


def _inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(3, 5, generator=generator, dtype=dtype), torch.full((3,), 40), torch.tensor([4, 0, 7])


@pytest.mark.parametrize("weight", [-1.0, 0.5, 2.0, 7.5])
def test_guided__is_the_formula_in_float64(weight):
    x, timestep, labels = _inputs()
    network = Recorder()
    found = guided(network, labels, NULL, weight)(x, timestep)
    without, given = Recorder()(x, timestep, torch.full_like(labels, -1)), Recorder()(x, timestep, labels)
    assert torch.equal(found, without + weight * (given - without))
    assert found.dtype == torch.float64


def test_combine__rounds_every_operation_in_the_dtype_of_the_predictions():
    x = torch.linspace(-1, 1, 101)
    without, given = torch.sin(7 * x), torch.cos(5 * x)
    expected = (without.double() + (torch.tensor(3.7).double() * (given - without).double()).float().double()).float()
    assert torch.equal(combine(without, given, 3.7), expected)


@pytest.mark.parametrize(("weight", "asked"), [(1.0, [4, 0, 7]), (1, [4, 0, 7]), (0.0, [-1, -1, -1])])
def test_guided__at_weight_one_or_zero_is_one_call_of_one_kind(weight, asked):
    x, timestep, labels = _inputs(torch.float32)
    network = Recorder()
    found = guided(network, labels, NULL, weight)(x, timestep)
    ((seen, _, condition),) = network.calls
    assert seen is x
    assert condition.tolist() == asked
    assert torch.equal(found, Recorder()(x, timestep, torch.tensor(asked)))


def test_guided__makes_one_call_with_the_unconditional_half_first():
    x, timestep, labels = _inputs()
    network = Recorder()
    guided(network, labels, NULL, 3.0)(x, timestep)
    ((seen, when, condition),) = network.calls
    assert torch.equal(seen, torch.cat([x, x]))
    assert when.tolist() == [40] * 6
    assert condition.tolist() == [-1, -1, -1, 4, 0, 7]


def test_guided__takes_embeddings_and_a_null_for_each_sample():
    x, timestep, _ = _inputs()
    embeddings, null = torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(3, 2, 5, dtype=torch.float64)

    def network(x: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return x * condition.sum(1)

    one = guided(network, embeddings, null[0], 2.0)(x, timestep)
    each = guided(network, embeddings, null, 2.0)(x, timestep)
    torch.testing.assert_close(each, x * (2 * embeddings - null).sum(1))
    torch.testing.assert_close(one, x * (2 * embeddings - null[0]).sum(1))


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_guided__samples_do_not_depend_on_how_batches_are_cut(weight):
    sampler, noise = DDIM(NoiseSchedule(), 5), NoiseStream(1, "test")

    def draw(members: range) -> torch.Tensor:
        labels = torch.tensor([member % 4 for member in members])
        return sample(guided(Recorder(), labels, NULL, weight), sampler, noise, members, (5,))

    whole = draw(range(7))
    assert torch.equal(whole, torch.cat([draw(range(2)), draw(range(2, 7))]))
    assert not torch.allclose(whole, draw(range(1, 8)))


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_guided__refuses_a_weight_that_is_not_finite(weight):
    with pytest.raises(BadInput, match="must be finite"):
        guided(Recorder(), torch.tensor([1]), NULL, weight)


@pytest.mark.parametrize("null", [torch.tensor(-1.0), torch.tensor([-1]), torch.tensor([[-1, -1, -1]])])
def test_guided__refuses_a_null_of_another_kind(null):
    with pytest.raises(BadInput, match="null must have"):
        guided(Recorder(), torch.tensor([1, 2, 3]), null, 2.0)


def test_guided__refuses_a_batch_of_other_samples():
    x, timestep, labels = _inputs()
    for weight in (1.0, 2.0):
        with pytest.raises(BadInput, match="one denoiser for each batch"):
            guided(Recorder(), labels, NULL, weight)(x[:2], timestep[:2])
