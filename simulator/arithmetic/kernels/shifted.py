"""Sums of shifted integers, exact, rounded to float32 once. Formula in ``simulator.arithmetic.shifted_products``.

Shifts are cut into bands, and a band's integer sum is below 2^53 in magnitude; together they are the digits of a number
whose digit j counts ``2^(1 - (j + 1) width)``. Integers alone are added, so no bit depends on bands, order or threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel


@parallel_kernel
def sum_shifted(codes, columns, levels, bands, width, out):
    """Even and odd codes apart: codes (batch, rows, depth), columns (batch, depth, columns) int64, out (2, batch, rows,
    columns) float32. Codes from ``levels`` on add nothing."""
    shifts = (np.arange(levels) + 1) // 2
    band = shifts // width
    up = (band + 1) * width - 1 - shifts
    halves = 0.5 ** np.arange(bands * width)
    for index in prange(codes.shape[0]):
        b = np.int64(index)  # prange counts in uint64
        _sum_rows(codes[b], columns[b], band, up, bands, width, halves, out[:, b])


@kernel
def _sum_rows(codes, columns, band, up, bands, width, halves, out):
    digits = np.zeros((2, bands, columns.shape[1]), np.int64)
    number = np.empty(bands, np.int64)
    for row in range(codes.shape[0]):
        used = 1  # bands that this row's codes reach: what lies below is 0 and rounds nothing
        for k in range(codes.shape[1]):
            code = codes[row, k]
            if code < band.size:
                kind, place, shift = code & 1, band[code], up[code]
                used = max(used, place + 1)
                for n in range(columns.shape[1]):
                    digits[kind, place, n] += columns[k, n] << shift
        for kind in range(2):
            for n in range(columns.shape[1]):
                for place in range(used):
                    number[place] = digits[kind, place, n]
                    digits[kind, place, n] = 0
                out[kind, row, n] = _rounded(number[:used], width, halves)


@kernel
def _rounded(digits, width, halves):
    """The number of these digits, which are carried in place, as float32."""
    _carry(digits, width)
    negative = digits[0] < 0  # what lies below the first digit is at least 0 and less than one unit of it
    if negative:
        for j in range(digits.size):
            digits[j] = -digits[j]
        _carry(digits, width)
    total, places = digits[0], width - 1
    full, lost = np.int64(1) << (62 - width), False
    for j in range(1, digits.size):
        if total < full:
            total = (total << width) | digits[j]
            places += width
        else:
            lost |= digits[j] != 0
    if total >= np.int64(1) << 53:
        lost |= total & 1023 != 0
        total, places = total >> 10, places - 10
    magnitude = np.float32(np.float64(total | np.int64(lost)) * halves[places])  # rounded to odd before; exact
    return -magnitude if negative else magnitude


@kernel
def _carry(digits, width):
    """The same number with all digits but the first in ``[0, 2^width)``."""
    carry, low = np.int64(0), (np.int64(1) << width) - 1
    for j in range(digits.size - 1, 0, -1):
        whole = digits[j] + carry
        digits[j] = whole & low
        carry = whole >> width
    digits[0] += carry
