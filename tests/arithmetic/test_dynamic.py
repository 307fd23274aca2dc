"""Claim: dynamic parameters and codes follow the stated float32 steps, each rounded once, for every row or block."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from integer_reference import nearest_float32

from samplers.errors import BadInput
from simulator.arithmetic.dynamic import (
    quantize_dynamic_linear,
    quantize_matmul_nbits_rows,
    quantize_torchao_rows,
)
from simulator.arithmetic.granularity import PerAxis, PerGroup
from simulator.arithmetic.quantizer import dequantize

pytestmark = pytest.mark.usefixtures("one_thread")


def f32(value: Fraction) -> Fraction:
    got = nearest_float32(value)
    assert got is not None
    return got


def exact(values) -> list[Fraction]:
    return [Fraction(float(v)) for v in np.ravel(values)]


def data(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Half steps under scales that are powers of two, and random rows of very different size."""
    rng = np.random.default_rng(seed)
    ties = rng.integers(-255, 256, shape) / 2
    ties[..., 0] = rng.choice([127.5, 127.0, 63.5, 255.0], shape[:-1])
    spread = np.exp(rng.uniform(-20, 20, (*shape[:-1], 1)))
    return np.where(rng.random((*shape[:-1], 1)) < 0.5, ties, rng.normal(size=shape) * spread).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_dynamic_linear__follows_its_steps(seed):
    x = np.random.default_rng(seed).permutation(data(seed, (3, 40)).reshape(-1))[:60] + np.float32(seed % 3 * 20)
    values = exact(x)
    low, high = min(Fraction(0), *values), max(Fraction(0), *values)
    scale = f32(f32(high - low) / 255)
    zero = round(min(max(f32(-f32(low / scale)), Fraction(0)), Fraction(255)))
    got = quantize_dynamic_linear(x)
    assert Fraction(float(got.scale[0])) == scale
    assert got.zero_point[0] == zero
    assert got.codes.tolist() == [min(max(round(f32(v / scale)) + zero, 0), 255) for v in values]
    assert got.codes.dtype == np.uint8


def test_dynamic_linear__gives_scale_one_to_zeros_and_keeps_zero_in_the_range():
    got = quantize_dynamic_linear(np.zeros((2, 3), np.float32))
    assert got.scale.tolist() == [[1.0]]
    assert got.zero_point.tolist() == [[0]]
    assert not got.codes.any()
    above, below = (quantize_dynamic_linear(np.full(4, v, np.float32)) for v in (255, -255))
    assert (above.scale[0], above.zero_point[0], above.codes.tolist()) == (1, 0, [255] * 4)
    assert (below.scale[0], below.zero_point[0], below.codes.tolist()) == (1, 255, [0] * 4)


@pytest.mark.parametrize("seed", range(6))
def test_torchao_rows__follow_their_steps(seed):
    x = data(seed, (3, 5, 17))
    x[0, 0] = 0
    got = quantize_torchao_rows(x)
    assert got.spec.granularity == PerAxis((0, 1))
    assert not got.zero_point.any()
    clipped = 0
    for index in np.ndindex(3, 5):
        values = exact(x[index])
        scale = max(f32(max(abs(v) for v in values) / Fraction(255, 2)), Fraction(1, 2**23))
        assert Fraction(float(got.scale[index][0])) == scale
        want = [round(f32(v * f32(1 / scale))) for v in values]
        assert got.codes[index].tolist() == [min(max(q, -128), 127) for q in want]
        clipped += sum(not -128 <= q <= 127 for q in want)
    assert got.clipped == clipped > 0


@pytest.mark.parametrize("block", [4, 8, 100])
def test_matmul_nbits_rows__follow_their_steps(block):
    x = data(3, (2, 9, 22))
    x[0, 0, :block] = 0
    got = quantize_matmul_nbits_rows(x, block)
    assert got.spec.granularity == PerGroup(2, block, (0, 1))
    for index in np.ndindex(2, 9):
        for g, start in enumerate(range(0, 22, block)):
            values = exact(x[index][start : start + block])
            amax = max(abs(v) for v in values)
            scale, inverse = (f32(amax / 127), f32(127 / amax)) if amax else (Fraction(1), Fraction(0))
            assert Fraction(float(got.scale[index][g])) == scale
            assert got.codes[index][start : start + block].tolist() == [round(f32(v * inverse)) for v in values]
    assert got.clipped == 0
    assert np.max(np.abs(got.codes)) == 127


def test_matmul_nbits_rows__uses_the_reciprocal_of_amax_not_of_the_scale():
    # the two factors round differently, and so do ties
    x = data(5, (4000, 16))
    got = quantize_matmul_nbits_rows(x, 16)
    with np.errstate(divide="ignore"):
        other = np.rint(x * (np.float32(1) / got.scale))
    assert np.count_nonzero(other != got.codes) > 0


def test_matmul_nbits_rows__stands_for_zeros_below_the_normal_scales():
    x = np.array([[0, 0, 1e-40, -1e-38, 1.0, 0.5]], np.float32)
    got = quantize_matmul_nbits_rows(x, 2)
    assert got.scale.tolist() == [[1.0, 1.0, float(np.float32(1) / np.float32(127))]]
    assert got.codes.tolist() == [[0, 0, 0, 0, 127, 64]]
    assert got.clipped == 2
    assert np.array_equal(dequantize(got)[0, :4], np.zeros(4))


@pytest.mark.parametrize(
    "call", [quantize_dynamic_linear, quantize_torchao_rows, lambda x: quantize_matmul_nbits_rows(x, 2)]
)
@pytest.mark.parametrize(
    "x",
    [
        np.ones((2, 2)),
        np.ones((2, 0), np.float32),
        np.float32(1).reshape(()),
        np.array([[1, np.nan]], np.float32),
        np.array([[1, -np.inf]], np.float32),
    ],
    ids=["float64", "empty", "scalar", "NaN", "inf"],
)
def test_dynamic__refuses_what_has_no_range(call, x):
    with pytest.raises(BadInput):
        call(np.asarray(x))


@pytest.mark.parametrize("x", [[3e38, -3e38], [1e-45, 0]])
def test_dynamic_linear__refuses_a_range_whose_scale_is_infinite_or_zero(x):
    with pytest.raises(BadInput, match="scale"):
        quantize_dynamic_linear(np.array(x, np.float32))
