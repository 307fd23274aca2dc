"""Claim: effective bits are b + 2 sigmoid(z-score), and each rounding gives the widths that its rule says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from precision_tables import candidates, planted_table

from noise_models.precision.sigmoid_rule import effective_bits, importance, round_bits, sigmoid_policy
from samplers.errors import BadInput

CHOSEN = candidates("w8a4", "w8a5", "w8a6")
WIDTHS = [6, 4, 5]  # in no order


def rounded(values, rounding, **options) -> list[int]:
    return [WIDTHS[i] for i in round_bits(values, WIDTHS, rounding, **options)]


def test_effective_bits__of_hand_computed_scores() -> None:
    # sigmoid(log 3) = 3/4
    np.testing.assert_allclose(effective_bits(4, [0.0, np.log(3), -np.log(3), 800, -800]), [5, 5.5, 4.5, 6, 4])


def test_importance__is_the_z_score_of_injected_power_times_lambda_squared() -> None:
    table = planted_table(CHOSEN, np.tile([[0.0], [-10.0], [-20.0]], 3), b=[2.0, 1.0, 0.1], signal=5.0)
    power = 5 * np.array([1.0, 10.0, 100.0])
    for kind, values in (
        ("one-step", power * [4, 1, 0.01]),
        ("log-one-step", np.log([4, 10, 1])),
        ("injected", power),
        ("noise-to-signal", [1, 10, 100]),
    ):
        expected = (values - np.mean(values)) / np.std(values)
        np.testing.assert_allclose(importance(table, 0, kind), expected)
    gains = np.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(importance(table, 0, "final", gains), np.array([2, -1, -1]) / np.sqrt(2))


def test_importance__is_that_of_the_named_base() -> None:
    table = planted_table(CHOSEN, [[0.0, -3.0, 0.0], [0.0, -1.0, -9.0]])
    assert importance(table, 1)[0] > 0 > importance(table, 2)[0]
    with pytest.raises(BadInput, match="must vary"):
        importance(table, 0)


def test_round_bits__of_hand_computed_values() -> None:
    values = [4.0, 4.4, 4.5, 4.6, 5.0, 5.9]
    assert rounded(values, "floor") == [4, 4, 4, 4, 5, 5]
    assert rounded(values, "nearest") == [4, 4, 5, 5, 5, 6]
    assert rounded(values, "ceil") == [4, 5, 5, 5, 5, 6]


def test_round_bits__goes_to_widths_that_exist() -> None:
    assert [[4, 8][i] for i in round_bits([4.5, 5.9, 6.0, 7.0], [4, 8], "nearest")] == [4, 4, 8, 8]


def test_round_bits__within_a_budget_raises_the_largest_fractions_first() -> None:
    values, cost = [4.2, 5.7, 4.9, 5.0], [60, 40, 50]
    assert rounded(values, "budget", cost=cost, budget=180) == [4, 5, 4, 5]
    assert rounded(values, "budget", cost=cost, budget=190) == [4, 5, 5, 5]
    assert rounded(values, "budget", cost=cost, budget=209) == [4, 6, 5, 5]
    assert rounded(values, "budget", cost=cost, budget=10**6) == [5, 6, 5, 5]  # whole widths are not raised
    with pytest.raises(BadInput, match="which cost 180, got 179"):
        rounded(values, "budget", cost=cost, budget=179)
    with pytest.raises(BadInput, match="needs a budget"):
        rounded(values, "budget")


@given(st.lists(st.floats(4, 6), min_size=1, max_size=60), st.integers(0, 5))
def test_round_bits__stochastic_keeps_the_sum_to_within_one_step(values, seed) -> None:
    found = np.array(rounded(values, "stochastic", seed=seed))
    assert (np.abs(found - values) < 1).all()
    assert abs(found.sum() - np.sum(values)) < 1 + 1e-9


def test_round_bits__stochastic_raises_each_step_with_the_probability_of_its_fraction() -> None:
    values, draws = np.array([4.1, 5.5, 4.8, 5.25, 6.0]), 4000
    raised = np.mean([np.array(rounded(values, "stochastic", seed=seed)) > values for seed in range(draws)], axis=0)
    fraction = values % 1
    assert (np.abs(raised - fraction) <= 4 * np.sqrt(fraction * (1 - fraction) / draws)).all()


def test_sigmoid_policy__of_hand_computed_steps() -> None:
    # powers 1, 1, 1, 5 have mean 2 and deviation sqrt 3: scores -1/sqrt 3 three times, and sqrt 3
    table = planted_table(CHOSEN, np.tile([[0.0], [0.0], [0.0], [-10 * np.log10(5)]], 3))
    policy = sigmoid_policy(CHOSEN, table)
    np.testing.assert_allclose(policy.details.importance, np.array([-1, -1, -1, 3]) / np.sqrt(3))
    np.testing.assert_allclose(policy.details.effective_bits, [4.7191, 4.7191, 4.7191, 5.6994], atol=1e-4)
    assert policy.activation_bits[:, 0].tolist() == [5, 5, 5, 6]
    assert sigmoid_policy(CHOSEN, table, rounding="floor").activation_bits[:, 0].tolist() == [4, 4, 4, 5]
    given = sigmoid_policy(CHOSEN, table, scores=[9.0, 0.0, -9.0, 0.0])
    assert given.activation_bits[:, 0].tolist() == [6, 5, 4, 5]
    assert given.rule["importance"] == "given"


@pytest.mark.parametrize("rounding", ["nearest", "ceil", "stochastic"])
def test_sigmoid_policy__clips_nothing_to_widths_that_are_missing(rounding) -> None:
    one = candidates("w8a4")
    table = planted_table(one, [[1.0], [2.0]])
    assert sigmoid_policy(one, table, rounding="floor").activation_bits.tolist() == [[4], [4]]
    with pytest.raises(BadInput, match=f"{rounding} needs widths on its side"):
        sigmoid_policy(one, table, rounding=rounding)


def test_sigmoid_policy__refuses_what_it_cannot_rank() -> None:
    table = planted_table(CHOSEN, [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    for options in (
        {"base_bits": 7},
        {"kind": "guess"},
        {"kind": "final"},
        {"scores": [1.0]},
        {"scores": [1.0, np.nan]},
    ):
        with pytest.raises(BadInput):
            sigmoid_policy(CHOSEN, table, **options)
    with pytest.raises(BadInput, match="finite"):  # no noise at one step: its logarithm
        sigmoid_policy(CHOSEN, planted_table(CHOSEN, [[np.inf] * 3, [2.0] * 3]), kind="log-one-step")
    grouped = candidates("w8a4", "w8a6", groups={"attention": ("@attention",)})
    with pytest.raises(BadInput, match="without groups"):
        sigmoid_policy(grouped, planted_table(grouped, np.ones((2, 2, 2))))
