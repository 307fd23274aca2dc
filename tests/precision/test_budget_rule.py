"""Claim: the budgeted policy is the least predicted noise that the budget allows, with gains, ranges and groups."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from planted_noise import SAMPLER
from precision_tables import candidates, planted_table

from noise_models.precision.budget_rule import budgeted_policy
from noise_models.precision.gains import one_step_gains
from samplers import DDIM
from samplers.errors import BadInput

CHOSEN = candidates("w8a4", "w8a6", "w8a8")


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(1)
    levels = np.sort(generator.uniform(-5, 30, (6, 3)), axis=1)
    return planted_table(CHOSEN, levels, bops=[[40, 61, 83]])


GAINS = np.array([0.1, 3.0, 1.0, 0.5, 2.0, 0.0])


@pytest.mark.parametrize("parts", [None, 2, 4])
@pytest.mark.parametrize("budget", [240, 300, 391, 498, 10**9])
def test_budgeted_policy__is_the_least_over_all_policies(table, parts, budget) -> None:
    policy = budgeted_policy(CHOSEN, table, budget, GAINS, parts=parts)
    part = np.arange(6) if parts is None else np.arange(6) * parts // 6
    noise, cost = table.noise_power.values[:, 0] * GAINS[:, None], table.bops.values[0]
    every = [np.array(choice)[part] for choice in product(range(3), repeat=part[-1] + 1)]
    allowed = [noise[np.arange(6), choice].sum() for choice in every if cost[choice].sum() <= budget]
    assert policy.total_bops <= budget
    assert policy.total_bops == cost[policy.choice[:, 0]].sum()
    assert policy.predicted_noise(GAINS) == pytest.approx(min(allowed), rel=1e-12)
    assert float(policy.details.predicted_noise_power) == pytest.approx(min(allowed), rel=1e-12)
    assert float(policy.details.lower_bound) <= min(allowed) * (1 + 1e-12)
    if parts is None:
        greedy = budgeted_policy(CHOSEN, table, budget, GAINS, method="greedy")
        gap = float(greedy.details.predicted_noise_power - greedy.details.lower_bound)
        assert 0 <= greedy.predicted_noise(GAINS) - min(allowed) <= gap * (1 + 1e-12)


def test_budgeted_policy__spends_where_the_gain_is() -> None:
    table = planted_table(CHOSEN, [[10.0, 20.0, 30.0]] * 4, bops=[[4, 6, 8]])
    policy = budgeted_policy(CHOSEN, table, 22, [0.0, 1.0, 1000.0, 0.0])
    assert policy.activation_bits[:, 0].tolist() == [4, 6, 8, 4]


def test_budgeted_policy__of_groups_adds_their_noise_and_their_costs() -> None:
    chosen = candidates("w8a4", "w8a8", groups={"attention": ("@attention",)})
    table = planted_table(chosen, [[[0.0, 20.0], [10.0, 20.0]]] * 2, bops=[[10, 20], [2, 4]])
    # per step the rest saves 0.99 for 10, attention 0.09 for 2
    assert sorted(budgeted_policy(chosen, table, 24 + 10, [1.0, 1.0]).activation_bits.tolist()) == [[4, 4], [8, 4]]
    policy = budgeted_policy(chosen, table, 24 + 4, [1.0, 1.0])
    assert policy.activation_bits.tolist() == [[4, 8], [4, 8]]
    assert policy.predicted_noise([1.0, 3.0]) == pytest.approx(4 * (1 + 0.01))
    assert policy.bops.tolist() == [14, 14]


def test_budgeted_policy__of_one_candidate_or_a_budget_that_does_not_bind(table) -> None:
    one = candidates("w8a6")
    single = planted_table(one, [[1.0], [2.0]])
    assert budgeted_policy(one, single, 12, [1.0, 1.0]).activation_bits.tolist() == [[6], [6]]
    with pytest.raises(BadInput, match="which costs 12, got 11"):
        budgeted_policy(one, single, 11, [1.0, 1.0])
    dear = budgeted_policy(CHOSEN, table, 10**9, GAINS)
    assert dear.activation_bits[:, 0].tolist() == [8] * 5 + [4]  # at gain 0 nothing is worth its price


def test_budgeted_policy__refuses_budgets_gains_and_noise_that_say_nothing(table) -> None:
    with pytest.raises(BadInput, match="got 239"):
        budgeted_policy(CHOSEN, table, 239, GAINS)
    for gains in (GAINS[:5], -GAINS, GAINS * np.nan):
        with pytest.raises(BadInput, match="gains must be"):
            budgeted_policy(CHOSEN, table, 300, gains)
    with pytest.raises(BadInput, match="finite"):
        budgeted_policy(CHOSEN, table.assign(noise_power=table.noise_power * np.nan), 300, GAINS)


def test_budgeted_policy__refuses_gains_of_another_sampler() -> None:
    table = planted_table(CHOSEN, np.ones((50, 3)))
    assert budgeted_policy(CHOSEN, table, 50 * 8, one_step_gains(SAMPLER)).rule["gains"] == "one-step"
    with pytest.raises(BadInput, match="gains must be those of the sampler"):
        budgeted_policy(CHOSEN, table, 50 * 8, one_step_gains(DDIM(SAMPLER.schedule, 50)))
