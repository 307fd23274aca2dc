"""Steps in groups of alike distributions: where consecutive steps may share quantizers at the least loss."""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.calibration.ranges import Ranges
from simulator.calibration.steps import StepSets


def alike_steps(ranges: Ranges, steps: int, groups: int, *, roles: tuple[str, ...] = ("input",)) -> StepSets:
    """The cut of the steps into consecutive sets that loses the fewest bits by sharing bounds.

    With w_tc the width of channel c's bounds at step t, widened to hold 0 as quantizers do, and w_Gc that of the bounds
    which hold those of all steps of a set G, sharing loses

        sum over operands, and over t in G, of 1/2 log2(sum_c w_Gc^2 / sum_c w_tc^2)

    bits: uniform quantization's noise goes with the square of the width. Found exactly, by dynamic programming over
    where sets end; of equal cuts the one whose last sets are longest. More groups never lose more.

    Args:
        ranges: observed per channel, or per tensor, at every step (``steps=StepSets.each(n)``).
        steps: number of steps.
        groups: number of sets, at most ``steps``.
        roles: which operands count; the inputs of convolutions and linear layers by default.

    Raises:
        BadInput: a number below 1, more groups than steps, a step without ranges, or no operand of these roles.
    """
    require_int("steps", steps, 1)
    if require_int("groups", groups, 1) > steps:
        raise BadInput(f"groups must be at most {steps}", got=groups, fix="use one group per step")
    lost = _lost_bits(*_widened(ranges, steps, roles))
    best, ends = lost[0], []
    for _ in range(groups - 1):
        through = best[:, None] + lost  # [m, j]: the earlier sets end before m, the last is m to j
        ends.append(through.argmin(axis=0))
        best = through.min(axis=0)
    cuts, end = [steps], steps
    for start in reversed(ends):
        end = int(start[end])
        cuts.append(end)
    return StepSets.partition(*cuts[::-1])


def _widened(ranges: Ranges, steps: int, roles: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lows and highs that hold 0, (steps, channels of all operands), and where each operand's channels begin."""
    operands = sorted({(site, role) for site, role, _ in ranges.bounds if role in roles})
    if not operands:
        raise BadInput("groups of steps need operands of the roles", got=roles, fix="name roles that were observed")
    bounds = [[ranges.of(*key, step) for step in range(steps)] for key in operands]
    low, high = (
        np.concatenate([np.stack([at[side].reshape(-1) for at in own]) for own in bounds], axis=1) for side in (0, 1)
    )
    starts = np.cumsum([0, *(own[0][0].size for own in bounds[:-1])])
    return np.minimum(low, 0), np.maximum(high, 0), starts


def _lost_bits(low: np.ndarray, high: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """[i, j]: bits lost where steps i to j - 1 share bounds; infinite where i is not below j."""
    steps = len(low)
    own = np.concatenate([[np.zeros(len(starts))], np.cumsum(_log_power(high - low, starts), axis=0)])
    found = np.full((steps + 1, steps + 1), np.inf)
    for i in range(steps):
        width = np.maximum.accumulate(high[i:]) - np.minimum.accumulate(low[i:])
        shared = np.arange(1, steps - i + 1)[:, None] * _log_power(width, starts)
        found[i, i + 1 :] = (shared - (own[i + 1 :] - own[i])).sum(axis=1) / 2
    return found


def _log_power(width: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """log2 of each operand's sum of squared widths, (steps, operands); an operand that is 0 throughout has some."""
    return np.log2(np.maximum(np.add.reduceat(width**2, starts, axis=1), np.finfo(np.float64).tiny))
