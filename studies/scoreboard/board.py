"""What a scoreboard compares, as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from samplers.errors import BadInput
from samplers.validation import require_int
from studies.recipes.catalogue import find
from studies.recipes.recipe import Recipe
from studies.recipes.task import Bits
from studies.scoreboard.companions import SEPARATOR, Schedule, companion
from studies.scoreboard.kinds import Kind, kind_of

BASELINE = "minmax"
"""The recipe that every other one is held against."""

CONTROL = "fine-tuned"
"""The recipe that trained ones are held against as well: the same steps in full precision, quantized after."""

FEWEST_SEEDS = 3

TRAINED_SEEDS = 3
"""Of recipes that train, at most."""


@dataclass(frozen=True)
class Board:
    """Recipes x bits x subjects x seeds.

    Every seed redraws calibration data, whatever is optimised, and sampling noise; within a seed all recipes share the
    sampling noise. Recipes that train have the first three seeds alone.

    Args:
        recipes: names; ``minmax`` is added where it is missing, and ``fine-tuned`` where another recipe trains.
        bits: such as ``w4a8``.
        subjects: names of models.
        seeds: 0 to seeds - 1.
        steps: of DDIM.
        eta: of DDIM; above 0 leaves variance to absorb into.
        samples: final samples per cell, 20 per feature dimension at least.
        injected_samples: samples of the noise per step.
        batch_size: samples per forward pass.
        allow_small: fewer samples, flagged: the preset ``quick``.

    Raises:
        BadInput: an unknown recipe, bits of another form, nothing to compare, or a number that breaks its rule.
    """

    recipes: tuple[str, ...]
    bits: tuple[str, ...] = ("w8a8", "w8a6", "w4a8", "w4a4")
    subjects: tuple[str, ...] = ("digits-unet", "digits-dit")
    seeds: int = 5
    steps: int = 20
    eta: float = 1.0
    samples: int = 2048
    injected_samples: int = 256
    batch_size: int = 256
    allow_small: bool = False

    def __post_init__(self) -> None:
        if BASELINE not in self.recipes:
            object.__setattr__(self, "recipes", (BASELINE, *self.recipes))
        object.__setattr__(self, "bits", tuple(str(Bits.parse(text)) for text in self.bits))
        for name in ("recipes", "bits", "subjects"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise BadInput(f"{name} must differ, one at least", got=", ".join(values), fix="name each once")
        trained = [name for name in self.recipes if kind_of(self.recipe(name)) is Kind.TRAINED]
        if trained and CONTROL not in trained:
            object.__setattr__(self, "recipes", (*self.recipes, CONTROL))
        for name in ("steps", "samples", "injected_samples", "batch_size"):
            require_int(name, getattr(self, name), 1)
        require_int("seeds", self.seeds, FEWEST_SEEDS)

    def config(self) -> dict[str, Any]:
        """What determines a cell besides its recipe, bits, subject and seed, as plain JSON values."""
        names = ("steps", "eta", "samples", "injected_samples", "batch_size")
        return {name: getattr(self, name) for name in names} | ({"preset": "quick"} if self.allow_small else {})

    def recipe(self, name: str) -> Recipe:
        """The recipe of that name, or the companion of one; in its short form where fewer samples are allowed too."""
        base, _, schedule = name.partition(SEPARATOR)
        found = find(base).quick() if self.allow_small else find(base)
        return companion(found, Schedule(schedule)) if schedule else found

    def seeds_of(self, recipe: str) -> int:
        """How many seeds a recipe has."""
        return min(self.seeds, TRAINED_SEEDS) if kind_of(self.recipe(recipe)) is Kind.TRAINED else self.seeds

    @property
    def cells(self) -> list[Cell]:
        """Every cell but companions, which mixed recipes ask for: those of one subject and seed together, so that they
        share full precision's samples."""
        seeds = {recipe: self.seeds_of(recipe) for recipe in self.recipes}
        return [
            Cell(recipe, bits, subject, seed)
            for subject in self.subjects
            for seed in range(self.seeds)
            for bits in self.bits
            for recipe in self.recipes
            if seed < seeds[recipe]
        ]


@dataclass(frozen=True)
class Cell:
    """One recipe, or a mixed one's companion (``ptqd-mixed@uniform``), at some bits on a subject, with one seed."""

    recipe: str
    bits: str
    subject: str
    seed: int

    @property
    def companions(self) -> tuple[Cell, ...]:
        """What stands beside it where its bits are mixed; none of a companion."""
        if SEPARATOR in self.recipe:
            return ()
        return tuple(replace(self, recipe=f"{self.recipe}{SEPARATOR}{each.value}") for each in Schedule)

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.subject}-{self.seed}-{self.bits}-{self.recipe.replace(':', '.')}.nc"
