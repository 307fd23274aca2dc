"""Claim: reversals are of whole sequences in their order, spans are relative, and what stays still does not follow."""

from __future__ import annotations

import numpy as np
import pytest

from studies.claims.series import following, relative_span, reversal


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 2.0, 5.0], 0.0),
        ([5.0, 2.0, 1.0], 0.0),
        ([0.0, 3.0, 2.0, 1.0], 2.0),  # the fall is of two steps together
        ([3.0, 0.0, 1.0], 1.0),  # rising after a fall: extremes alone would say 3
        ([0.0, 1.0, 0.5, 4.0, 3.0], 1.0),
        ([2.0], 0.0),
    ],
)
def test_reversal__is_the_smaller_of_the_largest_rise_and_fall(values: list[float], expected: float) -> None:
    assert reversal(values) == expected
    assert reversal([-value for value in values]) == expected


def test_reversal__of_what_has_no_value_has_none() -> None:
    assert np.isnan(reversal([1.0, float("nan"), 0.0]))


def test_relative_span__does_not_depend_on_units() -> None:
    series = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
    np.testing.assert_allclose(relative_span(series), [1.0, 0.0])
    np.testing.assert_allclose(relative_span(1e-3 * series), [1.0, 0.0])


def test_following__has_a_sign_and_leaves_still_series_apart() -> None:
    t = np.linspace(0.0, 1.0, 30)
    leader = 1 + t**2
    still = np.full(30, np.float32(0.1), np.float64)
    found = following(np.stack([3 * leader, 2 - leader / 2, still, t]), np.stack([leader, leader, leader, still]))
    np.testing.assert_allclose(found[:3], [1.0, -1.0, 0.0])
    assert np.isnan(found[3])
