"""Models whose sampling is studied: three small ones of 8x8 digits, diffusers checkpoints, and a user's own.

Importing this package does not import torch; the first use of a name below does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.models.conditioning import Conditioning
    from simulator.models.loading import load
    from simulator.models.registry import Condition, Model

_HOME = {"Condition": ".registry", "Conditioning": ".conditioning", "Model": ".registry", "load": ".loading"}
__all__ = ["Condition", "Conditioning", "Model", "load"]


def __getattr__(name: str) -> Any:
    """Import a name's module on its first use."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted(__all__)
