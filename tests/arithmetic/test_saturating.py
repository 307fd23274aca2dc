"""Claim: a saturating register in vector lanes has the register's values and counts up to every licence's bound."""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
import register_reference
from hypothesis import given
from hypothesis import strategies as st
from register_reference import codes, saturate

from simulator.arithmetic import register
from simulator.arithmetic.accumulator import Accumulator, Bias, Count, Overflow, ZeroPoint, accumulate_exact
from simulator.arithmetic.kernels import accelerate, saturate_tile
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.saturating import lanes_for

pytestmark = pytest.mark.usefixtures("one_thread")

HELPERS = str(Path(register_reference.__file__).parent)
INT16, INT32 = np.dtype(np.int16), np.dtype(np.int32)


def saturating(bits, **fields):
    return Accumulator(bits, Overflow.SATURATE, **fields)


def check(x, w, accumulator, x_zero=0, w_zero=0, bias=None):
    """Compare both ways of counting that lanes know with the step-by-step form; return the count."""
    zeros = np.broadcast_to(np.asarray(w_zero, np.int64), (len(w),))
    offset = np.zeros(len(w), np.int64) if bias is None else bias
    want, lost = saturate(x, w, accumulator, x_zero, zeros, offset)
    for count, expected in ((Count.OUTPUTS, lost), (Count.NONE, None)):
        got = integer_matmul(x, w, accumulator, x_zero=x_zero, w_zero=w_zero, bias=bias, count=count)
        assert np.array_equal(got.values, want), accumulator
        assert got.overflowed == expected, accumulator
    return lost


def random_problem(rng):
    rows, outputs, depth = rng.integers(1, 10), rng.integers(1, 140), rng.integers(1, 50)
    (x_bits, w_bits), (x_signed, w_signed) = rng.integers(1, 17, 2), rng.random(2) < 0.5
    x, w = codes(rng, (rows, depth), x_bits, x_signed), codes(rng, (outputs, depth), w_bits, w_signed)
    bits = int(rng.integers(2, 32))
    edge = 1 << (bits - 1)
    accumulator = saturating(
        bits,
        tree=int(rng.choice([1, 1, 1, 2, 3, 4, 7, depth])),
        zero_point=rng.choice(list(ZeroPoint)),
        bias=rng.choice(list(Bias)),
    )
    x_zero = int(rng.choice([0, x.min(), x.max()]))
    w_zero = rng.choice([0, int(w.min()), int(w.max())], outputs) if rng.random() < 0.5 else 0
    bias = rng.integers(-edge - 2, edge + 2, outputs) if rng.random() < 0.5 else None
    return x, w, accumulator, x_zero, w_zero, bias


def test_lanes__equal_the_register_on_every_path(monkeypatch):
    taken = set()

    def recorded(accumulator, largest, depth, count):
        lanes = lanes_for(accumulator, largest, depth, count)
        if lanes:
            taken.add((lanes.dtype, lanes.clipped, lanes.watched, lanes.shift > 1, min(accumulator.tree, depth) > 1))
        return lanes

    monkeypatch.setattr(register, "lanes_for", recorded)
    rng = np.random.default_rng(1)
    for _ in range(2500):
        check(*random_problem(rng))
    # (lanes, clipped, (watched, tagged)) with and without a tree
    ways = [(INT16, clipped, *how) for clipped in (False, True) for how in ((True, False), (False, True))]
    ways += [(INT32, True, *how) for how in ((True, False), (False, True))]
    assert {(*way, tree) for way in ways for tree in (False, True)} <= taken


@pytest.mark.parametrize("size", [(1, 1, 1), (4, 64, 8), (5, 65, 3), (3, 63, 1), (64, 32, 2), (130, 33, 700)])
@pytest.mark.parametrize("bits", [13, 16, 20])
def test_lanes__equal_the_register_at_ragged_sizes(size, bits):
    rng = np.random.default_rng(2)
    rows, outputs, depth = size
    x, w = codes(rng, (rows, depth), 8, False), codes(rng, (outputs, depth), 8, True)
    check(x, w, saturating(bits), x_zero=128)
    check(x, w, saturating(bits, tree=3), x_zero=128, bias=rng.integers(-3000, 3000, outputs))


def test_lanes__equal_the_register_in_more_than_one_task():
    rng = np.random.default_rng(3)
    x, w = codes(rng, (9, 17000), 8, False), codes(rng, (1100, 17000), 3, True)  # depth: 4 rows a chunk
    assert check(x, w[:70], saturating(14), x_zero=128) > 0
    assert check(x[:, :40], w[:, :40], saturating(10), x_zero=128) > 0


accumulators = st.builds(
    Accumulator,
    st.integers(2, 31),
    st.just(Overflow.SATURATE),
    st.integers(1, 5),
    zero_point=st.sampled_from(ZeroPoint),
    bias=st.sampled_from(Bias),
)


@given(accumulators, st.integers(1, 16), st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_lanes__are_the_normative_form(accumulator, x_bits, w_bits, seed):
    rng = np.random.default_rng(seed)
    x, w = codes(rng, (2, 9), x_bits, False), codes(rng, (3, 9), w_bits, True)
    x_zero, bias = int(x.max()), rng.integers(-(1 << 14), 1 << 14, 3)
    got = integer_matmul(x, w, accumulator, x_zero=x_zero, bias=bias)
    want = [[accumulate_exact(row, c.tolist(), accumulator, x_zero, 0, int(b)) for c, b in zip(w, bias, strict=True)]
            for row in x.tolist()]  # fmt: skip
    assert got.values.tolist() == [[one.value for one in row] for row in want]
    assert got.overflowed == sum(one.overflowed for row in want for one in row)


# bits, tree, largest product that the licence admits, the lanes it admits, and the factors of that product
LICENCES = {
    "int16 filled": (16, 1, (217, 151), (INT16, 0, False)),
    "int16 shifted by 1": (15, 1, (127, 129), (INT16, 1, False)),
    "int16 shifted to the limit": (13, 1, (65, 63), (INT16, 3, False)),
    "int16 clipped with a tag": (10, 1, (8191, 1), (INT16, 2, True)),
    "int16 clipped": (10, 1, (217, 151), (INT16, 0, True)),
    "int16 tree": (16, 7, (31, 151), (INT16, 0, False)),
    "int32 with a tag": (20, 1, (2**29 - 2**19 - 1, 1), (INT32, 2, True)),
    "int32": (20, 1, (2**31 - 2**19 - 1, 1), (INT32, 0, True)),
    "int32 tree": (31, 2, ((2**30 - 1) // 2, 1), (INT32, 0, True)),
}


@pytest.mark.parametrize("case", LICENCES)
def test_licence__ends_exactly_where_a_lane_would_overflow(case):
    bits, tree, (a, b), (dtype, shift, clipped) = LICENCES[case]
    accumulator, depth = saturating(bits, tree=tree), 20
    lanes = lanes_for(accumulator, a * b, depth, Count.NONE)
    assert (lanes.dtype, lanes.shift, lanes.clipped) == (dtype, shift, clipped)
    beyond = lanes_for(accumulator, a * b + 1, depth, Count.NONE)
    assert beyond is None or (beyond.dtype, beyond.shift, beyond.clipped) != (dtype, shift, clipped)


FACTORS = [
    (217, 151), (256, 128), (127, 129), (128, 128), (65, 63), (64, 64), (31, 151), (32767, 32767), (32768, 32767),
    (65535, 32767),
]  # fmt: skip


@pytest.mark.parametrize("bits", [2, 3, 10, 12, 13, 14, 15, 16, 17, 20, 29, 30, 31])
@pytest.mark.parametrize("tree", [1, 2, 7])
@pytest.mark.parametrize("factors", FACTORS)
def test_lanes__hold_operands_that_reach_the_licences_bound(bits, tree, factors):
    a, b = factors
    x = np.full((3, 23), a, np.uint16)
    signs = np.random.default_rng(4).choice([-1, 1], (20, 23))
    signs[0], signs[1], signs[2] = 1, -1, np.arange(23) % 2 * 2 - 1
    accumulator = saturating(bits, tree=tree)
    check(x, (b * signs).astype(np.int16), accumulator)
    edge = np.resize([accumulator.smallest, accumulator.largest, 0], 20)
    check(x, (b * signs).astype(np.int16), accumulator, bias=edge)


def test_watch__sees_excess_of_a_whole_turn_of_the_lane():
    # from 32767 four products of 2^14 lose 2^16 in all, which is 0 modulo the lane: a run of four would miss it
    ones = np.full((1, 4), -128, np.int8)
    assert check(ones, ones, saturating(16), bias=np.array([32767])) == 1
    wide = np.full((1, 4), -32768, np.int16)
    assert check(wide, wide, saturating(30), bias=np.array([2**29 - 1])) == 1


def test_watch__sees_an_excess_that_is_lost_again_the_other_way():
    # 15 bits: 16384 loses 1 at the upper limit, two times -16384 lose 1 at the lower: at the end the sum is exact
    x, w = np.full((1, 3), 128, np.uint8), np.array([[128, -128, -128]], np.int16)
    assert check(x, w, saturating(15)) == 1
    assert integer_matmul(x, w, saturating(15)).values == integer_matmul(x, w, Accumulator()).values
    # 16 bits: 1 is lost at the upper limit, and again after four times -2^14
    x, w = np.array([[1, 128, 128, 128, 128]], np.uint8), np.array([[1, -128, -128, -128, -128]], np.int8)
    assert check(x, w, saturating(16), bias=np.array([32767])) == 1


@pytest.mark.parametrize("bits", [14, 16, 24])
def test_certificate__excludes_counts_up_to_its_bound_and_no_further(bits, monkeypatch):
    # one product of 1 and the rest in the bias: the sum reaches the largest value, then exceeds it by 1
    x, w = np.ones((1, 5), np.int8), np.array([[1, -1, 0, 1, 1]], np.int8)
    limit = (1 << (bits - 1)) - 1
    called = []
    monkeypatch.setattr(register, "saturating_sums", lambda *args: called.append(args) or (np.zeros((1, 1), "i8"), 0))
    integer_matmul(x, w, saturating(bits), bias=np.array([limit - 4]))
    assert not called
    integer_matmul(x, w, saturating(bits), bias=np.array([limit - 3]))
    assert len(called) == 1


@pytest.mark.parametrize("lane", [np.int16, np.int32])
def test_tile__equals_its_plain_twin(lane):
    rng = np.random.default_rng(5)
    columns = saturate_tile.columns_of(lane)
    for tree, watched, clipped in np.ndindex(2, 2, 2):
        if (tree or lane is np.int32) and not clipped:
            continue
        for depth, run in ((1, 1), (11, 3), (12, 4), (7, 50)):
            x16 = rng.integers(-90, 90, (2, depth, saturate_tile.ROWS)).astype(np.int32)
            x = (x16 & 0xFFFF) | (x16 << 16) if lane is np.int16 else x16
            w = rng.integers(-90, 90, (3, depth, columns)).astype(lane)
            start = rng.integers(-900, 900, (3, columns)).astype(lane)
            low, high = (-1000, 999) if clipped else (-(2**15), 2**15 - 1)
            found = []
            for tile in (
                saturate_tile.tile,
                lambda tree, watched, _, *rest: saturate_tile.tile_plain(tree, watched, *rest),
            ):
                acc, seen = (np.zeros((saturate_tile.ROWS, columns), lane) for _ in range(2))
                tile(bool(tree), bool(watched), bool(clipped), x, 1, w, 2, run, low, high, start, acc, seen)
                found.append((acc, seen))
            assert np.array_equal(found[0][0], found[1][0])
            assert np.array_equal(found[0][1], found[1][1])


DIGEST = f"""
import sys, hashlib
sys.path.insert(0, {HELPERS!r})
import numpy as np
from register_reference import codes
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.accumulator import Accumulator, Count, Overflow
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing

def digest(count=1):
    rng = np.random.default_rng(6)
    total = hashlib.sha256()
    x, w = codes(rng, (70, 9), 8, False), codes(rng, (67, 9), 8, True)
    for accumulator in [Accumulator(b, Overflow.SATURATE, t) for b in (6, 14, 16, 20, 31, 32) for t in (1, 3)]:
        for count in Count:
            got = integer_matmul(x, w, accumulator, x_zero=128, count=count)
            total.update(got.values.tobytes() + str(got.overflowed).encode())
    image, kernel = codes(rng, (1, 4, 5, 3), 8, False), codes(rng, (5, 3, 3, 3), 8, True)
    for pairing in Pairing:
        got = integer_conv(image, kernel, PairAccumulator(pairing), Geometry.of(2, padding=1), x_zero=7)
        total.update(got.values.tobytes() + str(got.overflowed).encode())
    return total.hexdigest()
"""


@pytest.fixture(scope="module")
def expected():
    scope: dict = {}
    exec(DIGEST, scope)
    return scope["digest"]()


def test_sums__have_the_same_bits_without_the_compiler(fresh_python, expected):
    assert fresh_python(DIGEST + "print(digest())", NUMBA_DISABLE_JIT="1").stdout.strip() == expected


def test_sums__have_the_same_bits_for_1_2_and_16_threads(fresh_python, expected):
    code = DIGEST + textwrap.dedent(
        """
        import json, numba
        from simulator.arithmetic.kernels import accelerate
        found = {}
        for threads in (1, 2, 16):
            accelerate.set_threads(threads)
            found[numba.get_num_threads()] = digest()
        print(json.dumps(found))
        """
    )
    found = json.loads(fresh_python(code, NUMBA_NUM_THREADS="16", OMP_NUM_THREADS=None).stdout)
    if accelerate.PARALLEL:
        assert set(found) == {"1", "2", "16"}
    assert set(found.values()) == {expected}
    assert len(expected) == hashlib.sha256().digest_size * 2
