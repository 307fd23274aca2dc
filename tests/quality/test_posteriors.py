"""The inception score has its closed forms, and its interval covers."""

from __future__ import annotations

import numpy as np
import pytest

from samplers.errors import BadInput
from studies.quality import inception_score, inception_score_ratio


def test_inception_score__is_1_for_equal_posteriors_and_the_classes_for_certain_balanced_ones():
    assert float(inception_score(np.full((200, 7), 1 / 7)).estimate) == pytest.approx(1.0, abs=1e-12)
    assert float(inception_score(np.eye(10)[np.arange(300) % 10]).estimate) == pytest.approx(10.0)


def test_inception_score__of_mixed_posteriors_is_the_exponential_of_their_information():
    p = np.where(np.arange(400)[:, None] % 2, [[0.9, 0.1]], [[0.1, 0.9]])
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert float(inception_score(p).estimate) == pytest.approx(np.exp(np.log(2) - entropy))


def test_interval__covers():
    random, inside, trials = np.random.default_rng(0), 0, 300
    table = np.random.default_rng(1).dirichlet(np.full(4, 0.4), size=20)
    mean = table.mean(0)
    truth = np.exp((table * np.log(table / mean)).sum(1).mean())
    for _ in range(trials):
        found = inception_score(table[random.integers(20, size=800)])
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / trials <= 0.98


def test_ratio__is_paired():
    random = np.random.default_rng(2)
    a = random.dirichlet(np.full(4, 0.4), size=500)
    b = 0.99 * a + 0.01 / 4
    found, alone = inception_score_ratio(b, a), inception_score(b)
    assert found.high < 1
    assert float(found.high - found.low) < 0.2 * float(alone.high - alone.low)
    assert float(inception_score_ratio(a, a).estimate) == 1.0


@pytest.mark.parametrize(
    "posteriors",
    [
        np.full((99, 4), 0.25),
        np.full((200, 4), 0.3),
        np.full((200, 4), np.nan),
        np.eye(4)[np.arange(200) % 4] * 2 - 0.25,
        np.zeros((200, 4), int),
    ],
)
def test_inception_score__refuses_what_are_no_posteriors(posteriors):
    with pytest.raises(BadInput, match="posteriors must be"):
        inception_score(posteriors)
