"""Models made from models: the same task, other modules or weights, and weights of their own in every key."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

from torch import nn

from simulator.models.digest import module_digest
from simulator.models.registry import Model


def derive(model: Model, change: Callable[[nn.Module], nn.Module | None], name: str) -> Model:
    """A model whose network is a changed copy of ``model``'s.

    Args:
        model: what it derives from; left as it is.
        change: changes the copy, or returns another module in its place.
        name: of what was done, appended to the model's: it takes part in every key, as the digest of the new weights
            does.

    Returns:
        The model, in eval mode, without gradients, laid out in memory as the copy was.
    """
    module = copy.deepcopy(model.module)
    module = change(module) or module
    module.eval().requires_grad_(False)
    return dataclasses.replace(model, name=f"{model.name}+{name}", module=module, weights_digest=module_digest(module))
