"""The engine's mathematics written a second time: exact rationals and Python integers, numpy for float32 steps alone.

Nothing here shares code or an algorithm with the engine: sums run over ``code - zero_point`` in Python integers, and
each float32 operation of the epilogue is one numpy operation on float32 arrays.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from operator import mul

import numpy as np

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.rounding import Rounding, random_word, round_exact

FLOAT32_MAX = (2 - Fraction(1, 2**23)) * 2**127


def nearest_float32(value: Fraction) -> Fraction | None:
    """The float32 nearest to a rational, ties to even, subnormals included; None where it overflows to infinity."""
    if value == 0:
        return value
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    quantum = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(value / quantum) * quantum
    return rounded if abs(rounded) <= FLOAT32_MAX else None


def quantize_one(
    x: np.float32, scale: np.float32, zero: int, fmt: IntFormat, rounding: Rounding, index: int = 0
) -> tuple[int, bool]:
    """Code of one element (seed 0) and whether it was clipped: q = clip(round(f32(x / scale)) + zero)."""
    if np.isnan(x):
        return fmt.qmin, True
    if np.isinf(x):
        return (fmt.qmax if x > 0 else fmt.qmin), True
    quotient = nearest_float32(Fraction(float(x)) / Fraction(float(scale)))
    if quotient is None:
        return (fmt.qmax if x > 0 else fmt.qmin), True
    code = round_exact(quotient, rounding, random_word(0, index)) + zero
    return min(max(code, fmt.qmin), fmt.qmax), not fmt.qmin <= code <= fmt.qmax


def conv2d(x, x_zero, x_scale, w, w_zero, w_scale, starts, bias, stride=(1, 1), padding=(0, 0)):
    """Convolution of codes, float32 out (batch, out height, out width, outputs).

    x codes (batch, height, width, channels); w codes (outputs, channels, kernel height, kernel width); w_zero and
    w_scale (groups, outputs); starts the first channel of each group, and the channel count last.
    """
    batch, height, width, _ = x.shape
    outputs, _, kernel_h, kernel_w = w.shape
    (stride_h, stride_w), (pad_h, pad_w) = stride, padding
    out_h = (height + 2 * pad_h - kernel_h) // stride_h + 1
    out_w = (width + 2 * pad_w - kernel_w) // stride_w + 1
    pixels, weights = x.tolist(), w.tolist()
    x_zero, zeros = int(x_zero), np.asarray(w_zero).tolist()
    total = None
    for g in range(len(starts) - 1):
        members = range(int(starts[g]), int(starts[g + 1]))
        taps = list(product(range(kernel_h), range(kernel_w), members))
        columns = [[weights[n][c][i][j] - zeros[g][n] for i, j, c in taps] for n in range(outputs)]
        sums = []
        for b, top, left in product(range(batch), range(out_h), range(out_w)):
            row = []
            for i, j, c in taps:
                y0, x0 = top * stride_h + i - pad_h, left * stride_w + j - pad_w
                inside = 0 <= y0 < height and 0 <= x0 < width
                row.append(pixels[b][y0][x0][c] - x_zero if inside else 0)
            sums.append([sum(map(mul, row, column)) for column in columns])
        part = _rescale(sums, x_scale, np.asarray(w_scale)[g])
        total = part if total is None else total + part
    if bias is not None:
        total = total + np.asarray(bias, np.float32)
    assert total.dtype == np.float32
    return total.reshape(batch, out_h, out_w, outputs)


def batched_matmul(left, left_zero, left_scale, right, right_zero, right_scale):
    """out[b, m, n] = sum_k left[b, m, k] right[b, n, k] of codes, float32 out."""
    out = []
    for rows, columns in zip(left.tolist(), right.tolist(), strict=True):
        a = [[q - int(left_zero) for q in row] for row in rows]
        b = [[q - int(right_zero) for q in column] for column in columns]
        out.append(_rescale([[sum(map(mul, r, c)) for c in b] for r in a], left_scale, np.float32(right_scale)))
    return np.array(out, np.float32)


def _rescale(sums, x_scale, w_scale):
    assert all(abs(value) < 2**31 for row in sums for value in row)
    exact = np.array(sums, np.int64).reshape(len(sums), -1).astype(np.float32)
    return exact * (np.asarray(w_scale, np.float32) * np.float32(x_scale))
