"""Claim: steps are cut where sharing bounds loses the fewest bits of all cuts, by the widths of ranges that hold 0."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.calibration.intervals.step_groups import alike_steps
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import StepSets
from simulator.instrument.sites import SiteKey


def observed(*operands) -> Ranges:
    """Ranges of every step from (steps, channels) lows and highs of each operand."""
    steps = StepSets.each(len(operands[0][0]))
    bounds = {
        (SiteKey(f"layer{i}", "linear"), "input", s.name): (low[n][None], high[n][None])
        for i, (low, high) in enumerate(operands)
        for n, s in enumerate(steps.sets)
    }
    return Ranges(bounds, {}, steps)


def sets(found: StepSets) -> list[tuple[int, ...]]:
    return [s.serves for s in found.sets]


def lost(operands, first: int, end: int) -> float:
    """Bits that steps first..end-1 lose by sharing, term by term."""
    total = 0.0
    for low, high in operands:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        shared = sum((high[first:end, c].max() - low[first:end, c].min()) ** 2 for c in range(low.shape[1]))
        total += sum(0.5 * np.log2(shared / ((high[t] - low[t]) ** 2).sum()) for t in range(first, end))
    return total


@pytest.mark.parametrize("groups", [1, 2, 3, 5, 7])
def test_alike_steps__lose_no_more_than_any_other_cut(groups) -> None:
    rng = np.random.default_rng(groups)
    low = [np.cumsum(rng.normal(size=(7, channels)), axis=0) for channels in (1, 3)]
    operands = [(each, each + rng.exponential(3.0, each.shape)) for each in low]
    found = sets(alike_steps(observed(*operands), 7, groups))
    assert [step for one in found for step in one] == list(range(7))
    assert len(found) == groups

    def cost(cut) -> float:
        return sum(lost(operands, a, b) for a, b in pairwise(cut))

    least = min(cost((0, *inner, 7)) for inner in combinations(range(1, 7), groups - 1))
    own = cost((0, *(one[-1] + 1 for one in found)))
    assert own == pytest.approx(least, rel=1e-12, abs=1e-12)


def test_alike_steps__are_cut_where_ranges_change() -> None:
    wide = np.array([8.0, 8, 8, 8, 8, 1, 1, 1])[:, None]
    assert sets(alike_steps(observed((-wide, wide)), 8, 2)) == [(0, 1, 2, 3, 4), (5, 6, 7)]
    far = np.full((8, 1), 5.0), np.full((8, 1), 6.0)  # ranges hold 0, so where the low end moves does not matter
    far[0][3:] = 1.0
    assert sets(alike_steps(observed(far, (-wide, wide)), 8, 2)) == [(0, 1, 2, 3, 4), (5, 6, 7)]


def test_alike_steps__of_an_operand_that_is_0_do_not_count_it() -> None:
    wide = np.array([8.0, 8, 1, 1])[:, None]
    zero = np.zeros((4, 2))
    assert sets(alike_steps(observed((zero, zero), (-wide, wide)), 4, 2)) == [(0, 1), (2, 3)]


def test_alike_steps__refuse_bad_input() -> None:
    wide = np.ones((2, 1))
    for steps, groups, says in ((2, 3, "at most 2"), (2, 0, "groups"), (3, 1, "step sets")):
        with pytest.raises(BadInput, match=says):
            alike_steps(observed((-wide, wide)), steps, groups)
    with pytest.raises(BadInput, match="operands of the roles"):
        alike_steps(observed((-wide, wide)), 2, 1, roles=("query",))
