"""Claim: groups of attention channels cut heads evenly, reach the output projection, and one group is per tensor."""

from __future__ import annotations

import numpy as np
import pytest

import simulator
from samplers.ddim import DDIM
from simulator.calibration.channels import PerHeadChannel
from simulator.calibration.head_grouping import head_groups, head_shapes
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.scheme import Scheme
from simulator.instrument.survey import survey
from studies.claims.head_groups import HeadGroupRanges, head_group_rule
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.scheme import UseScheme
from studies.recipes.task import Bits, Task


@pytest.fixture(scope="module")
def unet():
    return simulator.load("digits-unet")


def recipe(*stages) -> Recipe:
    return Recipe("r", "R.", Source("", "", ""), stages)


def test_groups__are_whole_parts_of_heads_and_reach_the_output_projection(unet, one_thread) -> None:
    sampler = DDIM(unet.schedule, 2)
    fine = calibrate_ranges(unet, sampler, samples=4, granularity=PerHeadChannel())
    found = head_groups(fine, head_shapes(survey(unet)), 8)
    roles = {(site.module.rpartition(".")[2], role): group for (site, role, _), group in found.items()}
    assert {role for _, role in roles} == {"query", "key", "value", "input"}
    assert roles["attention", "query"].shape == (4, 16)  # 4 heads of 16 channels, each in two groups
    np.testing.assert_array_equal(roles["attention", "value"], np.arange(64).reshape(4, 16) // 8)
    np.testing.assert_array_equal(roles["output", "input"], np.arange(64) // 8)


def test_one_group__gives_the_ranges_of_the_tensor(unet, one_thread) -> None:
    import torch

    task = Task(unet, DDIM(unet.schedule, 2), Bits.parse("w8a8"))
    rule = head_group_rule(16)
    plain = recipe(UseScheme("w8a8"), TrajectoryRanges(4)).prepare(task).network
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.full((2,), 500)
    outputs = {
        n: recipe(UseScheme("w8a8", (rule,)), HeadGroupRanges(n, 4)).prepare(task).network(x, t, step=0) for n in (1, 8)
    }
    torch.testing.assert_close(outputs[1], plain(x, t, step=0), rtol=1e-5, atol=1e-6)
    assert (outputs[8] - outputs[1]).abs().max() > 1e-4
    assert str(plain.scheme) == str(Scheme.parse("w8a8"))
