"""KID is unbiased, also for differences, and its interval covers where distributions are equal, near and apart."""

from __future__ import annotations

import numpy as np
import pytest

from samplers.errors import BadInput
from studies.quality import kernel_distance, kernel_distance_difference
from studies.quality.kid import BLOCKS, LEAST, squared_discrepancy


def clusters(seed: int, n: int, shift: float) -> np.ndarray:
    """Ten clusters in 16 dimensions, non-negative as pooled features are."""
    random = np.random.default_rng([seed, 1])
    centres = 2 * np.random.default_rng(5).random((10, 16)) * (np.random.default_rng(6).random((10, 16)) < 0.4)
    return np.abs(centres[random.integers(10, size=n)] + 0.3 * random.standard_normal((n, 16))) + shift


def test_squared_discrepancy__is_the_double_sum():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((6, 3)), random.standard_normal((5, 3))

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    within = [np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (x, y)]
    between = np.mean([k(a, b) for a in x for b in y])
    assert squared_discrepancy(x, y) == pytest.approx(sum(within) - 2 * between, rel=1e-12)


def test_squared_discrepancy__has_the_closed_form_as_its_mean():
    """d = 1: k(a, b) = sum of binomials times a^i b^i, so the discrepancy is that of the first three moments."""
    truth = 3 * 0.5**2 + 3 * (0.5**2) ** 2 + (0.5**3 + 3 * 0.5) ** 2
    found = []
    for seed in range(2000):
        random = np.random.default_rng([7, seed])
        found.append(squared_discrepancy(random.standard_normal((40, 1)) + 0.5, random.standard_normal((30, 1))))
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(len(found))


def test_kernel_distance__of_equal_distributions_is_0_in_the_mean_at_any_sizes():
    found = [kernel_distance(clusters(i, 200, 0.0), clusters(i + 10_000, 333, 0.0)).estimate for i in range(150)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
    assert min(found) < 0 < max(found)


@pytest.mark.parametrize("shift", [0.0, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.03, 0.1))])
def test_interval__covers_95_percent(shift):
    truth, found, trials = 0.0, [], 400
    if shift:
        big = [squared_discrepancy(clusters(i, 3000, shift), clusters(i + 10_000, 3000, 0.0)) for i in range(8)]
        truth = float(np.mean(big))
    for i in range(trials):
        found.append(kernel_distance(clusters(i, 320, shift), clusters(i + 10_000, 320, 0.0)))
    inside = np.mean([each.low <= truth <= each.high for each in found])
    assert 0.92 <= inside <= 0.98
    error = np.mean([each.standard_error**2 for each in found]) / np.var([each.estimate for each in found])
    assert abs(error - 1) < 4 * np.sqrt(2 / trials)


def test_difference__is_paired_and_unbiased():
    x, y = clusters(1, 800, 0.0), clusters(2, 700, 0.0)
    moved = x + 0.02
    paired, alone = kernel_distance_difference(moved, x, y), kernel_distance(moved, y)
    assert paired.estimate == pytest.approx(alone.estimate - kernel_distance(x, y).estimate, abs=1e-12)
    assert paired.standard_error < 0.7 * alone.standard_error
    same = kernel_distance_difference(x, x, y)
    assert (same.estimate, same.standard_error) == (0.0, 0.0)


def test_blocks__do_not_follow_the_order_of_samples():
    """Samples that take ten classes in turn: blocks cut as they come would hold one class each, and not the same."""
    classes = np.arange(2000) % BLOCKS
    x, y = np.eye(10)[[classes, (classes + 1) % 10]] + 0.1 * np.random.default_rng(1).standard_normal((2, 2000, 10))
    found = kernel_distance(x, y)
    assert abs(found.estimate) < 4 * found.standard_error < 0.02


def test_kernel_distance__says_sizes_and_refuses_too_few():
    x, y = clusters(3, 250, 0.0), clusters(4, 300, 0.0)
    assert kernel_distance(x, y)[4:] == (250, 300)
    with pytest.raises(BadInput, match=f"at least {LEAST}"):
        kernel_distance(x[: LEAST - 1], y)
    with pytest.raises(BadInput, match="one shape"):
        kernel_distance_difference(x, x[:-1], y)
    with pytest.raises(BadInput, match="between 0 and 1"):
        kernel_distance(x, y, confidence=1.0)
