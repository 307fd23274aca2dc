"""The card's distances vanish for equal distributions, match closed forms, and are unbiased where they say so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from simulator.models.denoising import generator
from simulator.models.distances import energy_distance, frechet_distance, nearest_distances, pairwise, pixel_rows


def test_frechet_distance__is_zero_between_a_set_and_itself():
    rows = generator(1).standard_normal((60, 7))
    assert abs(frechet_distance(rows, rows)) < 1e-10


def test_frechet_distance__is_the_squared_shift_for_a_translation():
    rows = generator(2).standard_normal((60, 7))
    assert frechet_distance(rows, rows + 0.5) == pytest.approx(7 * 0.25)


def test_frechet_distance__matches_the_textbook_square_root():
    a, b = generator(3).standard_normal((80, 5)), generator(4).random((90, 5))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = a.mean(0) - b.mean(0)
    expected = shift @ shift + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_frechet_distance__takes_constant_pixels():
    a, b = generator(5).random((30, 4)), generator(6).random((30, 4))
    a[:, 2], b[:, 2] = 0.0, 1.0
    assert frechet_distance(a, b) == pytest.approx(1.0 + frechet_distance(a[:, [0, 1, 3]], b[:, [0, 1, 3]]))


def test_energy_distance__matches_the_double_sum():
    a, b = generator(7).random((6, 3)), generator(8).random((5, 3))
    between = np.mean([np.linalg.norm(x - y) for x in a for y in b])

    def within(rows):
        return np.mean(
            [np.linalg.norm(rows[i] - rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        )

    assert energy_distance(a, b) == pytest.approx(2 * between - within(a) - within(b))


def test_energy_distance__has_mean_zero_for_equal_distributions():
    found = [energy_distance(*generator(9, i).standard_normal((2, 20, 4))) for i in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_nearest_distances__match_brute_force():
    a, b = generator(10).random((9, 4)), generator(11).random((12, 4))
    brute = np.linalg.norm(a[:, None] - b[None], axis=2)
    np.testing.assert_allclose(pairwise(a, b), brute, rtol=1e-12)
    np.testing.assert_allclose(nearest_distances(a, b), brute.min(axis=1), rtol=1e-12)


def test_pixel_rows__map_to_zero_one_and_clip():
    images = np.array([-1.5, -1.0, 0.0, 1.0, 2.0], dtype=np.float32).reshape(1, 1, 1, 5)
    assert pixel_rows(images).tolist() == [[0.0, 0.0, 0.5, 1.0, 1.0]]
