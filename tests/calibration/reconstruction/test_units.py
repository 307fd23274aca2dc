"""Claim: a network's units are its blocks by path, with whatever lies in none of them contraction by contraction."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import simulator
from samplers import BadInput
from samplers.schedule import NoiseSchedule
from simulator.calibration.reconstruction.units import Blocks, partition
from simulator.instrument.survey import survey
from simulator.models.registry import Model


def _units(model, blocks):
    return partition(model, blocks)


def test_blocks__of_the_unet_are_its_residual_and_attention_blocks() -> None:
    model = simulator.load("digits-unet")
    blocks = Blocks.of(model.module)
    assert set(blocks.paths) == {"down.0", "down.1", "mid.attention", "up.0", "up.1"}
    units = _units(model, blocks)
    names = [unit.name for unit in units]
    assert names == [
        "time_embedding.linear1:linear", "time_embedding.linear2:linear", "conv_in:conv2d", "down.0",
        "downsample:conv2d", "down.1", "mid.attention", "up.1", "upsample:conv2d", "up.0", "conv_out:conv2d",
    ]  # fmt: skip
    sites = [site for unit in units for site in unit.sites]
    assert sorted(sites) == sorted(facts.key for facts in survey(model))
    assert [str(site) for site in units[6].sites] == [
        "mid.attention.query:linear", "mid.attention.key:linear", "mid.attention.value:linear", "mid.attention:qk",
        "mid.attention:pv", "mid.attention.output:linear",
    ]  # fmt: skip
    assert all(all(unit.batched) for unit in units)


def test_blocks__of_the_transformer_are_its_blocks() -> None:
    model = simulator.load("digits-dit")
    assert Blocks.of(model.module).paths == ("blocks.0", "blocks.1", "blocks.2", "blocks.3")
    sites = [site for unit in _units(model, Blocks.of(model.module)) for site in unit.sites]
    assert len(sites) == len(survey(model))


def test_blocks__of_another_network_are_its_children_that_run(tiny_model) -> None:
    names = [unit.name for unit in _units(tiny_model, None)]
    assert names == ["embed", "first", "down", "qkv", "qk", "pv", "proj", "last"]


def test_units__of_layers_are_single_contractions(tiny_model) -> None:
    units = _units(tiny_model, Blocks(()))
    assert [unit.sites for unit in units] == [(facts.key,) for facts in survey(tiny_model)]


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.block(self.block(x))


def test_units__a_block_that_runs_twice_is_met_on_its_first_run() -> None:
    model = Model("twice", 1, _Twice().eval().requires_grad_(False), NoiseSchedule(), (4,), "epsilon", "2" * 64)
    (unit,) = _units(model, Blocks(("block",)))
    assert [str(site) for site in unit.sites] == ["block.0:linear", "block.2:linear"]


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (("down.0", "down.0.conv1"), "disjoint"),
        (("down.0", "down.0"), "disjoint"),
        (("",), "module path"),
        (["down.0"], "paths"),
    ],
)
def test_blocks__must_be_disjoint_paths(paths, says) -> None:
    with pytest.raises(BadInput, match=says):
        Blocks(paths)


def test_units__refuse_blocks_that_are_no_modules_or_hold_nothing(tiny_model) -> None:
    with pytest.raises(BadInput, match="a module of the network"):
        _units(tiny_model, Blocks(("first", "second")))
    with pytest.raises(BadInput, match="contraction"):
        _units(tiny_model, Blocks(("norm",)))
