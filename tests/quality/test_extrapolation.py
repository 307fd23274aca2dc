"""The extrapolated Fréchet distance is free of the bias, and its interval covers; differences are paired."""

from __future__ import annotations

import numpy as np
import pytest

from samplers.errors import BadInput
from studies.quality import Gaussians, PartGaussians, frechet_curve
from studies.quality.extrapolation import GROUPS, MOST_REPLICATED, parts_for
from studies.quality.gaussians import frechet
from studies.quality.shuffling import Role, order


def curve(x, y, **options):
    return frechet_curve(PartGaussians.of(x, **options), PartGaussians.of(y, role=Role.REFERENCE, **options))


def gaussian_curve(seed: int, n: int, d: int, scale: float):
    random = np.random.default_rng(seed)
    return curve(random.standard_normal((n, d)) * scale, random.standard_normal((n, d)))


def test_part_gaussians__are_those_of_the_parts():
    x = np.random.default_rng(0).standard_normal((103, 3)) + 7
    made = PartGaussians.of(x, parts=(1, 2))
    shuffled = x[order(103, Role.GENERATED)]
    groups = np.arange(103) % GROUPS
    for part in (0, 1):
        inside = groups % 2 == part
        for replicate, kept in ((0, inside), (1 + 4, inside & (groups != 4))):
            mean, root = made.gaussians[1].mean[replicate, part], made.gaussians[1].root[replicate, part]
            np.testing.assert_allclose(mean, shuffled[kept].mean(0), rtol=1e-12)
            np.testing.assert_allclose(root.T @ root, np.cov(shuffled[kept], rowvar=False), rtol=1e-10)


def test_curve__starts_at_the_distance_of_all_samples():
    x, y = np.random.default_rng(1).standard_normal((2, 200, 4))
    expected = frechet(Gaussians.of_features(x), Gaussians.of_features(y))
    assert curve(x, y).at_all == pytest.approx(float(expected), rel=1e-12)


def test_extrapolation__removes_the_bias_in_64_dimensions():
    """From 5 samples per dimension in the smallest part: the distance is 1.7 where the truth is 0."""
    x, y = np.random.default_rng(0).standard_normal((2, 1280, 64))
    found = curve(x, y, parts=(1, 2, 4))
    assert found.at_all > 1.5
    assert abs(float(found.interval().estimate)) < 4 * 0.041  # standard deviation over 12 other draws


@pytest.mark.parametrize("scale", [1.5, pytest.param(1.0, marks=pytest.mark.slow)])
def test_interval__covers(scale):
    """At a distance of 1 near the nominal share; at 0 more often, since there a jackknife's error is too large."""
    truth, trials = 4 * (scale - 1.0) ** 2, 200
    found = [gaussian_curve(1000 + seed, 400, 4, scale).interval() for seed in range(trials)]
    inside = np.mean([i.low <= truth <= i.high for i in found])
    assert 0.92 <= inside <= (0.985 if scale != 1.0 else 1.0)
    estimates = np.array([float(i.estimate) for i in found])
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / np.sqrt(trials)


def test_difference__is_paired():
    random = np.random.default_rng(3)
    x, y = random.standard_normal((2, 600, 4))
    a, b = curve(1.3 * x + 0.01 * random.standard_normal(x.shape), y), curve(1.3 * x, y)
    paired, alone = a.difference(b), a.interval()
    assert float(paired.standard_error) < 0.2 * float(alone.standard_error)
    same = a.difference(a)
    assert (float(same.estimate), float(same.standard_error)) == (0.0, 0.0)


def test_curve__beyond_256_dimensions_has_a_line_and_no_interval():
    x, y = np.random.default_rng(4).standard_normal((2, 400, MOST_REPLICATED + 1))
    found = curve(x, y, parts=(1, 2)).interval()
    assert np.isfinite(found.estimate)
    assert np.isnan(found.low)


def test_parts__hold_enough_samples_each():
    assert parts_for(10_000, 64) == (1, 2, 4, 5)
    assert parts_for(2560, 64) == (1, 2)
    assert parts_for(100, 64) == (1,)


def test_curve__refuses_sets_that_do_not_match():
    random = np.random.default_rng(5)
    a, b = (PartGaussians.of(random.standard_normal((n, 3))) for n in (100, 120))
    with pytest.raises(BadInput, match="equal size"):
        frechet_curve(a, b)
    with pytest.raises(BadInput, match="ascending divisors"):
        PartGaussians.of(random.standard_normal((100, 3)), parts=(1, 3))
    with pytest.raises(BadInput, match="at least 40"):
        PartGaussians.of(random.standard_normal((30, 3)))
    with pytest.raises(BadInput, match="same samples and parts"):
        frechet_curve(a, a).difference(frechet_curve(b, b))


def test_order__is_a_permutation_that_depends_on_count_and_role_alone():
    assert sorted(order(50, Role.GENERATED)) == list(range(50))
    assert order(50, Role.GENERATED).tolist() == order(50, Role.GENERATED).tolist()
    assert order(50, Role.GENERATED).tolist() != order(50, Role.REFERENCE).tolist()
    assert order(50, Role.GENERATED)[:5].tolist() != order(51, Role.GENERATED)[:5].tolist()
