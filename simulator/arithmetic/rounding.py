"""Rounding modes, in their normative scalar form.

Real numbers here are exact: :func:`round_exact` takes a :class:`fractions.Fraction`, so no float can hide a tie.
The compiled twins in ``kernels/quantize.py`` are tested against it bit for bit.
"""

from __future__ import annotations

import math
from enum import Enum
from fractions import Fraction

HALF = Fraction(1, 2)


class Rounding(Enum):
    """How a real number becomes an integer. Values are the codes that the kernels switch on."""

    HALF_EVEN = 0
    """To nearest, ties to the even integer (IEEE 754 default; ``rint``)."""
    HALF_AWAY = 1
    """To nearest, ties away from zero (C ``round``)."""


def round_exact(value: Fraction, rounding: Rounding) -> int:
    """Round an exact rational to an integer.

    >>> [round_exact(Fraction(n, 2), Rounding.HALF_EVEN) for n in (-5, -3, 3, 5)]
    [-2, -2, 2, 2]
    >>> [round_exact(Fraction(n, 2), Rounding.HALF_AWAY) for n in (-5, -3, 3, 5)]
    [-3, -2, 2, 3]
    """
    if rounding is Rounding.HALF_EVEN:
        return round(value)
    magnitude = math.floor(abs(value) + HALF)
    return -magnitude if value < 0 else magnitude
