"""Claim: stages draw with the preparation's seed, reach every operand they say, and leave the edges at their bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from same_function import small_dit

from samplers import DDIM, BadInput, NoiseSchedule
from simulator.calibration.collection.normal import Normal
from simulator.calibration.collection.order import Mixed
from simulator.calibration.observers import MinMax
from simulator.calibration.ranges import WEIGHT
from simulator.calibration.search import LpSearch
from simulator.calibration.transforms.low_rank import LowRank
from simulator.instrument.scheme import Rule, Scheme, Settings
from studies.recipes.catalogue import find
from studies.recipes.preparation import Preparation
from studies.recipes.stages import collected
from studies.recipes.stages.collected import CollectedRanges, operand_specs
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.transforms import LowRankBranches, RescaleNorms
from studies.recipes.stages.weights import WeightRanges
from studies.recipes.task import Bits, Task

SAMPLER = DDIM(NoiseSchedule(), 4, 1.0)
SEARCH = LpSearch(2.4, candidates=8, bins=256)


def start(model, bits: str = "w4a8", seed: int = 0) -> Preparation:
    return Preparation.of(Task(model, SAMPLER, Bits.parse(bits), batch_size=8), seed)


def silent(*_) -> None:
    """No report."""


def test_collected_ranges__draw_the_order_of_passes_with_the_seed(tiny_model, one_thread, monkeypatch) -> None:
    orders = []
    calibrate = collected.calibrate_on_set

    def watched(*arguments, **named):
        orders.append(named["order"])
        return calibrate(*arguments, **named)

    monkeypatch.setattr(collected, "calibrate_on_set", watched)
    stage = CollectedRanges(Normal(), 16, order=Mixed())
    for seed in (0, 3):
        stage.apply(start(tiny_model, seed=seed), silent)
    assert orders == [Mixed(0), Mixed(3)]


def test_trajectory_ranges__search_for_the_bits_that_the_task_has(tiny_model, one_thread) -> None:
    searched = TrajectoryRanges(8, SEARCH).apply(start(tiny_model, "w8a3"), silent).ranges
    extremes = TrajectoryRanges(8).apply(start(tiny_model, "w8a3"), silent).ranges
    narrower = [searched.bounds[key][1] < extremes.bounds[key][1] for key in extremes.bounds]
    assert any(narrower)


def test_searched_ranges__refuse_bits_that_change_with_the_step(tiny_model, one_thread) -> None:
    few = Rule(("qkv",), Settings(activation_bits=4), steps=(0, 2))
    given = replace(start(tiny_model), scheme=Scheme(rules=(few,)))
    assert TrajectoryRanges(8).apply(given, silent).ranges is not None
    assert CollectedRanges(Normal(), 8).apply(given, silent).ranges is not None
    for stage in (TrajectoryRanges(8, SEARCH), CollectedRanges(Normal(), 8, SEARCH)):
        with pytest.raises(BadInput, match="the same one at every step"):
            stage.apply(given, silent)


def test_weight_ranges__clip_weights_and_say_so(tiny_model, one_thread) -> None:
    stage = WeightRanges(SEARCH)
    before = TrajectoryRanges(8).apply(start(tiny_model, "w3a8"), silent)
    made = stage.apply(before, silent)
    sites = {facts.key for facts in made.quantized().sites if facts.weight_shape}
    assert set(made.ranges.weights) == sites
    assert {key: b for key, b in made.ranges.bounds.items() if key[1] != WEIGHT} == dict(before.ranges.bounds)
    key = next(site for site in sites if site.module == "qkv")
    weight = tiny_model.module.qkv.weight.detach().numpy()
    low, high = made.ranges.weights[key]
    assert (low >= weight.min(axis=1, keepdims=True)).all()
    assert (np.maximum(-low, high) < np.abs(weight).max(axis=1, keepdims=True)).any()
    assert made.ranges.source["weights"] == stage.config()
    with pytest.raises(BadInput, match="added to calibrated ones"):
        stage.apply(start(tiny_model), silent)


@pytest.mark.parametrize("name", ["ptq4dm", "ptq4dit", "repq"])
def test_recipe__searches_weights_as_its_code_does(one_thread, name) -> None:
    def shrunk(stage):
        changes = {"samples": 8} if hasattr(stage, "samples") else {}
        if isinstance(stage, RescaleNorms):
            changes["observer"] = replace(stage.observer, bins=256)
        return replace(stage, **changes)

    recipe = find(name)
    made = replace(recipe, stages=tuple(map(shrunk, recipe.stages))).prepare(
        Task(small_dit(), SAMPLER, Bits(4, 8), batch_size=8)
    )
    assert made.network.ranges.weights
    assert made.network.ranges.source["observer"] != MinMax().config()


def test_rescale_norms__find_ranges_with_their_observer(one_thread) -> None:
    observers = (MinMax(), SEARCH)
    kept, clipped = (RescaleNorms(8, one).apply(start(small_dit(), "w4a4"), silent).ranges for one in observers)

    def width(ranges, key) -> float:
        low, high = ranges.bounds[key]
        return float(high - low)

    after_norm = ("attention.query", "attention.key", "attention.value", "mlp.linear1")
    inputs = [key for key in kept.bounds if key[1] == "input"]
    rescaled = [key for key in inputs if key[0].module.endswith(after_norm)]
    assert len(rescaled) == 8
    assert all(width(clipped, key) < width(kept, key) for key in rescaled)
    assert any(width(clipped, key) < width(kept, key) for key in inputs if key not in rescaled)


def test_low_rank_branches__leave_the_first_and_the_last_layer_at_their_bits(one_thread) -> None:
    made = LowRankBranches(LowRank(4)).apply(start(small_dit()), silent)
    modules = dict(made.model.module.named_modules())
    assert "blocks.0.mlp.linear2.branch" in modules
    assert "head.linear.branch" not in modules
    specs = operand_specs(made)
    (head,) = {key: spec.format.bits for key, spec in specs.items() if key[0].module == "head.linear"}.values()
    assert head == 8
