"""Claim: recorded moments are the central moments of the raw arrays, however the arrays were split and merged."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.moments import BLOCKS, ORDERS, SIZE, block_count, merge, merge_into_blocks, moment_names, row_moments

pytestmark = pytest.mark.usefixtures("one_thread")


def direct(y: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The 15 entries from the raw arrays, with exactly rounded sums of float64 products."""
    from math import fsum

    y, e = y.astype(np.float64).ravel(), other.astype(np.float64).ravel() - y.astype(np.float64).ravel()
    mean_y, mean_e = fsum(y) / y.size, fsum(e) / e.size
    a, b = y - mean_y, e - mean_e
    return np.array([y.size, mean_y, mean_e, *(fsum(a**p * b**q) for p, q in ORDERS)])


def scale_of(y: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What each entry is compared with: odd sums vanish by symmetry, so their own size would be no measure."""
    y, e = y.astype(np.float64).ravel(), other.astype(np.float64).ravel() - y.astype(np.float64).ravel()
    a, b = np.abs(y - y.mean()), np.abs(e - e.mean())
    sums = [(a**p * b**q).sum() for p, q in ORDERS]
    return np.array([1, np.abs(y).max(), np.abs(e).max(), *sums]) + np.finfo(float).tiny


def raw(rng, shape, offset=3.0, noise=0.1, dtype=np.float32):
    y = (rng.normal(size=shape) + offset).astype(dtype)
    return y, (y + noise * rng.standard_gamma(2, size=shape)).astype(dtype)


def test_moment_names__state_the_powers_in_storage_order():
    assert moment_names() == (
        "mean_y", "mean_e", "yy", "ye", "ee", "yyy", "yye", "yee", "eee", "yyyy", "yyye", "yyee", "yeee", "eeee",
    )  # fmt: skip
    assert len(moment_names()) == SIZE - 1
    assert set(ORDERS) == {(p, q) for p in range(5) for q in range(5) if 2 <= p + q <= 4}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 64, 1000, 2050])
def test_row_moments__equal_the_raw_arrays(dtype, size):
    y, other = raw(np.random.default_rng(size), (5, size), dtype=dtype)
    got = row_moments(y, other)
    assert got.shape == (5, SIZE)
    for row in range(5):
        assert np.all(np.abs(got[row] - direct(y[row], other[row])) <= 1e-12 * scale_of(y[row], other[row]))


def test_row_moments__equal_exact_rationals_on_a_hard_case():
    # a large mean and small deviations: what one-pass formulas lose all digits on
    y = (2.0**20 + np.arange(40) / 8).astype(np.float32)[None]
    other = (y + np.float32(0.125) * (np.arange(40) % 3)).astype(np.float32)
    ys, es = (
        [Fraction(float(v)) for v in y[0]],
        [Fraction(float(o)) - Fraction(float(v)) for v, o in zip(y[0], other[0], strict=True)],
    )
    mean_y, mean_e = sum(ys) / 40, sum(es) / 40
    exact = [float(sum((a - mean_y) ** p * (b - mean_e) ** q for a, b in zip(ys, es, strict=True))) for p, q in ORDERS]
    want = np.array([40, float(mean_y), float(mean_e), *exact])
    assert np.all(np.abs(row_moments(y, other)[0] - want) <= 1e-9 * scale_of(y, other))


def test_row_moments__of_equal_arrays_have_no_error_at_all():
    y, _ = raw(np.random.default_rng(0), (3, 77))
    got = row_moments(y, y.copy())
    for index, name in enumerate(("count", *moment_names())):
        if "e" in name.replace("mean_", "").replace("count", ""):
            assert np.all(got[:, index] == 0), name


def test_row_moments__keep_nan_and_infinity_visible():
    y, other = raw(np.random.default_rng(0), (3, 40))
    other[1, 7], other[2, 7] = np.nan, np.inf
    got = row_moments(y, other)
    assert np.isfinite(got[0]).all()
    assert not np.isfinite(got[1:, 2]).any()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 2**32 - 1), st.floats(-100, 100))
def test_merge__of_any_split_equals_the_whole(sizes, seed, offset):
    y, other = raw(np.random.default_rng(seed), (1, sum(sizes)), offset=offset, dtype=np.float64)
    total = np.zeros(SIZE)
    at = 0
    for size in sizes:
        total = merge(total, row_moments(y[:, at : at + size].copy(), other[:, at : at + size].copy())[0])
        at += size
    # beside 1e-12 of the sums: the mean's own rounding, which a large offset makes visible
    assert np.all(np.abs(total - direct(y, other)) <= 1e-12 * (1 + abs(offset)) * scale_of(y, other))


def test_merge__with_an_empty_set_changes_no_bit_but_the_sign_of_zero():
    y, other = raw(np.random.default_rng(1), (4, 30))
    rows = row_moments(y, other)
    empty = np.zeros_like(rows)
    assert np.array_equal(merge(empty, rows), rows)
    assert np.array_equal(merge(rows, empty), rows)
    assert np.array_equal(merge(empty, empty), empty)


def test_merge__takes_any_leading_dimensions():
    y, other = raw(np.random.default_rng(2), (12, 30))
    rows = row_moments(y, other).reshape(2, 3, 2, SIZE)
    merged = merge(rows[:, :, 0], rows[:, :, 1])
    for i in range(2):
        for j in range(3):
            assert np.array_equal(merged[i, j], merge(rows[i, j, 0], rows[i, j, 1]))


@pytest.mark.parametrize("samples", [1, 5, 64, 65, 130, 200])
@pytest.mark.parametrize("batch", [1, 7, 64, 200])
def test_merge_into_blocks__puts_sample_i_into_block_i_mod_64_whatever_the_batch(samples, batch):
    y, other = raw(np.random.default_rng(samples), (samples, 20))
    rows = row_moments(y, other)
    blocks = np.zeros((block_count(samples), SIZE))
    assert len(blocks) == min(samples, BLOCKS) == min(samples, 64)
    for first in range(0, samples, batch):
        members = np.arange(first, min(first + batch, samples))
        merge_into_blocks(blocks, rows[members], members)
    for block in range(len(blocks)):
        one = direct(y[block::64], other[block::64])
        assert np.all(np.abs(blocks[block] - one) <= 1e-12 * scale_of(y[block::64], other[block::64]))
    whole = np.zeros((block_count(samples), SIZE))
    merge_into_blocks(whole, rows, np.arange(samples))
    assert np.array_equal(blocks, whole)  # the same merges in the same order, so the same bits
