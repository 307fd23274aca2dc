"""Claim: every tile gives the same bits as the plain integer sum modulo 2^32, at any offset, stride and depth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from contraction_problems import random_batched, random_conv, random_linear
from numba import config, njit
from numba.extending import intrinsic

from samplers.errors import BadInput
from simulator.arithmetic.kernels import copy, pairs, paths, tile_maddwd, tile_vnni
from simulator.arithmetic.kernels import tile as chosen

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, COLUMNS, DEPTH = pairs.ROWS, pairs.COLUMNS, pairs.DEPTH

BYTES = {
    **chosen.TILES,
    "plain of four": chosen.Tile(tile_vnni.tile_plain, tile_vnni.pack, tile_vnni.packed_shape),
    "plain of pairs": chosen.Tile(pairs.tile_plain, pairs.pack, tile_maddwd.packed_shape),
}


def require(name):
    if name in paths.NEEDS and name not in paths.supported_paths():
        pytest.skip(f"this CPU has no {name}")


@pytest.fixture(params=BYTES)
def path(request):
    require(request.param)
    return BYTES[request.param]


def run(path, a, start, stride, codes, block, first, steps):
    packed = np.full(path.packed_shape(*codes.shape), 99, np.int8)
    path.pack(codes, packed)
    acc = np.full((ROWS, COLUMNS), -1, np.int32)
    path.tile(a, start, stride, packed, block, first, steps, acc)
    return acc


def modulo_sums(a, start, stride, codes, block, first, steps):
    columns = np.zeros((COLUMNS, codes.shape[1] + DEPTH), np.int64)
    part = codes[block * COLUMNS : (block + 1) * COLUMNS]
    columns[: len(part), : codes.shape[1]] = part
    columns = columns[:, DEPTH * first : DEPTH * (first + steps)]
    rows = np.stack([a.reshape(-1)[start + r * stride :][: DEPTH * steps] for r in range(ROWS)]).astype(np.int64)
    rows = rows[:, : columns.shape[1]]
    return (rows @ columns.T).astype(np.int32)


def random_problems(rng, left, right, depths):
    """Ragged depths, one step or many, rows further apart than they are long, all codes or the extreme ones alone."""

    def draw(dtype, shape):
        bounds = np.iinfo(dtype)
        if rng.integers(2):
            return rng.choice(np.array([bounds.min, bounds.max], dtype), shape)
        return rng.integers(bounds.min, bounds.max, shape, dtype, endpoint=True)

    for depth, outputs in depths:
        steps_all = -(-depth // DEPTH)
        stride = int(rng.integers(DEPTH * steps_all, DEPTH * steps_all + 9))
        a, codes = draw(left, (ROWS, stride + 3)), draw(right, (outputs, depth))
        block, start = int(rng.integers(-(-outputs // COLUMNS))), int(rng.integers(3))
        first = int(rng.integers(steps_all))
        for steps in {1, int(rng.integers(1, steps_all - first + 1)), steps_all - first}:
            yield a, start, stride, codes, block, first, steps


DEPTHS = (1, 5), (4, 32), (17, 40), (64, 65), (130, 96), (257, 33), (1030, 31)


@pytest.mark.parametrize("seed", range(6))
def test_tile__is_the_sum_modulo_two_to_the_32(path, seed):
    for problem in random_problems(np.random.default_rng(seed), np.uint8, np.int8, DEPTHS):
        assert np.array_equal(run(path, *problem), modulo_sums(*problem))


@pytest.mark.parametrize("steps", [63, 64, 65, 127, 128, 129, 300])
def test_tile__is_exact_where_widened_parts_end(path, steps):
    # the part of 64 steps that the pair tiles widen at once, one more, one less
    rng = np.random.default_rng(steps)
    a = rng.integers(0, 256, (ROWS, DEPTH * steps), np.uint8)
    codes = rng.integers(-128, 128, (COLUMNS, DEPTH * steps), np.int8)
    problem = (a, 0, DEPTH * steps, codes, 0, 0, steps)
    assert np.array_equal(run(path, *problem), modulo_sums(*problem))


@pytest.mark.parametrize(("x", "w"), [(255, -128), (255, 127), (128, -128), (1, -1)])  # the first two beyond int32
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


@pytest.mark.skipif(config.DISABLE_JIT, reason="needs numba's compiler")
@pytest.mark.parametrize("products", [pairs.neighbours_added, pairs.halves_multiplied])
@pytest.mark.parametrize("lanes", [4, 8])
def test_generic_products__give_the_same_bits_in_either_form_and_width(products, lanes):
    how = pairs.Pairs(lanes, 4, 2, products)

    @intrinsic
    def emitted(typingctx, a, start, stride, packed, block, first, steps, acc):
        return tile_maddwd.byte_tile(how, a, start, stride, packed, block, first, steps, acc)

    @njit
    def tile(a, start, stride, packed, block, first, steps, acc):
        emitted(a, start, stride, packed, block, first, steps, acc)

    form = chosen.Tile(tile, tile_maddwd.pack, tile_maddwd.packed_shape)
    for problem in random_problems(np.random.default_rng(lanes), np.uint8, np.int8, DEPTHS):
        assert np.array_equal(run(form, *problem), modulo_sums(*problem))


def test_supported_paths__follow_the_features_the_compiler_may_use(monkeypatch):
    for features, want in {
        "+sse2": "portable",
        "+avx2,-avx512bw": "avx2-maddwd",
        "+avx2,+avx512f,+avx512vnni": "avx2-maddwd",  # the byte forms need avx512bw too
        "+avx2,+avx512bw,-avx512vnni": "avx512-maddwd",
        "+avx2,+avx512bw,+avx512vnni": "avx512-vnni",
    }.items():
        monkeypatch.setattr(config, "CPU_FEATURES", features)
        assert paths.choose(None) == want
        assert paths.choose("") == want
        assert paths.choose("portable") == "portable"
        with pytest.raises(BadInput, match=r"use one of .*portable, or unset"):
            paths.choose("vnni")
    monkeypatch.setattr(config, "CPU_FEATURES", "+avx2")
    with pytest.raises(BadInput, match=r"got 'avx512-vnni'; use one of avx2-maddwd, portable, or unset"):
        paths.choose("avx512-vnni")


def test_kernels__give_the_same_bits_when_threads_of_the_host_call_them_at_once():
    rng = np.random.default_rng(3)
    problems = [make(rng) for make in (random_conv, random_linear, random_batched) for _ in range(8)]
    alone = [problem.engine() for problem in problems]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda problem: problem.engine(), problems * 4))
    for got, want in zip(together, alone * 4, strict=True):
        assert np.array_equal(got.view(np.int32), want.view(np.int32))
