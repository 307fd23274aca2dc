"""Claim: every tile gives the same bits as the plain integer sum modulo 2^32, at any offset, stride and depth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from contraction_problems import random_batched, random_conv, random_linear

from simulator.arithmetic.kernels import copy, tile_portable, tile_vnni
from simulator.arithmetic.kernels import tile as chosen

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, COLUMNS, DEPTH = tile_portable.ROWS, tile_portable.COLUMNS, tile_portable.DEPTH
TILES = {
    "portable": (tile_portable, tile_portable.tile),
    "vnni": (tile_vnni, tile_vnni.tile),
    "plain": (tile_vnni, tile_vnni.tile_plain),
}


@pytest.fixture(params=TILES)
def path(request):
    if request.param == "vnni" and not tile_vnni.supported():
        pytest.skip("this CPU has no AVX512-VNNI")
    return TILES[request.param]


def run(path, a, start, stride, codes, block, first, steps):
    module, tile = path
    packed = np.full(module.packed_shape(*codes.shape), 99, np.int8)
    module.pack(codes, packed)
    acc = np.full((ROWS, COLUMNS), -1, np.int32)
    tile(a, start, stride, packed, block, first, steps, acc)
    return acc


def modulo_sums(a, start, stride, codes, block, first, steps):
    columns = np.zeros((COLUMNS, codes.shape[1] + DEPTH), np.int64)
    part = codes[block * COLUMNS : (block + 1) * COLUMNS]
    columns[: len(part), : codes.shape[1]] = part
    columns = columns[:, DEPTH * first : DEPTH * (first + steps)]
    rows = np.stack([a.reshape(-1)[start + r * stride :][: DEPTH * steps] for r in range(ROWS)]).astype(np.int64)
    rows = rows[:, : columns.shape[1]]
    return (rows @ columns.T).astype(np.int32)


@pytest.mark.parametrize("seed", range(6))
def test_tile__is_the_sum_modulo_two_to_the_32(path, seed):
    rng = np.random.default_rng(seed)
    for depth, outputs in ((4, 32), (17, 40), (64, 65), (130, 96)):
        steps_all = -(-depth // DEPTH)
        codes = rng.integers(-128, 128, (outputs, depth), np.int8)
        stride = int(rng.integers(DEPTH * steps_all, DEPTH * steps_all + 9))
        a = rng.integers(0, 256, (ROWS, stride + 3), np.uint8)
        block, first = int(rng.integers(-(-outputs // COLUMNS))), int(rng.integers(steps_all))
        steps, start = int(rng.integers(1, steps_all - first + 1)), int(rng.integers(3))
        args = (a, start, stride, codes, block, first, steps)
        assert np.array_equal(run(path, *args), modulo_sums(*args))


@pytest.mark.parametrize("x", [0, 1, 128, 255])
@pytest.mark.parametrize("w", [-128, -1, 127])
def test_tile__wraps_and_never_saturates(path, x, w):
    depth = 4 * 17001  # 255 * 128 * depth is beyond 2^31
    a, codes = np.full((ROWS, depth), x, np.uint8), np.full((COLUMNS, depth), w, np.int8)
    want = (x * w * depth + 2**31) % 2**32 - 2**31
    assert np.all(run(path, a, 0, depth, codes, 0, 0, depth // DEPTH) == want)


def test_tile__does_not_saturate_pairs_of_products(path):
    # what vpmaddubsw does before VNNI: 255 * 127 twice leaves int16
    a = np.tile(np.array([255, 255, 0, 0], np.uint8), (ROWS, 1))
    for w in (127, -128):
        assert np.all(run(path, a, 0, 4, np.full((COLUMNS, 4), w, np.int8), 0, 0, 1) == 2 * 255 * w)


def test_pack__meets_depth_beyond_the_weights_with_zeros(path):
    codes = np.full((5, 6), 3, np.int8)
    a = np.full((ROWS, 8), 200, np.uint8)
    acc = run(path, a, 0, 8, codes, 0, 0, 2)
    assert np.all(acc[:, :5] == 6 * 3 * 200)
    assert np.all(acc[:, 5:] == 0)


def test_copy__moves_exactly_the_bytes_asked_for():
    from numba import njit

    @njit
    def compiled(into, position, source, start, count):
        copy.copy(into, position, source, start, count)

    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (3, 50), np.uint8)
    for count in (0, 1, 3, 64, 100):
        left, right = np.zeros((4, 40), np.uint8), np.zeros((4, 40), np.uint8)
        compiled(left, 7, source, 5, count)
        copy.copy_plain(right, 7, source, 5, count)
        assert np.array_equal(left, right)
        assert left.reshape(-1)[7 : 7 + count].tolist() == source.reshape(-1)[5 : 5 + count].tolist()
        assert not left.reshape(-1)[7 + count :].any()


def test_path__is_the_one_this_cpu_supports():
    assert ("avx512-vnni" if tile_vnni.supported() else "portable") == chosen.PATH


def test_kernels__give_the_same_bits_when_threads_of_the_host_call_them_at_once():
    rng = np.random.default_rng(3)
    problems = [make(rng) for make in (random_conv, random_linear, random_batched) for _ in range(8)]
    alone = [problem.engine() for problem in problems]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda problem: problem.engine(), problems * 4))
    for got, want in zip(together, alone * 4, strict=True):
        assert np.array_equal(got.view(np.int32), want.view(np.int32))
