"""The two optimisations of a unit: which weights are rounded up, and which scales its activations get."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from simulator.calibration.reconstruction.grid import WeightGrid
from simulator.calibration.reconstruction.problem import Problem
from simulator.calibration.reconstruction.settings import LARGEST_RISE, RISE_ITERATIONS, LearnRoundings, LearnScales
from simulator.calibration.reconstruction.soft_rounding import (
    alpha_of,
    hard_rounding,
    regularizer,
    soft_rounding,
    temperature,
)
from simulator.instrument.storage import Stored


@dataclass(frozen=True)
class UnitLog:
    """What reconstruction did to one unit.

    Attributes:
        phase: ``"roundings"`` of weights or ``"scales"`` of activations.
        unit: its name.
        sites: its contractions.
        before: loss over all samples without the regularizer, weights rounded to nearest (scales as calibrated).
        learned: of what was learned, hard; None where it diverged.
        after: of what was kept, the smaller of both.
        kept: ``"learned"``, or ``"nearest"`` (``"calibrated"``) where learning did not help.
        flipped: share of the unit's weights whose kept code is not the nearest.
        diverged: the loss of an iteration was not finite, or the mean of ``RISE_ITERATIONS`` was above ``LARGEST_RISE``
            times ``before``.
        iterations: that ran.
    """

    phase: str
    unit: str
    sites: tuple[str, ...]
    before: float
    learned: float | None
    after: float
    kept: str
    flipped: float
    diverged: bool
    iterations: int

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "sites": list(self.sites)}


Named = tuple[str, tuple[str, ...]]
"""A unit's name and sites."""


def learn_roundings(
    named: Named,
    problem: Problem,
    grids: Mapping[Stored, WeightGrid],
    learn: LearnRoundings,
    generator: torch.Generator,
    tick: Callable[[int], None],
) -> tuple[dict[Stored, Tensor], UnitLog]:
    """Codes (float32 integers) of a unit's weights, never worse than the nearest on the problem's own loss.

    Adam moves the alphas from where the soft weights are the float ones. At the end h is hard, and the codes are kept
    if their loss over all samples is at most that of the nearest codes.
    """
    nearest = {key: grid.nearest for key, grid in grids.items()}
    before = problem.total(_values(grids, nearest))
    alphas = {key: alpha_of(grid.fraction).requires_grad_() for key, grid in grids.items()}
    optimizer = torch.optim.Adam(list(alphas.values()), lr=learn.learning_rate)
    weights = sum(grid.nearest.numel() for grid in grids.values())
    rose, diverged, done = Rise(before), not math.isfinite(before), 0
    while done < learn.iterations and not diverged and before > 0:
        index = problem.draw(learn.batch_size, generator)
        up = {key: soft_rounding(alpha) for key, alpha in alphas.items()}
        soft = {key: grid.values(grid.codes(up[key])) for key, grid in grids.items()}
        error = problem.error(index, soft, generator)
        diverged = rose(error)
        loss = error if learn.error_unit == "absolute" else error * (weights / before)
        b = temperature(done, learn.iterations, learn.warm_up, learn.b)
        if b is not None:
            loss = loss + learn.regularizer * torch.stack([regularizer(h, b) for h in up.values()]).sum()
        if not diverged:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        done += 1
        tick(done)
    codes, learned = nearest, None
    if not diverged:
        hard = {key: grid.codes(hard_rounding(alphas[key].detach())) for key, grid in grids.items()}
        found = problem.total(_values(grids, hard))
        diverged = not math.isfinite(found)
        learned = None if diverged else found
        if learned is not None and learned <= before:
            codes = hard
    flips = sum(int((codes[key] != nearest[key]).sum()) for key in grids)
    kept = learned if codes is not nearest and learned is not None else before
    name = "nearest" if codes is nearest else "learned"
    return codes, UnitLog("roundings", *named, before, learned, kept, name, flips / weights, diverged, done)


def learn_scales(
    named: Named,
    problem: Problem,
    parameters: Sequence[Tensor],
    learn: LearnScales,
    generator: torch.Generator,
    tick: Callable[[int], None],
) -> UnitLog:
    """Change ``parameters`` in place; back to what they were if the loss over all samples does not fall."""
    start = [parameter.detach().clone() for parameter in parameters]
    before = problem.total({})
    optimizer = torch.optim.Adam(list(parameters), lr=learn.learning_rate)
    rose, diverged, done = Rise(before), not math.isfinite(before), 0
    while done < learn.iterations and not diverged and before > 0:
        for group in optimizer.param_groups:
            group["lr"] = learn.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done / learn.iterations))
        error = problem.error(problem.draw(learn.batch_size, generator), {}, generator)
        diverged = rose(error)
        if not diverged:
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        done += 1
        tick(done)
    found = math.nan if diverged else problem.total({})
    diverged = diverged or not math.isfinite(found)
    learned = None if diverged else found
    kept = learned is not None and learned < before
    if not kept:
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
    after = learned if kept and learned is not None else before
    name = "learned" if kept else "calibrated"
    return UnitLog("scales", *named, before, learned, after, name, 0.0, diverged, done)


class Rise:
    """Whether learning has diverged: a loss that is not finite, or a mean over ``RISE_ITERATIONS`` far above the start.

    One batch says nothing: a few samples whose operands are clipped can carry most of a unit's loss.

    Args:
        before: the loss over all samples at the start.
    """

    def __init__(self, before: float) -> None:
        self._before = before
        self._last: deque[float] = deque(maxlen=RISE_ITERATIONS)

    def __call__(self, error: Tensor) -> bool:
        """Given the loss of one iteration more."""
        value = float(error.detach())
        self._last.append(value)
        full = len(self._last) == RISE_ITERATIONS
        return not math.isfinite(value) or (full and fmean(self._last) > LARGEST_RISE * self._before)


def _values(grids: Mapping[Stored, WeightGrid], codes: Mapping[Stored, Tensor]) -> dict[Stored, Tensor]:
    return {key: grid.values(codes[key]) for key, grid in grids.items()}
