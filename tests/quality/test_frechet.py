"""The Fréchet distance is that of Gaussians, loses no digits, says its scale, and refuses what its bias would rule."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from samplers.errors import BadInput
from simulator.models.distances import frechet_distance as card_distance
from studies.quality import Gaussians, Reason, frechet_distance
from studies.quality.gaussians import frechet


def random(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def test_frechet__of_diagonal_gaussians_is_the_sum_over_axes():
    a, b = np.array([1.0, 4.0, 0.25]), np.array([2.25, 1.0, 0.0])
    found = frechet(Gaussians.of_moments([0, 0, 1], np.diag(a)), Gaussians.of_moments([1, 0, -1], np.diag(b)))
    assert found == pytest.approx(1 + 4 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-14)


def test_frechet__matches_the_square_root_of_the_product():
    x, y = random(1).standard_normal((80, 6)) @ random(2).random((6, 6)), random(3).random((80, 6))
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(0) - y.mean(0)
    expected = shift @ shift + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet(Gaussians.of_features(x), Gaussians.of_features(y)) == pytest.approx(expected, rel=1e-9)
    assert card_distance(x, y) == pytest.approx(expected)


def test_frechet__keeps_its_digits_though_covariances_are_singular():
    """Between x and 2x about one mean it is the trace; a root of A B would leave 1e-8 of it for each null direction."""
    x = random(4).standard_normal((40, 3)) @ random(5).standard_normal((3, 30)) * 1e3
    x -= x.mean(0)
    once, twice = Gaussians.of_features(x), Gaussians.of_features(2 * x)
    trace = np.trace(np.cov(x, rowvar=False))
    assert frechet(once, twice) == pytest.approx(trace, rel=1e-12)
    assert frechet(once, once) <= 1e-12 * trace


def test_frechet__does_not_depend_on_where_the_origin_lies():
    x, y = random(6).standard_normal((2, 50, 4))
    here, there = (frechet(Gaussians.of_features(x + c), Gaussians.of_features(y + c)) for c in (0.0, 1e6))
    assert there == pytest.approx(float(here), rel=1e-6)


def test_frechet_distance__carries_scale_dimension_and_both_sizes():
    x, y = random(7).standard_normal((2, 100, 5))
    found = frechet_distance(x, y, features="mine@1")
    assert (found.features, found.dimension, found.x_samples, found.y_samples) == ("mine@1", 5, 100, 100)
    assert found.reason == Reason.DEFINED


def test_frechet_distance__refuses_fewer_than_20_samples_per_dimension_unless_asked():
    x, y = random(8).standard_normal((2, 99, 5))
    with pytest.raises(BadInput, match="at least 100 samples"):
        frechet_distance(x, y, features="mine")
    flagged = frechet_distance(x, y, features="mine", allow_small=True)
    assert flagged.reason == Reason.FEW_PER_DIMENSION
    assert np.isfinite(flagged.value)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (np.zeros((50, 2)), np.zeros((40, 2)), "equal size"),
        (np.zeros((50, 2)), np.zeros((50, 3)), "one dimension"),
        (np.zeros(50), np.zeros((50, 1)), "real features"),
        (np.full((50, 2), np.nan), np.zeros((50, 2)), "finite"),
        (np.zeros((1, 2)), np.zeros((1, 2)), "at least 2"),
        (np.zeros((50, 2), bool), np.zeros((50, 2)), "real features"),
    ],
)
def test_frechet_distance__refuses_what_is_no_pair_of_feature_sets(x, y, says):
    with pytest.raises(BadInput, match=says):
        frechet_distance(x, y, features="mine")


def test_naive_bootstrap__does_not_cover():
    """Two sets of 500 from one distribution in 64 dimensions: the truth is 0, the distance 4.4, and a bootstrap, whose
    sets hold copies, lies higher still, so far from the truth that its interval holds not even the biased mean."""
    x, y = random(9).standard_normal((2, 500, 64))
    value = float(frechet(Gaussians.of_features(x), Gaussians.of_features(y)))
    draws = []
    for i in range(60):
        pick = random(10, i).integers(500, size=(2, 500))
        draws.append(frechet(Gaussians.of_features(x[pick[0]]), Gaussians.of_features(y[pick[1]])))
    low = np.percentile(draws, 2.5)
    assert 4.0 < value < 4.9
    assert low > 1.5 * value
