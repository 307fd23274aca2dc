"""Claims by name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import lru_cache

from samplers.errors import BadInput
from studies.claims import known
from studies.claims.claim import Published


@lru_cache(maxsize=1)
def claims() -> dict[str, Published]:
    """Every claim by name, in order of names; one per file of ``known``."""
    names = (f"{known.__name__}.{found.name}" for found in pkgutil.iter_modules(known.__path__))
    every = (importlib.import_module(name).CLAIM for name in names)
    return {claim.name: claim for claim in sorted(every, key=lambda claim: claim.name)}


def chosen(names: tuple[str, ...]) -> list[Published]:
    """Claims of these names, all for none.

    Raises:
        BadInput: an unknown name, or one twice.
    """
    for name in names:
        if name not in claims():
            near = difflib.get_close_matches(name, claims(), n=3) or list(claims())
            raise BadInput("there must be a claim of that name", got=repr(name), fix=f"one of {', '.join(near)}")
    if len(set(names)) < len(names):
        raise BadInput("claims must differ", got=", ".join(names), fix="name each once")
    return [claims()[name] for name in names or claims()]
