"""Models whose sampling is studied: a small UNet, a small transformer and a small latent model of 8x8 digits, by name.

Importing this package does not import torch; the first use of a name below does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.models.registry import Model, load

__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    """Import the registry on first use of one of its names."""
    if name in __all__:
        return getattr(importlib.import_module(".registry", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, for completion."""
    return sorted(__all__)
