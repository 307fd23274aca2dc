"""Claim: the machines of 4-bit weights sum as stated: groups in float32 in ascending order, float16 products in
ascending k, each addition rounded once."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator import targets
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.quantizer import Quantized
from simulator.arithmetic.sequential import sequential_sum_exact, sequential_sums
from simulator.targets import TARGETS

f32 = np.float32
NBITS, W4A16 = TARGETS["onnx-matmulnbits"], TARGETS["w4a16-group128"]


def weight(rng, target, outputs, depth, which=0):
    spec = target.weights[which]
    shape = spec.granularity.parameter_shape((outputs, depth))
    scale = spec.scale_format.round(rng.uniform(0.01, 0.1, shape).astype(f32))
    zero = rng.integers(0, 16, shape).astype(np.int32)
    return Quantized(rng.integers(0, 16, (outputs, depth)).astype(np.uint8), scale, zero, spec)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("which", range(3))
def test_matmul_nbits__adds_rescaled_blocks_in_ascending_order(which, with_bias):
    rng = np.random.default_rng(1)
    depth, block = 300, NBITS.weights[which].granularity.group_size(1)  # the last block is shorter
    w = weight(rng, NBITS, 7, depth, which)
    x = rng.normal(size=(5, depth)).astype(f32)
    bias = rng.normal(size=7).astype(f32) if with_bias else None
    left = targets.quantize_activation(NBITS, x, spec=NBITS.activations[which])
    got = targets.linear(NBITS, left, w, bias)
    for m, n in np.ndindex(5, 7):
        total = None
        for g, first in enumerate(range(0, depth, block)):
            part = slice(first, first + block)
            amax = np.abs(x[m, part]).max()
            codes = np.rint(x[m, part] * (f32(127) / amax)).astype(np.int64)
            whole = int((codes * (w.codes[n, part].astype(np.int64) - w.zero_point[n, g])).sum())
            term = f32(whole) * (amax / f32(127) * w.scale[n, g])
            total = term if total is None else total + term
        assert got.values[m, n] == (total if bias is None else total + bias[n])


def test_groups__count_the_sums_that_saturated_in_each():
    narrow = Accumulator(bits=8, overflow=Overflow.SATURATE)
    made = replace(NBITS, linear=replace(NBITS.linear, accumulator=narrow))
    spec = made.weights[0]
    w = Quantized(np.full((2, 96), 9, np.uint8), np.ones((2, 3), f32), np.full((2, 3), 8, np.int32), spec)
    left = targets.quantize_activation(made, np.repeat(f32([[127, 1, 127]]), 32, axis=1))
    # every block's codes are 127, its sum 32 * 127; saturated at 127, times 1, 1 / 127, 1
    got = targets.linear(made, left, w)
    assert got.overflowed == 6
    assert got.values[0, 0] == f32(127 + 127 * (f32(1) / f32(127))) + f32(127)


def test_w4a16__is_the_sequential_sum_of_exact_products():
    rng = np.random.default_rng(2)
    w, x = weight(rng, W4A16, 6, 300), (rng.normal(size=(4, 300)) * 3).astype(np.float16)
    bias = rng.normal(size=6).astype(f32)
    got, plain = targets.linear(W4A16, x, w, bias), targets.linear(W4A16, x, w)
    assert got.values.dtype == plain.values.dtype == np.float16
    single = 0
    for m, n in np.ndindex(4, 6):
        total, wide = f32(0), Fraction(0)
        for k in range(300):
            g = k // 128
            exact = (int(w.codes[n, k]) - int(w.zero_point[n, g])) * Fraction(float(w.scale[n, g]))
            w16 = np.float16(float(exact))  # at most 16 bits: exact as a float
            product = Fraction(float(w16)) * Fraction(float(x[m, k]))
            assert Fraction(float(f32(float(product)))) == product
            wide += product
            total = f32(total + f32(float(product)))
        assert plain.values[m, n] == np.float16(total)
        assert got.values[m, n] == np.float16(f32(total + bias[n]))
        single += f32(float(wide)) != total
    assert single > 10  # one rounding of the exact sum is another machine


def test_w4a16__rounds_weights_to_float16_and_counts_infinities():
    spec = W4A16.weights[0]
    scale = np.array([[1025 / 1024], [60000.0]]).astype(np.float16).astype(f32)
    zero = np.array([[8], [8]], np.int32)
    w = Quantized(np.array([[11], [9]], np.uint8), scale, zero, spec)
    # 3 (1 + 2^-10) is a tie between 3 + 2^-9 and 3 + 2^-8: to even
    got = targets.linear(W4A16, np.array([[1.0], [2.0]], np.float16), w)
    assert got.values[0, 0] == np.float16(3 + 2.0**-8)
    assert got.values.tolist()[1][1] == np.inf
    assert got.overflowed == 1
    with pytest.raises(BadInput, match="fit float16"):
        targets.linear(
            W4A16, np.ones((1, 1), np.float16), Quantized(np.array([[10], [15]], np.uint8), scale, zero, spec)
        )


def test_sequential_sums__are_the_normative_form_bit_for_bit():
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(5, 70)) * 2.0 ** rng.integers(-20, 20, (5, 70))).astype(f32)
    w = (rng.normal(size=(9, 70)) * 2.0 ** rng.integers(-20, 20, (9, 70))).astype(f32)
    x[0], w[0] = 1, 2.0**-24  # half an ulp of the growing sum again and again: ties
    x[0, 0] = 2.0**24
    got = sequential_sums(x, w)
    want = [[sequential_sum_exact(a.tolist(), b.tolist()) for b in w] for a in x]
    assert np.array_equal(got.view(np.int32), np.array(want, f32).view(np.int32))
    assert np.count_nonzero(got != x @ w.T) > 5
    assert np.count_nonzero(got != sequential_sums(x[:, ::-1], w[:, ::-1])) > 5


def test_sequential_sums__refuse_what_is_not_finite_or_not_float32():
    one = np.ones((1, 2), f32)
    for bad in (one.astype(np.float64), np.full((1, 2), np.nan, f32), np.ones(2, f32), np.ones((1, 3), f32)):
        with pytest.raises(BadInput):
            sequential_sums(bad, one)
