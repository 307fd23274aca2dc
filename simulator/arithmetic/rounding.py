"""Rounding modes, in their normative scalar form.

Real numbers here are exact: :func:`round_exact` takes a :class:`fractions.Fraction`, so no float can hide a tie.
The compiled twins in ``kernels/rounding.py`` are tested against it bit for bit.
"""

from __future__ import annotations

import math
from enum import Enum
from fractions import Fraction

from samplers.errors import BadInput

HALF = Fraction(1, 2)


class Rounding(Enum):
    """How a real number becomes an integer. Values are the codes that the kernels switch on.

    ==============  ====  ====  ====  ====  ====  ====
    mode            -2.5  -1.6  -1.5   1.5   1.6   2.5
    ==============  ====  ====  ====  ====  ====  ====
    HALF_EVEN         -2    -2    -2     2     2     2
    HALF_AWAY         -3    -2    -2     2     2     3
    HALF_UP           -2    -2    -1     2     2     3
    HALF_DOWN         -3    -2    -2     1     2     2
    TOWARD_ZERO       -2    -1    -1     1     1     2
    FLOOR             -3    -2    -2     1     1     2
    CEIL              -2    -1    -1     2     2     3
    ==============  ====  ====  ====  ====  ====  ====

    (A test holds the table.)
    """

    HALF_EVEN = 0
    """To nearest, ties to the even integer (IEEE 754 default; ``rint``)."""
    HALF_AWAY = 1
    """To nearest, ties away from zero (C ``round``)."""
    HALF_UP = 2
    """To nearest, ties toward plus infinity (``floor(x + 1/2)`` in exact arithmetic)."""
    HALF_DOWN = 3
    """To nearest, ties toward minus infinity."""
    TOWARD_ZERO = 4
    """Truncation."""
    FLOOR = 5
    """Toward minus infinity."""
    CEIL = 6
    """Toward plus infinity."""
    STOCHASTIC = 7
    """Away from zero with the probability of the dropped fraction, up to 2**-32; see :func:`random_word`."""


def round_exact(value: Fraction, rounding: Rounding, word: int = 0) -> int:
    """Round an exact rational to an integer.

    Args:
        value: the number.
        rounding: the mode.
        word: for STOCHASTIC, 32 random bits: the magnitude is rounded up iff ``word < fraction * 2**32``.

    >>> [round_exact(Fraction(n, 2), Rounding.HALF_EVEN) for n in (-5, -3, 3, 5)]
    [-2, -2, 2, 2]
    >>> [round_exact(Fraction(n, 2), Rounding.HALF_AWAY) for n in (-5, -3, 3, 5)]
    [-3, -2, 2, 3]
    """
    match rounding:
        case Rounding.HALF_EVEN:
            return round(value)
        case Rounding.HALF_UP:
            return math.floor(value + HALF)
        case Rounding.HALF_DOWN:
            return math.ceil(value - HALF)
        case Rounding.TOWARD_ZERO:
            return math.trunc(value)
        case Rounding.FLOOR:
            return math.floor(value)
        case Rounding.CEIL:
            return math.ceil(value)
    magnitude = abs(value)
    whole = math.floor(magnitude)
    part = magnitude - whole
    away = part >= HALF if rounding is Rounding.HALF_AWAY else word < part * 2**32
    return -(whole + away) if value < 0 else whole + away


def random_word(seed: int, index: int) -> int:
    """The 32 random bits of element ``index``: first word of Philox 4x32-10 (Salmon et al. 2011).

    Key: the seed's low and high 32 bits; counter: the index's low and high 32 bits, then zeros. It depends on nothing
    else, so stochastic rounding gives the same codes for any thread count, order or split.

    Args:
        seed: 0 to 2**64 - 1.
        index: 0 to 2**64 - 1, the element's position in C order.

    Raises:
        BadInput: out of range.
    """
    for name, number in (("seed", seed), ("index", index)):
        if not 0 <= number < 2**64:
            raise BadInput(f"{name} must lie in 0..2**64-1", got=number, fix="use such an integer")
    low, mask = index & 0xFFFFFFFF, 0xFFFFFFFF
    counter = [low, index >> 32, 0, 0]
    key = [seed & mask, seed >> 32]
    for _ in range(10):
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [
            (second >> 32) ^ counter[1] ^ key[0],
            second & mask,
            (first >> 32) ^ counter[3] ^ key[1],
            first & mask,
        ]
        key = [(key[0] + 0x9E3779B9) & mask, (key[1] + 0xBB67AE85) & mask]
    return counter[0]
