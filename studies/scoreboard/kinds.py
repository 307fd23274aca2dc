"""What sort of method a recipe is, by the stages that it has."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from studies.recipes.recipe import Recipe


class Kind(Enum):
    """Sorts of methods, the costliest stage deciding."""

    CALIBRATED = "calibrated"
    """Ranges, schemes and transforms alone."""
    CORRECTED = "corrected"
    """A correction of the network's output or of the sampler."""
    RECONSTRUCTED = "reconstructed"
    """Roundings or scales optimised, unit by unit."""
    TRAINED = "trained"
    """The network trained further."""


_STAGES = {"training": Kind.TRAINED, "reconstruction": Kind.RECONSTRUCTED, "correction": Kind.CORRECTED}


def kind_of(recipe: Recipe) -> Kind:
    """The kind of a recipe; a companion's is its recipe's."""
    names = set(_names(recipe.config()))
    return next((kind for stage, kind in _STAGES.items() if stage in names), Kind.CALIBRATED)


def _names(config: dict[str, Any]) -> Iterator[str]:
    for stage in config["stages"]:
        yield stage["stage"]
        if "stages" in stage:
            yield from _names(stage)
