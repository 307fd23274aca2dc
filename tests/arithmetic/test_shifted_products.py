"""Claim: products with log-sqrt2 codes are the exact dyadic sums, each rounded to float32 once, for all codes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.arithmetic import shifted_products as module
from simulator.arithmetic.float_formats import BFLOAT16
from simulator.arithmetic.group_sums import GroupRegister
from simulator.arithmetic.log_sqrt2 import LogSqrt2
from simulator.arithmetic.shifted_products import shifted_product, shifted_sums

F32 = np.float32


def f32(exact: Fraction) -> np.float32:
    """Rounded to float32 once, ties to even, by neighbours."""
    near = F32(float(exact))  # at most one unit off
    around = [np.nextafter(near, F32(-np.inf)), near, np.nextafter(near, F32(np.inf))]
    return min(around, key=lambda each: (abs(Fraction(float(each)) - exact), int(each.view(np.int32)) & 1))


def by_fractions(codes, right, how):
    """Both sums of two matrices, term by term."""
    found = np.zeros((2, len(codes), len(right)), F32)
    for m, row in enumerate(codes):
        for n, column in enumerate(right):
            sums = [Fraction(0), Fraction(0)]
            for q, v in zip(row.tolist(), column.tolist(), strict=True):
                if q < 2**how.bits:
                    sums[q % 2] += Fraction(v) / 2 ** ((q + 1) // 2)
            found[:, m, n] = [f32(total) for total in sums]
    return found


def bits_of(values):
    return np.asarray(values, F32).view(np.int32)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_shifted_sums__are_exact_for_all_codes(bits, zero):
    how, random = LogSqrt2(bits, zero=zero), np.random.default_rng(bits)
    every = np.resize(np.arange(how.levels), (2, 300))
    codes = np.concatenate([every, random.integers(0, how.levels, (5, 300))]).astype(np.uint16)
    right = random.integers(-255, 256, (4, 300)).astype(np.int32)
    found = shifted_sums(codes, right, how)
    assert np.array_equal(bits_of(found), bits_of(by_fractions(codes, right, how)))


@pytest.mark.parametrize("largest", [1, 255, 65535, 2**31 - 1])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_shifted_sums__do_not_depend_on_how_wide_the_integers_are(bits, largest):
    """Bands of other widths, down to a few shifts each."""
    how, random = LogSqrt2(bits), np.random.default_rng(1)
    codes = random.integers(0, how.levels, (4, 40)).astype(np.uint16)
    right = random.integers(-largest, largest + 1, (3, 40)).astype(np.int64)
    assert np.array_equal(bits_of(shifted_sums(codes, right, how)), bits_of(by_fractions(codes, right, how)))


@pytest.mark.parametrize("band", [3, 7, 16, 32])
def test_shifted_sums__round_ties_that_only_the_smallest_term_breaks(band, monkeypatch):
    """1 + 2^-24 is a tie of float32; a term 2^-50 to 2^-127 beside it, of either sign, decides."""
    monkeypatch.setattr(module, "WIDEST_BAND", band)
    how = LogSqrt2(8)
    rows = []
    for far in (0, 100, 104, 108, 112, 116, 120, 128, 254):
        for one in (0, 2):
            rows.append([one, 48 + one, far, 2, 4])  # even codes: shifts 0 and 24 (or one more each), far, 1, 2
    codes = np.array(rows, np.uint16)
    right = np.array([
        [1, 1, 1, 0, 0], [1, 1, -1, 0, 0], [-1, -1, 1, 0, 0], [1, 3, 1, 0, 0], [1, 3, -1, 0, 0], [-1, -3, 1, 0, 0],
        [0, 0, 1, 1, -2], [0, 0, -1, 1, -2], [0, 1, 1, -1, 2], [0, 0, 0, 1, -2], [5, 0, -1, -8, -4],
    ], np.int32)  # fmt: skip
    found, want = shifted_sums(codes, right, how), by_fractions(codes, right, how)
    assert np.array_equal(bits_of(found), bits_of(want))
    assert {F32(1), F32(1 + 2**-23), F32(-1), F32(2.0**-64), F32(-(2.0**-127))} <= set(want[0].reshape(-1).tolist())
    odd = shifted_sums(codes + 1, right, how)[1]
    assert np.array_equal(bits_of(odd), bits_of(by_fractions(codes + 1, right, how)[1]))


def test_shifted_product__multiplies_each_sum_by_its_own_factor_and_adds():
    how, random = LogSqrt2(4, F32(0.7), zero=True), np.random.default_rng(3)
    codes = random.integers(0, how.levels, (2, 3, 5, 17)).astype(np.uint16)
    right = random.integers(-200, 200, (3, 4, 17)).astype(np.int32)
    scale = random.random((3, 1, 4), F32)
    found = shifted_product(codes, right, how, scale)
    halved = shifted_product(codes, right, how, scale, GroupRegister(BFLOAT16))
    assert found.shape == (2, 3, 5, 4)
    for b in range(2):
        for h in range(3):
            even, odd = by_fractions(codes[b, h], right[h], how)
            first, second = (
                part * (factor * scale[h]) for part, factor in ((even, how.delta), (odd, F32(F32(2**0.5) * how.delta)))
            )
            assert np.array_equal(bits_of(found[b, h]), bits_of(first + second))
            hold = GroupRegister(BFLOAT16).hold
            assert np.array_equal(halved[b, h], hold(hold(first) + hold(second)))
    real = np.einsum("bhmk,hnk->bhmn", how.dequantize(codes).astype(float), right.astype(float)) * scale
    assert np.allclose(found, real, rtol=1e-5, atol=1e-5)


def test_shifted_sums__of_nothing_are_zeros():
    even, odd = shifted_sums(np.zeros((2, 0), np.uint16), np.zeros((3, 0), np.int32), LogSqrt2(4))
    assert even.tolist() == odd.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_shifted_sums__refuse_what_does_not_fit():
    how, right = LogSqrt2(4), np.ones((3, 5), np.int32)
    for codes, match in (
        (np.full((2, 5), 16), r"\[0, 16\)"),
        (np.ones((2, 4), int), "depth"),
        (np.ones((2, 5)), "int"),
    ):
        with pytest.raises(BadInput, match=match):
            shifted_sums(codes, right, how)
    with pytest.raises(BadInput, match="2\\^52"):
        shifted_sums(np.zeros((2, 5), np.uint16), np.full((3, 5), 2**51, np.int64), how)
