"""Claim: mixed bits stand beside plain ones of their budget, which differ from them in nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from noise_models.precision.candidates import Candidates
from samplers import DDIM, BadInput, NoiseSchedule
from simulator import Arm, Scheme, run_arms
from simulator.correction import NoCorrection
from simulator.instrument.accounting import account
from simulator.instrument.scheme import Rule, Settings
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.correction import FitCorrection
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.scheme import UseScheme
from studies.recipes.task import Bits, Task
from studies.scoreboard.board import Board, Cell
from studies.scoreboard.companions import Schedule, Widths, companion, is_mixed

STEPS = 4
SAMPLER = DDIM(NoiseSchedule(), STEPS, 1.0)
SOURCE = Source("a paper", "somebody", "somewhere")


@dataclass(frozen=True)
class AtScheme(NoCorrection):
    """Nothing but a scope: other schemes are refused."""

    scheme: str

    def check(self, use: dict) -> None:
        if use["scheme"] != self.scheme:
            raise BadInput("a schedule runs as its own scheme", got=use["scheme"], fix="run that")


@dataclass(frozen=True)
class ByStep:
    """Plain schemes of these activation bits, one for each step."""

    bits: tuple[int, ...]
    name = "bits by step"

    def config(self) -> dict:
        return {"bits": list(self.bits)}

    def require(self, task: Task) -> None:
        pass

    def apply(self, preparation, report):
        widths = sorted(set(self.bits))
        candidates = Candidates(tuple(Scheme.parse(f"w{preparation.task.bits.weights}a{bits}") for bits in widths))
        choice = np.array([[widths.index(bits)] for bits in self.bits])
        scope = AtScheme("by-step")
        return replace(preparation, scheme=candidates.scheme(choice, "by-step"), correction=scope)


MIXED = Recipe("mixed", "Mixed.", SOURCE, (ByStep((4, 7, 7, 7)), TrajectoryRanges(16), FitCorrection("ptqd", 16)))


@pytest.fixture
def task(tiny_model) -> Task:
    return Task(tiny_model, SAMPLER, Bits(4, 8), batch_size=16)


def bops(made) -> int:
    return account(made.network.plan, made.network.model.module, steps=STEPS).total_bops


def plain(task: Task, activations: int) -> int:
    return bops(Recipe("p", "P.", SOURCE, (UseScheme(f"w4a{activations}"), TrajectoryRanges(16))).prepare(task))


def test_uniform__has_the_widest_width_within_the_budget_at_every_step(task, one_thread) -> None:
    made = companion(MIXED, Schedule.UNIFORM).prepare(task)  # 4, 7, 7, 7: 6.25 bits of activations
    found = made.log["same budget"]
    assert found["bits"] == [6] * STEPS
    assert found["budget"] == bops(MIXED.prepare(task))
    assert found["bops"] == bops(made) == plain(task, 6)
    assert found["bops"] <= found["budget"] < plain(task, 7)
    assert made.correction.name == "ptqd"  # fitted on the plain network: it refuses the noise of another


def test_random__draws_steps_of_the_next_width_within_the_budget(task, one_thread) -> None:
    drawn = [companion(MIXED, Schedule.RANDOM).prepare(task, seed=seed) for seed in range(4)]
    bits = [made.log["same budget"]["bits"] for made in drawn]
    assert all(sorted(each) == [6, 6, 6, 7] for each in bits)  # of 6.25 bits, one step in four
    assert len({tuple(each) for each in bits}) > 1
    assert bits[2] == companion(MIXED, Schedule.RANDOM).prepare(task, seed=2).log["same budget"]["bits"]
    for made in drawn:
        assert bops(made) == made.log["same budget"]["bops"] <= made.log["same budget"]["budget"]
        key = made.network.sites[3].key
        by_step = [made.network.plan.at(key, step).multiplied_bits[0] for step in range(STEPS)]
        assert by_step == made.log["same budget"]["bits"]


def test_companion__runs_outside_the_scope_that_came_with_the_schedule(task, one_thread) -> None:
    alone = Recipe("alone", "A.", SOURCE, MIXED.stages[:2])
    made = companion(alone, Schedule.RANDOM).prepare(task)
    (run,) = run_arms([Arm(made.network, made.correction)], SAMPLER, samples=8, kinds=("injected",), sites=False)
    assert np.isfinite(run.epsilon_injected).all()


def test_companion__of_a_schedule_of_one_width_is_that_width(task, one_thread) -> None:
    flat = Recipe("flat", "F.", SOURCE, (ByStep((6,) * STEPS), TrajectoryRanges(16)))
    assert not is_mixed(flat.prepare(task).network, STEPS)
    for schedule in Schedule:
        found = companion(flat, schedule).prepare(task).log["same budget"]
        assert found["bits"] == [6] * STEPS
        assert found["bops"] == found["budget"]


def test_companion__changes_the_bits_of_all_operands_and_nothing_else(task, one_thread) -> None:
    stage = UseScheme("w{w}g8a{a}", (Rule(("@qk",), Settings(key_bits=2)), Rule(("@first",), Settings(weight_bits=8))))
    mixed = Recipe("keys", "K.", SOURCE, (stage, TrajectoryRanges(16)))
    base, made = mixed.prepare(task), companion(mixed, Schedule.UNIFORM).prepare(task)
    assert is_mixed(base.network, STEPS)
    for facts in base.network.sites:
        old, new = base.network.plan.at(facts.key, 0), made.network.plan.at(facts.key, 0)
        assert old.weight == new.weight
        assert {operand.spec.format.bits for operand in new.operands.values()} == {
            8 if "first" in str(facts.key) or "last" in str(facts.key) else 7
        }


def test_is_mixed__where_no_width_costs_the_same(task, one_thread) -> None:
    for text, expected in (("w4a8", False), ("w4g8a5", False), ("w8a8-dyn", False)):
        made = Recipe("p", "P.", SOURCE, (UseScheme(text), TrajectoryRanges(16))).prepare(task)
        assert is_mixed(made.network, STEPS) is expected
    assert is_mixed(MIXED.prepare(task).network, STEPS)


@dataclass(frozen=True)
class Logarithmic:
    """Codes that exist up to 8 bits only."""

    name = "scheme"

    def config(self) -> dict:
        return {}

    def require(self, task: Task) -> None:
        pass

    def apply(self, preparation, report):
        from simulator.instrument.scheme import ProbabilityFormat

        rule = Rule(("@pv",), Settings(probability_format=ProbabilityFormat.LOG_SQRT2))
        return replace(preparation, scheme=Scheme(Scheme.parse("w4a8").settings, (rule,)))


def test_widths__leave_out_those_that_a_site_cannot_have(task, one_thread) -> None:
    made = Recipe("log", "L.", SOURCE, (Logarithmic(), TrajectoryRanges(16))).prepare(task)
    widths = Widths.of(made.network)
    assert widths.bits.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert (np.diff(widths.bops) > 0).all()
    assert not is_mixed(made.network, STEPS)


def test_companion__is_a_recipe_that_says_all_it_does() -> None:
    configs = [json.dumps(made.config()) for made in (MIXED, *(companion(MIXED, each) for each in Schedule))]
    assert len(set(configs)) == 3
    assert json.dumps(MIXED.config()["stages"]) in configs[1]


def test_board__knows_companions_by_name() -> None:
    board = Board(("svdquant",))
    assert board.recipe("svdquant@random") == companion(board.recipe("svdquant"), Schedule.RANDOM)
    cell = Cell("svdquant", "w4a4", "digits-unet", 0)
    assert [one.recipe for one in cell.companions] == ["svdquant@uniform", "svdquant@random"]
    assert cell.companions[0].companions == ()
