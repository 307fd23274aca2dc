"""Claim: groups of steps and channels, head-aligned groups and bits that follow the step reach the engine as their
methods state them, cost what each step's bits cost, and hold only where they were chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from samplers import DDIM, DDPM, BadInput, NoiseSchedule
from simulator import Arm, Scheme, run_arms
from simulator.calibration.collection.entropies import Soft
from simulator.calibration.collection.set_ranges import calibrate_on_set
from simulator.calibration.head_grouping import most_groups
from simulator.calibration.intervals.soft_groups import SoftGrouping
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.instrument.scheme import Rule, Settings
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import survey
from simulator.models.registry import Model
from studies.recipes.known.apq_dm import RECIPE as APQ_DM
from studies.recipes.known.ptq_attndm import RECIPE as PTQ_ATTNDM
from studies.recipes.known.ptqd_mixed import RECIPE as PTQD_MIXED
from studies.recipes.preparation import Preparation
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.active import ActivePoints
from studies.recipes.stages.channel_groups import ChannelGroups, HardGrouping
from studies.recipes.stages.head_groups import HeadGroupedRanges
from studies.recipes.stages.ranges import Steps, TrajectoryRanges
from studies.recipes.stages.scheme import UseScheme
from studies.recipes.stages.step_bits import AttentionSchedule, ScheduleBits, SNRRule, key_bits
from studies.recipes.task import Bits, Task

SAMPLER = DDIM(NoiseSchedule(), 4, 1.0)
SOURCE = Source("a paper", "somebody", "somewhere")
POINTS = ActivePoints(16, observed=8)


class Attention(nn.Module):
    """Two heads of four channels, with a layer for each projection."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(tokens).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        return self.output(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention, self.last = nn.Linear(4, 8), Attention(), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        tokens = self.first(x.flatten(1).unflatten(-1, (16, 4)))
        tokens = tokens + timestep[:, None, None] / 500
        return self.last(tokens + self.attention(tokens)).reshape(x.shape)


@pytest.fixture(scope="module")
def attending() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = Attending().eval().requires_grad_(False)
    return Model("attending", 1, module, NoiseSchedule(), (1, 8, 8), "epsilon", "0" * 64)


def task(model: Model, bits: str = "w4a4", sampler=SAMPLER) -> Task:
    return Task(model, sampler, Bits.parse(bits), batch_size=16)


def recipe(*stages) -> Recipe:
    return Recipe("mine", "Mine.", SOURCE, stages)


def run(made, samples: int = 8, **options) -> np.ndarray:
    common = {"sites": False, "reference": made.reference, **options}
    (found,) = run_arms([Arm(made.network, made.correction)], SAMPLER, samples=samples, **common)
    assert np.isfinite(found.state_accumulated).all()
    return found.state_accumulated.values


def test_active_points__say_whose_entropy_counts() -> None:
    assert ActivePoints(assignment=Soft(0.5)).config() != ActivePoints(assignment=Soft()).config()


def test_channel_groups__of_inputs_are_hard_and_of_alike_steps(tiny_model, one_thread) -> None:
    made = recipe(ChannelGroups(HardGrouping(3), 2, POINTS)).prepare(task(tiny_model))
    ranges, log = made.network.ranges, made.log["channel groups"]
    assert len(ranges.steps.sets) == len(log["step_sets"]) == 2
    assert sum(log["points_per_step"]) == 16
    assert min(log["points_per_step"]) >= 1
    roles = {(key.operation, role) for key, role, _ in ranges.groups}
    assert roles == {("linear", "input"), ("conv2d", "input")}
    sizes = [ranges.bounds[key][0].size for key in ranges.groups]
    assert (min(sizes), max(sizes)) == (1, 3)  # one channel; twelve
    _, points = POINTS.collect(Preparation.of(task(tiny_model), 0), lambda *_: None)
    plain = calibrate_on_set(tiny_model, points, steps=ranges.steps, batch_size=16)
    for key, (low, high) in ranges.bounds.items():
        assert (low.ndim == 0) == (key[1] != "input")
        assert (low.min(), high.max()) == plain.bounds[key]
    treatments = {str(key): made.network.plan.at(key, 0) for key in (f.key for f in made.network.sites)}
    assert treatments["down:conv2d"].operands["input"].groups == 3
    assert treatments["qk"].operands["query"].groups == 1
    run(made)


def test_channel_groups__quantize_better_than_one_range_and_soft_ones_per_channel(tiny_model, one_thread) -> None:
    plain = run(recipe(TrajectoryRanges(16)).prepare(task(tiny_model)))
    grouped = recipe(ChannelGroups(points=POINTS)).prepare(task(tiny_model))
    soft = recipe(ChannelGroups(SoftGrouping(iterations=4), 2, POINTS, elements=16)).prepare(task(tiny_model))
    key = SiteKey("down", "conv2d"), "input", soft.network.ranges.steps.sets[0].name
    assert soft.network.ranges.bounds[key][0].size == 12
    assert key not in soft.network.ranges.groups
    exact = finest(tiny_model)
    errors = [np.square(each - exact).sum() for each in (plain, run(grouped), run(soft))]
    assert max(errors[1:]) < errors[0]


def finest(model: Model) -> np.ndarray:
    made = recipe(UseScheme("w16a16"), TrajectoryRanges(16)).prepare(task(model))
    return run(made)


def test_channel_groups__refuse_what_they_lack(tiny_model) -> None:
    few = recipe(ChannelGroups(points=ActivePoints(3)))
    with pytest.raises(BadInput, match="a sample for each of 4 steps"):
        few.prepare(task(tiny_model), report=lambda *_: pytest.fail("work began"))
    for make, says in (
        (lambda: HardGrouping(0), "groups"),
        (lambda: HardGrouping(pairing="other"), "pairing"),
        (lambda: ChannelGroups(step_groups=0), "step_groups"),
        (lambda: ActivePoints(per_round=0), "per_round"),
        (lambda: ActivePoints(weight=-1), "weight must be at least 0"),
        (lambda: HeadGroupedRanges(0), "groups"),
    ):
        with pytest.raises(BadInput, match=says):
            make()


@pytest.mark.parametrize(
    ("shapes", "most", "groups"),
    [
        ([(4, 16)], 8, 8), ([(4, 24)], 8, 8), ([(2, 6)], 8, 6), ([(3, 5)], 8, 3), ([(4, 16)], 1, 1),
        ([(4, 16), (2, 6)], 8, 4),
    ],
)  # fmt: skip
def test_most_groups__are_equal_and_cut_no_head_unequally(shapes, most, groups) -> None:
    assert most_groups(shapes, most) == groups


def test_head_groups__are_of_attention_alone_and_whole_parts_of_heads(attending, one_thread) -> None:
    made = recipe(HeadGroupedRanges(4, POINTS)).prepare(task(attending))
    ranges = made.network.ranges
    found = {(str(key), role): group.tolist() for (key, role, _), group in ranges.groups.items()}
    halves = [[0, 0, 1, 1], [2, 2, 3, 3]]
    assert found == {
        ("attention:qk", "query"): halves, ("attention:qk", "key"): halves, ("attention:pv", "value"): halves,
        ("attention.output:linear", "input"): [0, 0, 1, 1, 2, 2, 3, 3],
    }  # fmt: skip
    assert made.network.plan.at(SiteKey("attention.output", "linear")).operands["input"].groups == 4
    assert made.network.plan.at(SiteKey("attention.query", "linear")).operands["input"].groups == 1
    run(made)


def test_attention_schedule__states_every_operands_bits(attending) -> None:
    rule = AttentionSchedule()
    assert rule.widths(task(attending, "w8a6")) == (6, 7, 8)
    plan = Plan(rule.scheme(task(attending, "w8a6"), 8), survey(attending))
    bits = {str(f.key): plan.at(f.key).multiplied_bits for f in plan.sites}
    assert bits == {
        "first:linear": (8, 8), "attention.query:linear": (8, 8), "attention.key:linear": (6, 6),
        "attention.value:linear": (8, 8), "attention:qk": (8, 6), "attention:pv": (8, 8),
        "attention.output:linear": (8, 8), "last:linear": (8, 8),
    }  # fmt: skip
    plan = Plan(rule.scheme(task(attending, "w8a4"), 6), survey(attending))
    bits = {str(f.key): plan.at(f.key).multiplied_bits for f in plan.sites}
    assert (bits["first:linear"], bits["attention.key:linear"], bits["attention:qk"]) == ((8, 8), (4, 6), (6, 4))
    assert plan.at(SiteKey("attention", "qk")).output.format.bits == 6
    assert [key_bits(b) for b in (3, 4, 5, 6, 8)] == [4, 4, 4, 4, 6]


def attention_recipe(**options) -> Recipe:
    return recipe(HeadGroupedRanges(4, POINTS), ScheduleBits(AttentionSchedule(**options), 8))


def test_attention_schedule__runs_and_costs_each_steps_bits(attending, one_thread) -> None:
    made = attention_recipe(rounding="stochastic").prepare(task(attending, "w4a4"))
    log = made.log["step bits"]
    assert set(log["bits"]) <= {4, 5, 6}
    effective = 4 + 2 / (1 + np.exp(-np.array(log["importance"])))
    np.testing.assert_allclose(log["effective_bits"], effective, atol=1e-5)
    assert abs(sum(log["bits"]) - effective.sum()) < 1
    assert len(set(log["bits"])) > 1
    cost = account(made.network.plan, attending.module, steps=4)
    macs = {str(each.site): each.macs for each in cost.passes[0]}
    edges, products = macs["first:linear"] + macs["last:linear"], 2 * 16 * 16 * 4
    wanted = tuple(
        64 * edges + 16 * 8 * 8 * (3 * 4 * b + 4 * key_bits(b)) + products * (b * key_bits(b) + b * b)
        for b in log["bits"]
    )
    assert cost.bops == wanted
    assert cost.total_bops == sum(wanted)
    assert (
        run(made).tobytes() == run(attention_recipe(rounding="stochastic").prepare(task(attending, "w4a4"))).tobytes()
    )


def test_attention_schedule__needs_attention_with_projections_of_its_own(tiny_model, attending) -> None:
    def stop(*_):
        pytest.fail("work began")

    with pytest.raises(BadInput, match="'@output'"):
        PTQ_ATTNDM.prepare(task(tiny_model), report=stop)
    with pytest.raises(BadInput, match=r"need 17 bits, 16 at most.*at most 14 activation bits"):
        PTQ_ATTNDM.prepare(task(attending, "w8a15"), report=stop)
    with pytest.raises(BadInput, match="importance"):
        AttentionSchedule("final")
    with pytest.raises(BadInput, match="rounding"):
        AttentionSchedule(rounding="budget")


def mixed_recipe() -> Recipe:
    shrunk = [replace(stage, samples=16) for stage in PTQD_MIXED.stages]
    return replace(PTQD_MIXED, stages=tuple(shrunk))


def test_snr_rule__mixes_widths_calibrates_each_run_of_them_and_costs_each_steps_bits(tiny_model, one_thread) -> None:
    made = mixed_recipe().prepare(task(tiny_model))
    bits = made.log["step bits"]["bits"]
    assert set(bits) == {4, 8}
    assert bits == sorted(bits)  # more where the diffusion's noise is small
    first = bits.index(8)
    sets = [s.serves for s in made.network.ranges.steps.sets]
    assert sets == [tuple(range(first)), tuple(range(first, 4))]
    cost = account(made.network.plan, tiny_model.module, steps=4)
    sites = made.network.sites
    uniform = {b: account(Plan(Scheme.parse(f"w4a{b}"), sites), tiny_model.module) for b in (4, 8)}
    assert cost.bops == tuple(uniform[b].bops[0] for b in bits)
    assert cost.total_bops == sum(cost.bops)
    assert cost.weights == uniform[4].weights  # weights are alike at all steps, hence stored once
    assert made.correction.config()["name"] == "ptqd"
    run(made)


def test_step_bits__hold_only_where_they_were_chosen(tiny_model, one_thread) -> None:
    stages = TrajectoryRanges(16), ScheduleBits(SNRRule(margin_db=3.0), 8)
    for more in ((), (TrajectoryRanges(16, steps=Steps.SCHEME),)):
        made = recipe(*stages, *more).prepare(task(tiny_model))
        run(made)
        for sampler, options, says in (
            (DDIM(NoiseSchedule(), 4, 0.5), {}, "sampler.eta"),
            (SAMPLER, {"purpose": "calibrate"}, "other samples"),
        ):
            with pytest.raises(BadInput, match=says):
                run_arms([Arm(made.network, made.correction)], sampler, samples=8, sites=False, **options)


def test_step_bits__refuse_what_they_cannot_have(tiny_model) -> None:
    schedule = ScheduleBits(SNRRule(), 8)
    with pytest.raises(BadInput, match="need calibrated ranges"):
        recipe(schedule).prepare(task(tiny_model))
    with pytest.raises(BadInput, match="start from the plain scheme"):
        recipe(UseScheme("w{w}g4a{a}"), TrajectoryRanges(8), schedule).prepare(task(tiny_model))
    with pytest.raises(BadInput, match=r"need 17 bits, 16 at most.*at most 12 activation bits"):
        PTQD_MIXED.prepare(task(tiny_model, "w4a13"))
    clipping = DDPM(NoiseSchedule(), 4, clip_sample=True)
    with pytest.raises(BadInput, match="absorption needs a linear update"):
        PTQD_MIXED.prepare(task(tiny_model, sampler=clipping), report=lambda *_: pytest.fail("work began"))
    for make, says in (
        (lambda: SNRRule(above=(0,)), "two at least"),
        (lambda: SNRRule(above=(1, 4)), "ascend from 0"),
        (lambda: SNRRule(above=(0, 4, 2)), "ascend from 0"),
        (lambda: SNRRule(reading="dB"), "reading"),
        (lambda: SNRRule(parts=0), "parts"),
        (lambda: ScheduleBits(SNRRule(), 7), "at least 8 samples"),
    ):
        with pytest.raises(BadInput, match=says):
            make()


def test_steps_of_a_scheme__are_cut_where_its_rules_change_within_the_samplers() -> None:
    def rule(*steps: int) -> Rule:
        return Rule(("*",), Settings(activation_bits=4), steps)

    scheme = Scheme(Settings(), (rule(0, 2), rule(2, 3), rule(1, 9)))
    assert [s.serves for s in Steps.SCHEME.sets(5, scheme).sets] == [(0,), (1,), (2,), (3, 4)]
    assert [s.serves for s in Steps.SCHEME.sets(2, Scheme()).sets] == [(0, 1)]


def test_recipes__are_made_of_what_they_say() -> None:
    assert isinstance(APQ_DM.stages[0].grouping, HardGrouping)
    assert PTQD_MIXED.config()["stages"][1] == {
        "stage": "step bits", "rule": "ptqd", "above": [0, 4], "reading": "amplitude", "margin_db": 0.0, "parts": None,
        "samples": 128,
    }  # fmt: skip
