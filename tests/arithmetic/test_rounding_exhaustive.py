"""Claim: on every float32 bit pattern the compiled quantizers give the code and the clip count of integer arithmetic.

:func:`integer_code` sees sign, exponent and mantissa fields only: shifts, masks and comparisons of integers, no float
operation. All 2**32 patterns for the three modes that hardware has (slow), and a stratum of them for every mode: each
sign and exponent with the mantissas at which a mode can change its mind.
"""

from __future__ import annotations

import numba
import numpy as np
import pytest

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.kernels import quantize as kernels
from simulator.arithmetic.kernels import rules as rule_kernels
from simulator.arithmetic.kernels.rounding import philox_word
from simulator.arithmetic.rounding import Rounding
from simulator.arithmetic.rules import QUANTIZE_RULES, Conversion, ZeroPoint

pytestmark = pytest.mark.usefixtures("one_thread")

EVEN, AWAY, UP, DOWN, TOWARD_ZERO, FLOOR, CEIL, STOCHASTIC = (mode.value for mode in Rounding)
BYTE, WIDE = IntFormat(8), IntFormat(16, signed=False)
BYTE_ZERO, WIDE_ZERO = -3, 1000
CHUNK = 1 << 22
FAR = 1 << 40
SEED = 2**63 + 99
EXHAUSTIVE = (Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.TOWARD_ZERO)


@numba.njit
def integer_code(bits, mode, word, zero, low, high):
    """``(code, clipped)`` of a float32 pattern under scale 1, from its three fields."""
    negative, field, mantissa = bits >> 31, (bits >> 23) & 0xFF, bits & 0x7FFFFF
    if field == 255 and mantissa != 0:
        return low, 1
    if field == 255:
        magnitude = FAR
    else:
        significand = mantissa if field == 0 else mantissa | 1 << 23
        right = 150 - max(field, 1)  # the value is significand / 2**right
        if right <= 0:
            magnitude = significand << min(-right, 16)
        else:
            right = min(right, 60)  # the significand is below 2**24: nothing changes beyond
            magnitude = significand >> right
            rest, half = significand & ((1 << right) - 1), 1 << (right - 1)
            if mode == EVEN:
                away = rest > half or (rest == half and (magnitude & 1) == 1)
            elif mode == AWAY:
                away = rest >= half
            elif mode == UP:
                away = rest > half or (rest == half and negative == 0)
            elif mode == DOWN:
                away = rest > half or (rest == half and negative == 1)
            elif mode == TOWARD_ZERO:
                away = False
            elif mode == FLOOR:
                away = rest > 0 and negative == 1
            elif mode == CEIL:
                away = rest > 0 and negative == 0
            else:
                away = word < ((rest << 32) + (1 << right) - 1) >> right
            magnitude += int(away)
    code = (-magnitude if negative == 1 else magnitude) + zero
    if code < low:
        return low, 1
    if code > high:
        return high, 1
    return code, 0


@numba.njit
def differences(patterns, words, mode, zero, low, high, codes):
    """How many codes differ from the integer form, and how many it clips."""
    different = clipped = 0
    for i in range(patterns.size):
        code, outside = integer_code(np.int64(patterns[i]), mode, np.int64(words[i]), zero, low, high)
        different += int(codes[i] != code)
        clipped += outside
    return different, clipped


class Quantizers:
    """The compiled quantizers on a pattern array of fixed length, with the buffers they need."""

    def __init__(self, length: int) -> None:
        self.scale = np.ones(length, np.float32)
        self.zeros = {z: np.full(length, z, np.int32) for z in (BYTE_ZERO, WIDE_ZERO)}
        self.byte, self.wide = np.empty(length, np.int8), np.empty(length, np.uint16)
        self.row = np.empty(length, np.uint8)

    def mismatches(self, patterns: np.ndarray, words: np.ndarray, rounding: Rounding) -> int:
        """Codes and counts that differ from the integer form, over the three kernels."""
        x, mode, seed = patterns.view(np.float32), rounding.value, np.uint64(SEED)
        total = 0
        for fmt, zero, out in ((BYTE, BYTE_ZERO, self.byte), (WIDE, WIDE_ZERO, self.wide)):
            count = kernels.quantize_elementwise(x, self.scale, self.zeros[zero], fmt.qmin, fmt.qmax, mode, seed, out)
            wrong, clipped = differences(patterns, words, mode, zero, fmt.qmin, fmt.qmax, out)
            total += wrong + int(count != clipped)
            if fmt is BYTE:
                arguments = (np.float32(1), zero, fmt.qmin, fmt.qmax, 0, mode, seed, 0, self.row)
                total += int(kernels.quantize_row(x, *arguments) != clipped)
                total += np.count_nonzero(self.row.view(np.int8) != out)
        return total


def stratum() -> np.ndarray:
    """Every sign and exponent; mantissas of 0 to 2 set bits, runs of ones, their neighbours, and random ones."""
    rng = np.random.default_rng(4)
    single = 1 << np.arange(23)
    double = (single[:, None] | single[None, :]).reshape(-1)
    ones = (1 << 23) - single
    corners = np.concatenate([[0, 1, 2**23 - 1], double, ones, (double + 1), (double - 1), rng.integers(0, 2**23, 64)])
    mantissas = np.unique(corners & (2**23 - 1))
    if numba.config.DISABLE_JIT:
        mantissas = mantissas[:: max(len(mantissas) // 24, 1)]
    return (np.arange(512)[:, None] * 2**23 + mantissas).astype(np.uint32).reshape(-1)


@pytest.mark.parametrize("rounding", Rounding)
def test_quantizers__equal_integer_arithmetic_on_a_stratum(rounding):
    patterns = stratum()
    words = np.zeros(patterns.size, np.uint64)
    if rounding is Rounding.STOCHASTIC:
        words[:] = [philox_word(np.uint64(SEED), np.uint64(i)) for i in range(patterns.size)]
    assert Quantizers(patterns.size).mismatches(patterns, words, rounding) == 0


@pytest.mark.parametrize(
    "rule",
    [r for r in QUANTIZE_RULES.values() if r.conversion is Conversion.SATURATE and r.zero_point is ZeroPoint.AFTER],
    ids=str,
)
def test_rules__that_add_the_zero_point_last_equal_integer_arithmetic_on_a_stratum(rule):
    patterns = stratum()
    patterns = patterns[~np.isnan(patterns.view(np.float32))]
    words, codes = np.zeros(patterns.size, np.uint64), np.empty(patterns.size, np.uint16)
    scale, zero = np.ones(patterns.size, np.float32), np.full(patterns.size, WIDE_ZERO, np.int32)
    steps = (rule.divides, rule.zero_point.value, rule.conversion.value, rule.nan.value, EVEN, np.uint64(0))
    count = rule_kernels.quantize_by_rule(patterns.view(np.float32), scale, zero, WIDE.qmin, WIDE.qmax, *steps, codes)
    assert differences(patterns, words, EVEN, WIDE_ZERO, WIDE.qmin, WIDE.qmax, codes) == (0, count)


@pytest.mark.slow
@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="4 billion patterns need the compiler")
@pytest.mark.parametrize("rounding", EXHAUSTIVE)
def test_quantizers__equal_integer_arithmetic_on_every_float32(rounding):
    quantizers, words = Quantizers(CHUNK), np.zeros(CHUNK, np.uint64)
    offsets = np.arange(CHUNK, dtype=np.uint32)
    for start in range(0, 2**32, CHUNK):
        mismatches = quantizers.mismatches(offsets + np.uint32(start), words, rounding)
        assert mismatches == 0, f"in the patterns from {start:#x}"
