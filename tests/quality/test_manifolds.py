"""Precision and recall are shares inside k-nearest-neighbour balls, closed, in each direction."""

from __future__ import annotations

import numpy as np
import pytest

from samplers.errors import BadInput
from studies.quality import precision_recall


def test_precision_recall__of_a_set_with_itself_and_with_one_far_away():
    x = np.random.default_rng(0).standard_normal((60, 5))
    assert precision_recall(x, x)[:2] == (1.0, 1.0)
    assert precision_recall(x, x + 100)[:2] == (0.0, 0.0)


def test_precision__is_high_and_recall_low_where_half_of_the_modes_are_missing():
    random = np.random.default_rng(1)
    modes = np.array([[0.0, 0.0], [50.0, 0.0]])
    reference = modes[np.arange(200) % 2] + random.standard_normal((200, 2))
    generated = modes[0] + random.standard_normal((200, 2))
    found = precision_recall(generated, reference)
    assert found.precision > 0.9
    assert 0.4 <= found.recall <= 0.5


def test_balls__are_closed_and_as_wide_as_the_kth_other_sample():
    reference = np.array([[0.0], [1.0], [3.0], [7.0]])  # k = 2: radii 3, 2, 3, 6
    generated = np.array([[-3.0], [5.9], [13.0], [13.1]])
    found = precision_recall(generated, reference, neighbours=2)
    assert found.precision == 3 / 4  # -3 and 13 lie on the rim
    # radii of the generated: 16, 7.2, 7.1, 7.2 -> balls [-19, 13], [-1.3, 13.1], ...
    assert found.recall == 1.0


def test_copies__lie_in_balls_of_radius_0():
    reference = np.repeat(np.random.default_rng(2).standard_normal((10, 8)) * 1e3, 4, axis=0)
    assert precision_recall(reference[::-1].copy(), reference)[:2] == (1.0, 1.0)
    assert precision_recall(reference + 1e-6, reference).precision == 0.0


def test_precision_recall__matches_brute_force_across_chunks():
    random = np.random.default_rng(3)
    a, b = random.standard_normal((700, 3)), random.standard_normal((700, 3)) + 0.5

    def share(points, centres):
        own = np.sort(np.linalg.norm(centres[:, None] - centres[None], axis=2), axis=1)[:, 3]
        return (np.linalg.norm(points[:, None] - centres[None], axis=2) <= own).any(1).mean()

    found = precision_recall(a, b)
    assert (found.precision, found.recall) == (share(a, b), share(b, a))


def test_precision_recall__refuses_unequal_sizes_and_too_few():
    x = np.random.default_rng(4).standard_normal((10, 2))
    with pytest.raises(BadInput, match="equal size"):
        precision_recall(x, x[:9])
    with pytest.raises(BadInput, match="more than 3"):
        precision_recall(x[:3], x[:3])
    with pytest.raises(BadInput, match="neighbours must be"):
        precision_recall(x, x, neighbours=0)
