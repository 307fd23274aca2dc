"""Why a number is missing, or should not be trusted: stored beside every distance."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Reason(IntEnum):
    """Codes, kept in files."""

    DEFINED = 0
    """Nothing is wrong."""
    FEW_PER_DIMENSION = 1
    """There is a number, from fewer than 20 samples per feature dimension in a set or part: its bias may rule it."""
    TOO_FEW = 2
    """NaN: too few samples for the method."""
    NOT_COMPARED = 3
    """NaN: this pair is not asked for."""
    NO_FEATURES = 4
    """NaN: the features have no spatial part, or no posteriors."""
    NO_INTERVAL = 5
    """There is a number without an interval, which would take too long in so many dimensions."""


def flag_attrs(of: str) -> dict[str, object]:
    """Attributes of a variable of codes, in the CF conventions' form."""
    return {
        "units": "1",
        "long_name": f"what is wrong with {of}",
        "flag_values": np.array([reason.value for reason in Reason], np.int8),
        "flag_meanings": " ".join(reason.name.lower() for reason in Reason),
    }
