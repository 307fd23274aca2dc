"""Claim: a collected point is, bit for bit, what the network is given at that step of that sample's trajectory.

The oracle is the walk that paired runs take along full precision, which shares no loop with collection.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch_modules import as_model

from samplers.ddim import DDIM
from samplers.ddpm import DDPM
from samplers.errors import BadInput
from samplers.euler import Euler
from samplers.heun import Heun
from samplers.noise import NoiseStream
from samplers.plms import PLMS
from samplers.state import FLOAT64
from simulator.calibration.collection import trajectories
from simulator.calibration.collection.fixed import AllSteps, Noisiest, Uniform
from simulator.calibration.collection.normal import Normal
from simulator.calibration.collection.policy import Picks
from simulator.calibration.collection.random_steps import RandomSteps
from simulator.calibration.collection.trajectories import collect
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Condition
from simulator.reference import full_precision

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLES, BATCH, SEED = 5, 2, 7


def states(model, sampler, conditioning=None, purpose="calibrate"):
    """{(state, member): float32 input of the network}, and the timestep of each loop index."""
    found, timesteps = {}, {}
    for first in range(0, SAMPLES, BATCH):
        members = np.arange(first, min(first + BATCH, SAMPLES))
        call = call_for(model, conditioning, members)
        for point in full_precision(model, (), sampler, FLOAT64, NoiseStream(SEED, purpose), members, call):
            timesteps[point.step] = int(point.timestep[0])
            for row, member in enumerate(members.tolist()):
                found[point.step, member] = point.x[row].float()
                found[point.step + 1, member] = point.x_next[row].float()
    return found, timesteps


def collected(model, sampler, policy, **options):
    return collect(model, sampler, policy, **{"samples": SAMPLES, "seed": SEED, "batch_size": BATCH, **options})


SAMPLERS = {
    "ddim": lambda schedule: DDIM(schedule, 4),
    "ddim-eta": lambda schedule: DDIM(schedule, 4, eta=1.0),
    "ddpm": lambda schedule: DDPM(schedule, 4),
    "plms": lambda schedule: PLMS(schedule, 4),
    "heun": lambda schedule: Heun(schedule, 3, timestep_spacing="trailing"),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_collect__keeps_the_samplers_own_states(tiny_model, name):
    sampler = SAMPLERS[name](tiny_model.schedule)
    want, timesteps = states(tiny_model, sampler)
    for policy in (AllSteps(), RandomSteps(2)):
        found = collected(tiny_model, sampler, policy)
        rows = zip(found.step.tolist(), found.member.tolist(), strict=True)
        for x, timestep, key in zip(found.x, found.timestep.tolist(), rows, strict=True):
            assert torch.equal(x, want[key])
            assert timestep == timesteps[key[0]]
        assert {*found.member.tolist()} == {*range(SAMPLES)}


def test_collect__mislabels_as_the_released_ptq4dm_does(tiny_model):
    sampler = DDIM(tiny_model.schedule, 4)
    want, timesteps = states(tiny_model, sampler)
    found = collected(tiny_model, sampler, Normal(0.9, 0.5, time_order="released"))
    assert 0 in found.step.tolist()  # whose state is the final sample, after the last step
    for x, timestep, step, member in zip(
        found.x, found.timestep.tolist(), found.step.tolist(), found.member.tolist(), strict=True
    ):
        assert torch.equal(x, want[4 - step, member])
        assert timestep == timesteps[step]


def test_collect__orders_points_by_step_and_member_and_counts_them(tiny_model):
    sampler = DDIM(tiny_model.schedule, 4)
    found = collected(tiny_model, sampler, RandomSteps(2))
    keys = list(zip(found.step.tolist(), found.member.tolist(), strict=True))
    assert keys == sorted(keys)
    picks = RandomSteps(2).picks(4, SAMPLES, NoiseStream(SEED, "calibrate steps"))
    assert sorted(zip(picks.step.tolist(), picks.member.tolist(), strict=True)) == keys
    assert found.histogram(6).tolist() == [*np.bincount(picks.step, minlength=4), 0, 0]
    assert len(found) == found.histogram().sum() == 10
    with pytest.raises(BadInput, match="steps"):
        found.histogram(1)


def test_collect__stops_after_the_last_picked_point(tiny_model, monkeypatch):
    calls, ticks = [], []
    real = trajectories.forward
    monkeypatch.setattr(trajectories, "forward", lambda *a, **k: calls.append(len(a[2])) or real(*a, **k))
    sampler = DDIM(tiny_model.schedule, 4)
    options = {"progress": lambda done, total: ticks.append((done, total))}
    noisiest = collected(tiny_model, sampler, Noisiest(), **options)
    assert calls == []
    assert ticks == [(1, 3), (2, 3), (3, 3)]
    initial = NoiseStream(SEED, "calibrate").initial(range(SAMPLES), (1, 8, 8)) * sampler.init_noise_sigma
    assert torch.equal(noisiest.x, initial.float())
    ticks.clear()
    collected(tiny_model, sampler, Uniform(2), **options)  # steps 0 and 2
    assert calls == [2, 2, 2, 2, 1, 1]
    assert ticks[-1] == (9, 9)
    calls.clear()
    collected(tiny_model, sampler, Normal(1, 1e-6, time_order="released"))  # the sample that comes out
    assert calls == [2] * 4 + [2] * 4 + [1] * 4


class Labelled(nn.Module):
    """A network whose output depends on a label."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(5, 4)

    def forward(self, x, timestep, label):
        return self.body(torch.cat([x, label[:, None].float()], dim=1))


def labelled():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return dataclasses.replace(
            as_model(Labelled(), (4,)), classes=10, conditions=(Condition("label", null=-1),)
        )  # fmt: skip


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_collect__conditions_belong_to_samples(weight):
    model = labelled()
    sampler = DDIM(model.schedule, 4)
    conditioning = Conditioning({"label": torch.tensor([3, 9, 1])}, weight=weight)
    want, _ = states(model, sampler, conditioning)
    found = collected(model, sampler, RandomSteps(2), conditioning=conditioning)
    for x, key in zip(found.x, zip(found.step.tolist(), found.member.tolist(), strict=True), strict=True):
        assert torch.equal(x, want[key])
    assert found.source["guidance"] == weight


def test_collect__source_and_digest_tell_sets_apart(tiny_model):
    ddim, eta = DDIM(tiny_model.schedule, 4), DDIM(tiny_model.schedule, 4, eta=1.0)
    sets = [
        collected(tiny_model, ddim, AllSteps()), collected(tiny_model, eta, AllSteps()),
        collected(tiny_model, ddim, RandomSteps(4)), collected(tiny_model, ddim, AllSteps(), seed=8),
        collected(tiny_model, ddim, AllSteps(), purpose="fit"), collected(tiny_model, ddim, AllSteps(), samples=4),
    ]  # fmt: skip
    assert len({json.dumps(s.config(), sort_keys=True) for s in sets}) == 6
    assert len({s.digest for s in sets}) == 5
    assert sets[0].digest == sets[2].digest  # all steps of all samples, by another name


class Picking:
    """A policy that picks what it is told."""

    def __init__(self, state, step, member) -> None:
        self._picks = Picks(*(np.array(index) for index in (state, step, member)))

    def config(self):
        return {"name": "picking"}

    def picks(self, steps, samples, noise):
        return self._picks


def test_collect__takes_a_policy_of_ones_own_that_leaves_samples_out(tiny_model):
    sampler = DDIM(tiny_model.schedule, 4)
    want, _ = states(tiny_model, sampler)
    found = collected(tiny_model, sampler, Picking([3, 3, 0], [3, 3, 0], [4, 4, 1]))
    assert found.member.tolist() == [1, 4, 4]
    assert torch.equal(found.x, torch.stack([want[0, 1], want[3, 4], want[3, 4]]))


WRONG = {
    "no policy": ({"policy": "uniform"}, "policy"),
    "class": ({"policy": Uniform}, "policy"),
    "samples": ({"samples": 0}, "samples"),
    "batch": ({"batch_size": 0}, "batch_size"),
    "seed": ({"seed": -1}, "seed"),
    "evaluated": ({"purpose": "evaluate"}, "evaluate"),
    "state": ({"policy": Picking([5], [3], [0])}, r"states in 0\.\.4"),
    "step": ({"policy": Picking([4], [4], [0])}, r"steps in 0\.\.3"),
    "member": ({"policy": Picking([4], [3], [5])}, r"members in 0\.\.4"),
    "negative": ({"policy": Picking([-1], [3], [0])}, "states"),
    "lengths": ({"policy": Picking([1, 1], [1], [0])}, "one length"),
    "nothing": ({"policy": Picking(np.zeros(0, np.int64), [], [])}, "one point"),
    "floats": ({"policy": Picking([1.0], [1], [0])}, "int64"),
    "steps": ({"policy": Uniform(5)}, "4 steps"),
}


@pytest.mark.parametrize("case", WRONG)
def test_collect__refuses_bad_input(tiny_model, case):
    options, message = WRONG[case]
    options = {"policy": Noisiest(), **options}
    with pytest.raises(BadInput, match=message):
        collected(tiny_model, DDIM(tiny_model.schedule, 4), **options)


def test_collect__needs_integer_timesteps_a_schedule_and_finite_states(tiny_model):
    with pytest.raises(BadInput, match=r"integer timesteps.*euler"):
        collected(tiny_model, Euler(tiny_model.schedule, 5, timestep_spacing="linspace"), AllSteps())
    with pytest.raises(BadInput, match="noise schedule"):
        collected(dataclasses.replace(tiny_model, schedule=None), DDIM(tiny_model.schedule, 4), AllSteps())
    broken = as_model(Labelled(), (4,))
    broken = dataclasses.replace(broken, call=lambda module, x, timestep: x / 0)
    with pytest.raises(BadInput, match="finite"):
        collected(broken, DDIM(broken.schedule, 4), AllSteps())
