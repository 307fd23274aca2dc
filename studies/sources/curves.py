"""A quantity over the steps, or a single number, of runs that differ in their seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from studies.seeds import over_seeds
from studies.sources.groups import Group

Measure = Callable[[xr.Dataset], xr.Dataset]
"""What is measured of a run: a dataset with a variable and its ``_low`` and ``_high``."""


@dataclass(frozen=True)
class Curve:
    """Values with the ends of their intervals, NaN where there is none.

    Args:
        timestep: of each step.
        value: mean over seeds.
        low: end of the interval: over seeds where there are several, else over the one run's samples.
        high: as ``low``.
        seeds: how many.
    """

    timestep: NDArray[np.int64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    seeds: int


def curve_of(group: Group, measure: Measure, name: str) -> Curve:
    """A measured variable over the steps, with its interval.

    Args:
        group: runs of one system.
        measure: of a run, such as ``sqnr_db``.
        name: of the variable, over (step,).
    """
    found = [measure(run.dataset()) for run in group.runs]
    timestep = group.first.dataset()["timestep"].to_numpy()
    if len(found) == 1:
        value, low, high = (found[0][name + end].to_numpy() for end in ("", "_low", "_high"))
    else:
        value, low, high = over_seeds([one[name].to_numpy() for one in found])
    return Curve(timestep, value, low, high, len(found))


def intervals_of(groups: Iterable[Group]) -> str:
    """What the intervals of curves are over, for titles."""
    several = {len(group.runs) > 1 for group in groups}
    if several == {True}:
        return "95 % intervals over seeds"
    return (
        "95 % intervals over samples" if several == {False} else "95 % intervals over seeds, of one seed over samples"
    )
