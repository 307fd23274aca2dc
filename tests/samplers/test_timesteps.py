"""Claim: each spacing visits the timesteps of its formula, descending and inside the schedule, or says why not."""

import numpy as np
import pytest

from samplers import BadInput
from samplers.timesteps import timesteps


@pytest.mark.parametrize(
    ("spacing", "count", "total", "offset", "expected"),
    [
        ("leading", 4, 10, 0, [6, 4, 2, 0]),
        ("leading", 4, 10, 1, [7, 5, 3, 1]),
        ("leading", 10, 10, 0, list(range(9, -1, -1))),
        ("trailing", 4, 10, 0, [9, 7, 4, 1]),  # round(10, 7.5, 5, 2.5) = 10, 8, 5, 2: ties to even
        ("trailing", 5, 10, 3, [9, 7, 5, 3, 1]),  # the offset acts on leading alone
        ("linspace", 4, 10, 0, [9, 6, 3, 0]),
        ("linspace", 3, 10, 0, [9, 4, 0]),  # round(4.5) = 4: ties to even
        ("linspace", 1, 10, 0, [0]),
        ("trailing", 1, 10, 0, [9]),
    ],
)
def test_timesteps__follow_the_formula(spacing: str, count: int, total: int, offset: int, expected: list[int]) -> None:
    chosen = timesteps(spacing, count, total, offset)
    assert chosen.dtype == np.int64
    assert not chosen.flags.writeable
    assert chosen.tolist() == expected


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_timesteps__are_strictly_descending_and_inside_for_every_count(spacing: str) -> None:
    refused = 0
    for count in range(1, 301):
        try:
            chosen = timesteps(spacing, count, 300)
        except BadInput:
            refused += 1
            continue
        assert len(chosen) == count
        assert np.all(np.diff(chosen) < 0)
        assert 0 <= chosen[-1] <= chosen[0] < 300
    # Only trailing's floating-point form can step past the end.
    assert refused == 0 or spacing == "trailing"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("leading", 0, 1000), "num_inference_steps must be an integer of at least 1, got 0"),
        (("leading", -3, 1000), "num_inference_steps"),
        (("leading", 2.0, 1000), "num_inference_steps"),
        (("linspace", 1001, 1000), "must not exceed num_train_timesteps, got 1001 steps of 1000; use at most 1000"),
        (("karras", 10, 1000), "one of leading, trailing, linspace, got 'karras'"),
        (("leading", 10, 1000, 100), "must lie in 0..999, got 1000"),
        (("leading", 10, 1000, -1), "steps_offset must be an integer of at least 0, got -1"),
        (("trailing", 61, 1000), "must lie in 0..999, got -1"),
        (("leading", 1, 0), "num_train_timesteps"),
    ],
)
def test_timesteps__refuse_bad_input(arguments: tuple, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        timesteps(*arguments)
