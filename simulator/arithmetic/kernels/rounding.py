"""Compiled rounding of a float32 to an integral float32; ``simulator.arithmetic.rounding`` has the normative form.

``x - trunc(x)`` is exact for every float32, so each mode decides on the exact fraction.
"""

from __future__ import annotations

import numpy as np

from simulator.arithmetic.kernels.accelerate import kernel

# values of the enum Rounding
HALF_EVEN, HALF_AWAY, HALF_UP, HALF_DOWN, TOWARD_ZERO, FLOOR, CEIL, STOCHASTIC = range(8)

ONE_HALF = np.float32(0.5)
ONE = np.float32(1.0)
_LOW_WORD = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@kernel
def philox_word(seed, index):
    """First word of Philox 4x32-10 for a 64-bit key and a 64-bit counter; words are kept in uint64."""
    key0, key1 = seed & _LOW_WORD, seed >> _HIGH
    c0, c1, c2, c3 = index & _LOW_WORD, index >> _HIGH, np.uint64(0), np.uint64(0)
    for _ in range(10):
        first, second = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (second >> _HIGH) ^ c1 ^ key0,
            second & _LOW_WORD,
            (first >> _HIGH) ^ c3 ^ key1,
            first & _LOW_WORD,
        )
        key0, key1 = (key0 + _STEPS[0]) & _LOW_WORD, (key1 + _STEPS[1]) & _LOW_WORD
    return c0


@kernel
def round_float32(x, rounding, seed, index):
    """Round ``x``; ``seed`` and ``index`` (uint64) matter for STOCHASTIC only. NaN and infinities stay."""
    if rounding == HALF_EVEN:
        return np.rint(x)
    if rounding == FLOOR:
        return np.floor(x)
    if rounding == CEIL:
        return np.ceil(x)
    whole = np.trunc(x)
    if rounding == TOWARD_ZERO:
        return whole
    part = x - whole
    if rounding == HALF_AWAY:
        away = np.abs(part) >= ONE_HALF
    elif rounding == HALF_UP:
        away = part >= ONE_HALF or part < -ONE_HALF
    elif rounding == HALF_DOWN:
        away = part > ONE_HALF or part <= -ONE_HALF
    else:  # the product is exact: a fraction of 24 bits times a power of two
        away = np.float64(philox_word(seed, index)) < np.float64(np.abs(part)) * 4294967296.0
    return whole + np.copysign(ONE, x) if away else whole
