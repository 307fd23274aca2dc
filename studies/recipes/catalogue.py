"""Recipes by name: those that are shipped, and a user's own as ``module:RECIPE``."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import lru_cache

from samplers.errors import BadInput
from studies.recipes import known
from studies.recipes.recipe import Recipe


@lru_cache(maxsize=1)
def shipped() -> dict[str, Recipe]:
    """Every shipped recipe by name, in order of names; one per file of ``known``."""
    files = (
        importlib.import_module(f"{known.__name__}.{found.name}") for found in pkgutil.iter_modules(known.__path__)
    )
    return {recipe.name: recipe for recipe in sorted((file.RECIPE for file in files), key=lambda recipe: recipe.name)}


def find(name: str) -> Recipe:
    """A recipe: ``ptqd``, or ``module:NAME`` for one of your own.

    Raises:
        BadInput: no such recipe.
    """
    if ":" in name:
        return _own(name)
    if name not in shipped():
        near = difflib.get_close_matches(name, shipped(), n=3) or list(shipped())
        raise BadInput("there must be a recipe of that name", got=repr(name), fix=f"one of {', '.join(near)}")
    return shipped()[name]


def _own(name: str) -> Recipe:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise BadInput("a recipe of your own is written module:NAME", got=f"{name} ({error})", fix="check it") from None
    if not isinstance(found, Recipe):
        raise BadInput("a recipe of your own must be a Recipe", got=type(found).__name__, fix=f"make {name} one")
    return found
