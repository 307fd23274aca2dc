"""Claim: a verdict follows from its interval alone; a claim's intervals hold together, and the table's after Holm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from samplers import BadInput
from studies.claims.verdict import Direction, Finding, Verdict, find, holm

ABOVE, BELOW = Direction.ABOVE, Direction.BELOW


@pytest.mark.parametrize(
    ("values", "direction", "verdict"),
    [
        ([2.0, 2.1, 1.9, 2.0, 2.05], ABOVE, Verdict.CONFIRMED),
        ([2.0, 2.1, 1.9, 2.0, 2.05], BELOW, Verdict.CONTRADICTED),
        ([0.0, 0.1, -0.1, 0.0, 0.05], ABOVE, Verdict.CONTRADICTED),
        ([0.0, 0.1, -0.1, 0.0, 0.05], BELOW, Verdict.CONFIRMED),
        ([0.5, 1.5, 1.0, 2.5, -0.2], ABOVE, Verdict.INCONCLUSIVE),
        ([2.0, 2.1, float("nan"), 2.0, 2.05], ABOVE, Verdict.NOT_TESTABLE),
        ([2.0, 2.0, 2.0], ABOVE, Verdict.CONFIRMED),
        ([1.0, 1.0, 1.0], ABOVE, Verdict.INCONCLUSIVE),
    ],
)
def test_find__puts_the_interval_against_the_smallest_effect(values, direction, verdict) -> None:
    assert find(values, 1.0, direction).verdict is verdict


def test_find__has_students_interval_and_p() -> None:
    values = [0.3, 1.1, 0.4, 0.9, 1.4]
    found = find(values, 0.2, ABOVE)
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    np.testing.assert_allclose((found.low, found.high), expected)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0.2).pvalue)


def test_find__covers_all_of_a_claims_endpoints_together() -> None:
    generator = np.random.default_rng(2)
    draws, endpoints = 2000, 6
    values = generator.standard_normal((draws, endpoints, 5))
    missed = 0
    for draw in values:
        found = [find(endpoint, 0.0, ABOVE, simultaneous=endpoints) for endpoint in draw]
        missed += any(one.verdict is not Verdict.INCONCLUSIVE for one in found)
    # independent endpoints: 1 - (1 - 0.05 / 6)^6 = 4.9 %
    assert abs(missed / draws - 0.049) < 5 * np.sqrt(0.049 * 0.951 / draws)


def test_find__refuses_too_few_seeds() -> None:
    with pytest.raises(BadInput, match="at least 3 seeds"):
        find([1.0, 2.0], 0.0, ABOVE)


def findings(*ps: float) -> list[Finding]:
    return [Finding(1.0, 0.5, 1.5, p, Verdict.NOT_TESTABLE if np.isnan(p) else Verdict.CONFIRMED) for p in ps]


def test_holm__keeps_the_smallest_p_values_step_by_step() -> None:
    # 0.01 <= 0.05/4, 0.015 <= 0.05/3, 0.03 > 0.05/2 and everything after it falls too
    adjusted = holm(findings(0.03, 0.01, 0.04, 0.015))
    assert [one is Verdict.CONFIRMED for one in adjusted] == [False, True, False, True]


def test_holm__leaves_what_cannot_be_tested_out_of_the_family() -> None:
    adjusted = holm(findings(0.04, float("nan")))
    assert adjusted == [Verdict.CONFIRMED, Verdict.NOT_TESTABLE]


def test_holm__never_makes_a_verdict_of_an_inconclusive_interval() -> None:
    one = Finding(1.0, 0.5, 1.5, 1e-9, Verdict.INCONCLUSIVE)
    assert holm([one]) == [Verdict.INCONCLUSIVE]
