"""Schemes on networks that are changed before their ranges are found."""

from __future__ import annotations

from studies.claims.claim import Setting
from studies.recipes.recipe import Recipe, Source, Stage
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.scheme import UseScheme


def transformed(name: str, scheme: str, setting: Setting, *stages: Stage) -> Recipe:
    """A scheme with min-max ranges, on the network that stages before them make."""
    every = (UseScheme(scheme), *stages, TrajectoryRanges(setting.calibration_samples))
    return Recipe(name, name, Source("", "", ""), every)
