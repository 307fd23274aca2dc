"""Claim: saturating pairs are those of the normative form, in a matmul and in both pairings of a convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from register_reference import codes

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Count
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.kernels import saturate_pairs as kernels
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.pair_accumulator import (
    LARGEST_DEPTH,
    PairAccumulator,
    Pairing,
    accumulate_pairs_exact,
    pair_sums,
    require_pairs,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def counted(sums, count):
    return {
        Count.NONE: None,
        Count.OUTPUTS: sum(one.overflowed for one in sums),
        Count.STEPS: sum(one.steps for one in sums),
    }[count]


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 13), st.integers(0, 2**32 - 1))
def test_matmul__is_the_normative_form(rows, outputs, depth, seed):
    rng = np.random.default_rng(seed)
    x, w = codes(rng, (rows, depth), 8, False), codes(rng, (outputs, depth), 8, True)
    x_zero, w_zero = int(rng.integers(256)), rng.integers(-128, 128, outputs)
    bias = rng.integers(-(2**20), 2**20, outputs)
    want = [
        [
            accumulate_pairs_exact(row, column, x_zero, int(z), int(b))
            for column, z, b in zip(w.tolist(), w_zero, bias, strict=True)
        ]
        for row in x.tolist()
    ]
    for count in Count:
        got = integer_matmul(x, w, PairAccumulator(), x_zero=x_zero, w_zero=w_zero, bias=bias, count=count)
        assert got.values.tolist() == [[one.value for one in row] for row in want]
        assert got.overflowed == counted([one for row in want for one in row], count)


@pytest.mark.parametrize("size", [(1, 1, 1), (4, 32, 4), (5, 33, 5), (65, 31, 6), (130, 1100, 23)])
def test_matmul__is_the_sum_of_clipped_pairs_at_ragged_sizes(size):
    rng = np.random.default_rng(1)
    rows, outputs, depth = size
    x, w = codes(rng, (rows, depth), 8, False), codes(rng, (outputs, depth), 8, True)
    even = depth + depth % 2
    products = np.zeros((rows, outputs, even), np.int64)
    products[..., :depth] = x[:, None].astype(int) * w.astype(int)
    pair = products.reshape(rows, outputs, -1, 2).sum(-1)
    saturated = np.clip(pair, -32768, 32767)
    got = integer_matmul(x, w, PairAccumulator())
    assert np.array_equal(got.values, saturated.sum(-1))
    assert got.overflowed == (saturated != pair).any(-1).sum()


def test_matmul__saturates_past_the_ends_of_16_bits_and_not_at_them():
    # pairs of 32767 and 32768, -32768 and -32769
    x = np.array([[255, 191], [255, 1], [255, 1], [128, 255]], np.uint8)
    cases = [(0, (127, 2), 32767, 0), (0, (127, 3), 32767, 1), (3, (-128, -64), -32704, 0), (3, (-1, -128), -32768, 0),
             (3, (-2, -128), -32768, 1), (0, (-128, -128), -32768, 1)]  # fmt: skip
    for row, pair, value, lost in cases:
        got = integer_matmul(x[row : row + 1], np.array([pair], np.int8), PairAccumulator())
        assert (got.values[0, 0], got.overflowed) == (value, lost)


def test_matmul__seven_bit_weights_are_exact():
    x, w = np.full((1, 8), 255, np.uint8), np.array([[-64] * 8, [63] * 8], np.int8)
    for weights in (w, -w.clip(-63, 63)):
        got = integer_matmul(x, weights, PairAccumulator())
        assert np.array_equal(got.values, integer_matmul(x, weights, Accumulator()).values)
        assert got.overflowed == 0


@pytest.mark.parametrize("pairing", Pairing)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_conv2d__pairs_inside_a_tap_or_inside_a_channel(pairing, channels):
    rng = np.random.default_rng(2)
    x, w = rng.choice([0, 200, 255], (2, 4, 5, channels)), rng.choice([-128, 90, 127], (5, channels, 3, 3))
    x, w, w_zero = x.astype(np.uint8), w.astype(np.int8), np.arange(5) - 2
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=9)
    taps = [(i, j) for i in range(3) for j in range(3)]
    lines = [[(*tap, c) for c in range(channels)] for tap in taps]
    if pairing is Pairing.TAPS:
        lines = [[(*tap, c) for tap in taps] for c in range(channels)]
    for count in Count:
        got = integer_conv(
            x,
            w,
            PairAccumulator(pairing),
            Geometry.of(2, padding=1, stride=(1, 2)),
            x_zero=9,
            w_zero=w_zero,
            count=count,
        )
        sums = []
        for b, y, z, n in np.ndindex(got.values.shape):
            parts = [
                accumulate_pairs_exact(
                    [int(padded[b, y + i, 2 * z + j, c]) for i, j, c in line],
                    [int(w[n, c, i, j]) for i, j, c in line], 9, int(w_zero[n]),
                )
                for line in lines
            ]  # fmt: skip
            assert got.values[b, y, z, n] == sum(part.value for part in parts)
            steps = sum(part.steps for part in parts)
            sums.append(parts[0]._replace(overflowed=steps > 0, steps=steps))
        assert got.overflowed == counted(sums, count)
        assert got.overflowed != 0 or (channels == 1 and pairing is Pairing.CHANNELS)


def test_tile__equals_its_plain_twin():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (2, 5, kernels.ROWS, 2, 2)).astype(np.int16)
    w = rng.integers(-128, 128, (3, 5, 2, kernels.COLUMNS, 2)).astype(np.int16)
    found = []
    for tile in (kernels.tile, kernels.tile_plain):
        acc = np.zeros((kernels.ROWS, kernels.COLUMNS), np.int32)
        seen = np.zeros((kernels.ROWS, kernels.COLUMNS, 2), np.int16)
        tile(x, 1, w, 2, acc, seen)
        found.append((acc, seen))
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


def test_depth__reaches_the_int32_sum_and_is_refused_beyond():
    x, w = np.full((1, LARGEST_DEPTH), 255, np.uint8), np.full((1, LARGEST_DEPTH), -128, np.int8)
    values, lost = pair_sums(x, w, Count.STEPS)
    assert values[0, 0] == -32768 * LARGEST_DEPTH // 2
    assert lost == LARGEST_DEPTH // 2
    assert np.array_equal(pair_sums(x, w, Count.OUTPUTS)[0], values)
    with pytest.raises(BadInput, match="depth"):
        require_pairs(np.zeros((1, LARGEST_DEPTH + 1), np.uint8), np.zeros((1, LARGEST_DEPTH + 1), np.int8))


@pytest.mark.parametrize("types", [("i1", "i1"), ("u1", "u1"), ("i1", "u1"), ("i2", "i1"), ("u1", "i2")])
def test_pairs__refuse_other_codes(types):
    x, w = np.zeros((2, 4), types[0]), np.zeros((3, 4), types[1])
    with pytest.raises(BadInput, match="bytes"):
        integer_matmul(x, w, PairAccumulator())
