"""Schemes: which site gets what, as Python values, as short strings and as TOML."""

from __future__ import annotations

from simulator.instrument.scheme.scheme import Rule, Scheme
from simulator.instrument.scheme.settings import (
    BLOCKS,
    DEFAULTS,
    ActivationRange,
    ProbabilityFormat,
    Settings,
    WeightGranularity,
)

__all__ = [
    "BLOCKS",
    "DEFAULTS",
    "ActivationRange",
    "ProbabilityFormat",
    "Rule",
    "Scheme",
    "Settings",
    "WeightGranularity",
]
