"""Claim: the exact selection is the optimum of all selections, and the greedy one is within its stated gap of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noise_models.precision.selection import MOST_STATES, Selection, exact_selection, greedy_selection
from samplers.errors import BadInput


@st.composite
def problems(draw) -> tuple[np.ndarray, np.ndarray, int]:
    """Small integer problems full of ties, noise not falling with cost, budgets from tight to slack."""
    slots, choices = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    table = st.lists(st.integers(0, 12), min_size=slots * choices, max_size=slots * choices)
    noise, cost = (np.reshape(draw(table), (slots, choices)) for _ in range(2))
    least, most = int(cost.min(1).sum()), int(cost.max(1).sum())
    return noise.astype(float), cost, draw(st.integers(least, most + 2))


def enumerated(noise: np.ndarray, cost: np.ndarray, budget: int) -> tuple[float, int]:
    """Least noise within the budget, then least cost, over every selection."""
    slots, choices = noise.shape
    every = np.indices((choices,) * slots).reshape(slots, -1)
    noises, costs = (values[np.arange(slots)[:, None], every].sum(0) for values in (noise, cost))
    least = noises[costs <= budget].min()
    return least, int(costs[(costs <= budget) & (noises == least)].min())


def require_consistent(found: Selection, noise: np.ndarray, cost: np.ndarray, budget: int) -> None:
    rows = np.arange(len(noise))
    assert found.cost == cost[rows, found.choice].sum() <= budget
    assert found.noise == pytest.approx(noise[rows, found.choice].sum())


@given(problems())
def test_exact_selection__is_the_least_of_all_selections_and_the_cheapest_of_those(problem) -> None:
    noise, cost, budget = problem
    found = exact_selection(noise, cost, budget)
    require_consistent(found, noise, cost, budget)
    assert (found.noise, found.cost) == enumerated(noise, cost, budget)  # integers: sums are exact


@given(problems())
def test_greedy_selection__lies_between_the_optimum_and_its_gap_above_it(problem) -> None:
    noise, cost, budget = problem
    found, (optimum, _) = greedy_selection(noise, cost, budget), enumerated(noise, cost, budget)
    require_consistent(found, noise, cost, budget)
    assert optimum <= found.noise
    assert found.lower_bound <= optimum * (1 + 1e-12)
    assert found.gap <= np.ptp(noise, axis=1).max()  # one slot's saving at most
    assert exact_selection(noise, cost, budget).lower_bound == found.lower_bound


def test_greedy_selection__misses_the_optimum_where_the_steepest_edge_does_not_fit_whole() -> None:
    noise, cost = np.array([[10.0, 0.0], [6.0, 0.0], [5.0, 0.0]]), np.array([[0, 6], [0, 4], [0, 4]])
    greedy, exact = greedy_selection(noise, cost, 8), exact_selection(noise, cost, 8)
    # steepness 10/6, 6/4, 5/4: the first is bought, and 2 of the second's 4 would be, which saves 3 in the relaxation
    assert (greedy.choice.tolist(), greedy.noise, greedy.cost) == ([1, 0, 0], 11.0, 6)
    assert greedy.lower_bound == 8.0
    assert (exact.choice.tolist(), exact.noise, exact.cost) == ([0, 1, 1], 10.0, 8)
    assert greedy.gap == 3.0


def test_greedy_selection__goes_past_an_edge_that_does_not_fit() -> None:
    noise, cost = np.array([[10.0, 0.0], [1.0, 0.0]]), np.array([[0, 5], [0, 1]])
    assert greedy_selection(noise, cost, 4).choice.tolist() == [0, 1]


def test_greedy_selection__never_takes_a_choice_above_the_hull() -> None:
    noise, cost = np.array([[8.0, 7.0, 0.0]] * 3), np.array([[0, 2, 4]] * 3)  # the middle one lies above the chord
    greedy, exact = greedy_selection(noise, cost, 6), exact_selection(noise, cost, 6)
    assert sorted(greedy.choice) == [0, 0, 2]
    assert sorted(exact.choice) == [0, 1, 2]
    assert greedy.gap == 16 - 12


@pytest.mark.parametrize("select", [exact_selection, greedy_selection])
def test_selection__takes_the_least_noise_under_a_budget_above_the_dearest(select) -> None:
    noise, cost = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]]), np.array([[1, 2, 9], [5, 3, 4]])
    found = select(noise, cost, 10**9)
    assert found.choice.tolist() == [1, 1]  # not the dearest: of equal noise the cheapest
    assert (found.noise, found.cost, found.gap) == (2.0, 5, 0.0)


@pytest.mark.parametrize("select", [exact_selection, greedy_selection])
def test_selection__of_one_choice_is_that_choice_at_exactly_its_cost(select) -> None:
    assert select([[2.0], [3.0]], [[4], [5]], 9).choice.tolist() == [0, 0]
    with pytest.raises(BadInput, match="which costs 9, got 8"):
        select([[2.0], [3.0]], [[4], [5]], 8)


def test_exact_selection__keeps_its_precision_where_noise_spans_many_decades() -> None:
    """A bound whose rounding is that of the cheapest choices' noise would prune the optimum here."""
    generator = np.random.default_rng(5)
    slots = 11
    scale = np.array([1e9, 1e-9, 1e-10])
    noise = generator.uniform(1, 2, (slots, 3)) * scale
    cost = np.column_stack([np.zeros(slots, int), generator.integers(1, 5, slots), generator.integers(5, 12, slots)])
    for extra in (3, 11, 20):
        budget = int(cost[:, 1].sum()) + extra
        assert exact_selection(noise, cost, budget).noise == pytest.approx(enumerated(noise, cost, budget)[0], rel=1e-9)


def test_exact_selection__of_many_slots_with_large_costs_is_within_the_bound() -> None:
    generator = np.random.default_rng(3)
    slots = 250  # of incommensurable costs about 10^9, as bit operations of groups are
    cost = np.cumsum(generator.integers(10**8, 10**9, (slots, 3)), axis=1)
    noise = np.sort(generator.lognormal(0, 2, (slots, 3)), axis=1)[:, ::-1]
    budget = int(0.5 * (cost.min(1).sum() + cost.max(1).sum()))
    exact, greedy = exact_selection(noise, cost, budget), greedy_selection(noise, cost, budget)
    require_consistent(exact, noise, cost, budget)
    assert exact.lower_bound <= exact.noise <= greedy.noise
    assert MOST_STATES > 0


@pytest.mark.parametrize(
    ("noise", "cost", "budget", "rule"),
    [
        ([[np.nan, 1.0]], [[1, 2]], 2, "at slot 0, choice 0"),
        ([[1.0, np.inf]], [[1, 2]], 2, "at slot 0, choice 1"),
        ([[-1.0]], [[1]], 2, "at least 0"),
        ([[1.0]], [[1.5]], 2, "integers"),
        ([[1.0]], [[-1]], 2, "integers"),
        ([[1.0]], [[2**62]], 2, "below"),
        ([[1.0]], [[1, 2]], 2, "one shape"),
        (np.zeros((0, 2)), np.zeros((0, 2), int), 2, "one shape"),
        ([[1.0]], [[1]], 1.5, "integer"),
    ],
)
def test_selection__refuses_what_it_cannot_compare(noise, cost, budget, rule) -> None:
    for select in (exact_selection, greedy_selection):
        with pytest.raises(BadInput, match=rule):
            select(noise, cost, budget)
