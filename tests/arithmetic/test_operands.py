"""Claim: operands hold the codes they were given: bytes, zero points and scales lie where their granularity says."""

from __future__ import annotations

import numpy as np
import pytest
import scaled_sums
from byte_operands import quantized
from plain_convolution import convolve

from samplers.errors import BadInput
from simulator.arithmetic import contract
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerBlock, PerGroup, PerTensor
from simulator.arithmetic.operands import (
    Activation,
    ScaledFormat,
    left_operand,
    pad,
    quantize_image,
    quantize_matrices,
)
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.arithmetic.weights import prepare_matrices, prepare_weight

pytestmark = pytest.mark.usefixtures("one_thread")

f32 = np.float32
SHAPE = (2, 3, 4, 10)
LEFT = [
    PerTensor(), PerAxis((0,)), PerAxis((0, 1)), PerAxis((0, 1, 2)), PerAxis((2,)), PerGroup(3, 4),
    PerGroup(3, 3, (0,)), PerGroup(3, 10, (1,)), PerBlock((1, 2, None, 5)), PerBlock((None, 2, 3, None)),
    PerGroup(1, 2),
]  # fmt: skip


@pytest.mark.parametrize("granularity", LEFT, ids=str)
def test_left_operand__means_the_same_numbers(granularity):
    scaled = scaled_sums.random_scaled(np.random.default_rng(3), SHAPE, granularity)
    left = left_operand(scaled.tensor)
    assert left.bytes.dtype == np.uint8
    assert left.bytes.flags.c_contiguous
    size, parameters = left.group_size or SHAPE[-1], left.scale.shape[1]
    rows = left.bytes.reshape(parameters, -1, SHAPE[-1])
    for p, g in np.ndindex(parameters, len(left.scale)):
        part = slice(g * size, (g + 1) * size)
        steps = rows[p, :, part].astype(int) - left.zero[g, p]
        assert np.array_equal(steps, scaled.steps.reshape(rows.shape)[p, :, part])
        assert np.all(scaled.scales.reshape(rows.shape)[p, :, part] == left.scale[g, p])
    assert left.largest >= np.abs(scaled.steps).max()


@pytest.mark.parametrize("granularity", [PerTensor(), PerAxis((0,))], ids=str)
def test_pad__holds_each_samples_own_zero_point_and_moves_no_pixel(granularity):
    rng = np.random.default_rng(4)
    geometry = Geometry((1, 1), ((1, 2), (3, 0)), (1, 1))
    scaled = scaled_sums.random_scaled(rng, (3, 4, 5, 2), granularity)
    image = pad(left_operand(scaled.tensor), geometry)
    assert image.bytes.shape == (3, 7, 8, 2)
    steps = image.bytes.astype(int) - image.zero[0].reshape(-1, 1, 1, 1)
    assert np.array_equal(steps, np.pad(scaled.steps, ((0, 0), (1, 2), (3, 0), (0, 0))))


def test_conv__of_samples_with_zero_points_of_their_own_pads_with_real_zeros():
    rng = np.random.default_rng(5)
    geometry = Geometry.of(2, padding=2, stride=2)
    x = scaled_sums.random_scaled(rng, (3, 6, 5, 4), PerAxis((0,)))
    w = rng.integers(-128, 128, (7, 4, 3, 3)).astype(np.int8)
    sums = contract.conv_sums(pad(left_operand(x.tensor), geometry), prepare_weight(quantized(w, 5)), geometry)
    assert np.array_equal(sums[0], convolve(x.steps, w, geometry, 0, 5))


@pytest.mark.parametrize("x", [np.zeros((2, 4, 5, 3), f32), np.zeros((2, 4, 5), f32)], ids=["2d", "1d"])
def test_quantize_image__takes_images_of_any_strides(x):
    x[:] = np.random.default_rng(6).normal(size=x.shape) * 40
    how, geometry = ScaledFormat(QuantSpec(IntFormat(8)), f32(0.5), 3), Geometry.of(x.ndim - 2, padding=1)
    want = quantize_image(x, how, geometry)
    for strided in (np.repeat(x, 2, axis=-1)[..., ::2], np.asfortranarray(x), np.ascontiguousarray(x[::-1])[::-1]):
        got = quantize_image(strided, how, geometry)
        assert np.array_equal(got.bytes, want.bytes)
        assert got.clipped == want.clipped


RIGHT = [PerTensor(), PerAxis((0,)), PerAxis((0, 1, 2)), PerAxis((2,)), PerGroup(2, 3, (0,)), PerBlock((1, 2, 3, None))]


@pytest.mark.parametrize("granularity", RIGHT, ids=str)
def test_prepare_matrices__takes_scales_over_batches_and_outputs(granularity):
    rng = np.random.default_rng(7)
    left = scaled_sums.random_scaled(rng, (2, 3, 5, 10), PerAxis((1,)))
    right = scaled_sums.random_scaled(rng, (2, 3, 7, 10), granularity)
    got = contract.batched_matmul(left_operand(left.tensor), prepare_matrices(right.tensor))
    want = scaled_sums.added(scaled_sums.linear_parts(left, right, None))
    assert np.array_equal(got.view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("size", [1, 3, 4, 5, 9, 100])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_prepare_weight__cuts_channels_into_the_groups_asked_for(parts, size):
    rng = np.random.default_rng([parts, size])
    w = scaled_sums.random_scaled(rng, (8, 9, 2), PerAxis((0,)))
    weight = prepare_weight(w.tensor, parts=parts, group_size=size)
    assert (weight.parts, weight.outputs, weight.channels, weight.depth) == (parts, 8 // parts, 9, 18)
    groups = scaled_sums.ranges(9, size)
    assert weight.groups[:, :2].tolist() == [[g.start, g.stop - g.start] for g in groups]
    sums = [np.abs(w.steps[:, g]).sum(axis=(1, 2)).max() for g in groups]
    assert weight.absolute_sum == max(sums)
    x = scaled_sums.random_scaled(rng, (2, 6, 9 * parts), PerTensor())
    geometry = Geometry.of(1, groups=parts)
    got = contract.conv_sums(left_operand(x.tensor), weight, geometry)
    want = [part for part, _ in scaled_sums.conv_parts(x, w, geometry, size)]
    assert np.array_equal(got, want)


@pytest.mark.parametrize("sizes", [(2, 4), (None, 4), (3, None), (1, 1), (5, 9)])
def test_prepare_weight__lowers_blocks(sizes):
    rng = np.random.default_rng(8)
    w = scaled_sums.random_scaled(rng, (7, 9), PerBlock(sizes))
    x = scaled_sums.random_scaled(rng, (4, 9), PerAxis((0,)))
    got = contract.linear(left_operand(x.tensor), prepare_weight(w.tensor))
    want = scaled_sums.added(scaled_sums.linear_parts(x, w, sizes[1]))
    assert np.array_equal(got.view(np.int32), want.view(np.int32))


def given_codes(value, fmt):
    spec = QuantSpec(fmt)
    return Quantized(np.full((2, 6), value, fmt.dtype), np.ones((1, 1), f32), np.zeros((1, 1), np.int32), spec)


BYTES, ONE = np.zeros((2, 6), np.uint8), (np.zeros((1, 1), np.int32), np.ones((1, 1), f32), 255)
WEIGHT = prepare_weight(given_codes(1, IntFormat(8)))
SIDED = quantize_matrices(np.ones((2, 6), f32), ScaledFormat(QuantSpec(IntFormat(8)), f32(1), 0), side="right")
CASES = {
    "codes outside their format": lambda: left_operand(given_codes(100, IntFormat(4))),
    "weight outside its format": lambda: prepare_weight(given_codes(8, IntFormat(4))),
    "matrices outside their format": lambda: prepare_matrices(given_codes(-128, IntFormat(8, narrow=True))),
    "scale per element of the depth": lambda: left_operand(
        Quantized(np.zeros((2, 6), np.int8), np.ones((1, 6), f32), np.zeros((1, 6), np.int32),
                  QuantSpec(IntFormat(8), PerAxis((1,))))
    ),
    "bytes with gaps": lambda: Activation(BYTES[:, ::2], *ONE),
    "bytes of another type": lambda: Activation(BYTES.astype(np.int16), *ONE),
    "zero points of another shape": lambda: Activation(BYTES, np.zeros((1, 2), np.int32), *ONE[1:]),
    "right operand on the left": lambda: contract.linear(SIDED, WEIGHT),
    "right operand to pad": lambda: pad(SIDED, Geometry.of(1)),
    "matrix of no depth": lambda: quantize_matrices(np.ones((), f32), ScaledFormat(QuantSpec(IntFormat(8)), f32(1), 0),
                                                    side="left"),
    "image with scales per channel group": lambda: pad(
        left_operand(scaled_sums.random_scaled(np.random.default_rng(0), (2, 5, 6), PerGroup(2, 3)).tensor),
        Geometry.of(1, padding=1),
    ),
    "padding beyond memory": lambda: pad(
        left_operand(quantized(BYTES[None, None])), Geometry.of(2, padding=2**31 - 1)
    ),
    "groups that are not the weight's": lambda: contract.linear(
        left_operand(scaled_sums.random_scaled(np.random.default_rng(0), (4, 6), PerGroup(1, 2)).tensor), WEIGHT
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_operand__refuses_what_it_cannot_hold(case):
    with pytest.raises(BadInput):
        CASES[case]()


def test_contract__refuses_a_depth_at_which_bytes_could_leave_int32():
    x, w = quantized(np.zeros((1, 40_000), np.uint8)), quantized(np.full((1, 40_000), -128, np.int8), 127)
    how = ScaledFormat(QuantSpec(IntFormat(8)), f32(1), -128)
    rows = np.zeros((1, 40_000), f32)
    right = quantize_matrices(rows, how, side="right")
    for call in (
        lambda: contract.linear(left_operand(x), prepare_weight(w)),
        lambda: contract.batched_matmul(
            left_operand(quantized(x.codes[None])), prepare_matrices(quantized(w.codes[None], 127))
        ),
        lambda: contract.batched_matmul(left_operand(x), right),
    ):
        with pytest.raises(BadInput, match="int32"):
            call()
