"""Claim: block formats are quantized and dequantized as the exact scalar form says, for every mode, axis and tail."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from samplers.errors import BadInput
from simulator.arithmetic.block_formats import (
    INT8,
    MX_FORMATS,
    MXFP4,
    MXFP6_E2M3,
    MXFP6_E3M2,
    MXFP8_E4M3,
    MXFP8_E5M2,
    MXINT8,
    NVFP4,
    BlockFormat,
    ScaleMode,
)
from simulator.arithmetic.blockscale import BlockScaled, dequantize, quantize
from simulator.arithmetic.blockscale_exact import quantize_block_exact, shared_exponent_exact
from simulator.arithmetic.float_codes import decode
from simulator.arithmetic.float_formats import E2M1, E4M3, E4M3_NAN, E5M2, E8M0, FLOAT16, FLOAT32
from simulator.arithmetic.rounding import Rounding

pytestmark = pytest.mark.usefixtures("one_thread")

F32 = np.float32
FORMATS = (*MX_FORMATS, NVFP4)
ROUNDINGS = [Rounding.HALF_EVEN, Rounding.HALF_AWAY]

every_format = pytest.mark.parametrize("format", FORMATS, ids=str)
mx_format = pytest.mark.parametrize("format", MX_FORMATS, ids=str)
every_mode = pytest.mark.parametrize("mode", ScaleMode)
every_rounding = pytest.mark.parametrize("rounding", ROUNDINGS)


def blocks_of(x: np.ndarray, axis: int, size: int):
    """Index of each block's scale, and the slice of its elements."""
    for line in np.ndindex(*(1 if i == axis else n for i, n in enumerate(x.shape))):
        for number in range(-(-x.shape[axis] // size)):
            inside = list(line)
            inside[axis] = slice(number * size, (number + 1) * size)
            scale = list(line)
            scale[axis] = number
            yield tuple(scale), tuple(inside)


def assert_exact(x, format, axis=-1, mode=None, rounding=Rounding.HALF_EVEN, global_scale=None):
    """Every block equals the scalar form."""
    got = quantize(x, format, axis, mode, rounding, global_scale)
    assert got.codes.shape == x.shape
    for scale, inside in blocks_of(x, axis % x.ndim, format.size):
        block = [float(v) for v in x[inside]]
        want = quantize_block_exact(block, format, mode or ScaleMode.FLOOR, rounding, float(got.global_scale))
        assert (int(got.scales[scale]), got.codes[inside].tolist()) == want, block
    return got


def tie_dense(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Few significant bits, so that ties and exact values are common; scales across all of float32; some zeros."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(-(2**9), 2**9, shape) * 2.0 ** rng.integers(-12, 1, shape)
    scales = 2.0 ** rng.integers(-150, 118, (*shape[:-1], 1))
    return (steps * scales).astype(F32)


def test_formats__have_the_published_blocks_and_scales():
    assert [(f.size, f.scale, f.two_level) for f in MX_FORMATS] == [(32, E8M0, False)] * 6
    assert (NVFP4.size, NVFP4.scale, NVFP4.two_level) == (16, E4M3, True)


# Shared exponents. E2M1: emax 2, largest 6 = 1.5 * 2**2, one mantissa bit. E4M3: emax 8, largest 1.75 * 2**8.
# INT8: emax 0, largest 127/64. By hand from the definitions of the four modes, in the order of ScaleMode.
@pytest.mark.parametrize(
    ("format", "amax", "exponents"),
    [
        (MXFP4, 4.0, (0, 0, 0, 0)),
        (MXFP4, 4.0000005, (0, 1, 0, 0)),
        (MXFP4, 6.0, (0, 1, 0, 0)),
        (MXFP4, 6.0000005, (0, 1, 0, 1)),
        (MXFP4, 6.9999995, (0, 1, 0, 1)),
        (MXFP4, 7.0, (0, 1, 1, 1)),
        (MXFP4, 0.3, (-4, -3, -4, -4)),
        (MXFP8_E4M3, 448.0, (0, 1, 0, 0)),
        (MXFP8_E4M3, 449.0, (0, 1, 0, 1)),
        (MXFP8_E4M3, 495.99997, (0, 1, 0, 1)),
        (MXFP8_E4M3, 496.0, (0, 1, 1, 1)),
        (MXFP8_E5M2, 1.0, (-15, -15, -15, -15)),
        (MXFP8_E5M2, 1.875, (-15, -14, -14, -14)),
        (MXFP6_E3M2, 28.0, (0, 1, 0, 0)),
        (MXFP6_E3M2, 30.0, (0, 1, 1, 1)),
        (MXFP6_E2M3, 7.5, (0, 1, 0, 0)),
        (MXFP6_E2M3, 7.75, (0, 1, 1, 1)),
        (MXINT8, 1.984375, (0, 1, 0, 0)),
        (MXINT8, 1.9921875, (0, 1, 1, 1)),
        (MXINT8, 3.4028235e38, (127, 127, 127, 127)),
        (MXFP4, 1e-45, (-127, -127, -127, -127)),
        (MXINT8, 8e-39, (-127, -126, -127, -127)),
        (MXFP4, 0.0, (-127, -127, -127, -127)),
    ],
)
def test_shared_exponent__is_the_one_computed_by_hand(format, amax, exponents):
    for mode, k in zip(ScaleMode, exponents, strict=True):
        assert shared_exponent_exact(float(F32(amax)), format.element, mode) == k, mode
        assert int(quantize(np.array([0.0, -amax], F32), format, mode=mode).scales[0]) == k + 127, mode


def test_quantize__gives_the_mxfp4_block_computed_by_hand():
    x = np.array([7.0, -5.0, 2.5, 0.25, -0.25, 0.75, 0.0, -0.0], F32)
    floor = quantize(x, MXFP4)  # scale 1: 7 saturates to 6; 5, 2.5, 0.25, 0.75 are ties to 4, 2, 0, 1
    assert floor.scales.tolist() == [127]
    assert dequantize(floor).tolist() == [6, -4, 2, 0, 0, 1, 0, 0]
    assert floor.codes.tolist() == [7, 14, 4, 0, 8, 2, 0, 8]
    assert floor.saturated == 1
    away = quantize(x, MXFP4, rounding=Rounding.HALF_AWAY)
    assert dequantize(away).tolist() == [6, -6, 3, 0.5, -0.5, 1, 0, 0]
    ceil = quantize(x, MXFP4, mode=ScaleMode.CEIL)  # scale 2: 3.5 -> 4, 2.5 -> 2, 1.25 -> 1, 0.125 -> 0, 0.375 -> 0.5
    assert dequantize(ceil).tolist() == [8, -4, 2, 0, 0, 1, 0, 0]
    assert (ceil.scales.tolist(), ceil.saturated) == ([128], 0)


def test_quantize__gives_the_mxint8_block_computed_by_hand():
    x = np.array([1.9999, -1.9999, 1.0, -1.5, 1 / 128, 3 / 128, -1 / 128], F32)
    got = quantize(x, MXINT8)
    assert got.codes.view(np.int8).tolist() == [127, -127, 64, -96, 0, 2, 0]
    assert (got.scales.tolist(), got.saturated) == ([127], 2)
    assert quantize(x, MXINT8, rounding=Rounding.HALF_AWAY).codes.view(np.int8).tolist() == [
        127,
        -127,
        64,
        -96,
        1,
        2,
        -1,
    ]


def test_quantize__gives_the_nvfp4_block_computed_by_hand():
    x = np.zeros(20, F32)
    x[:3], x[16:] = [12.0, -5.0, 1.5], [0.75, -0.0, 0.25, 0.0]
    got = quantize(x, NVFP4, global_scale=0.5)  # scales 12/6/0.5 = 4 and 0.75/6/0.5 = 0.25
    assert decode(got.scales, E4M3).tolist() == [4, 0.25]
    assert dequantize(got)[:3].tolist() == [12, -4, 2]  # -5/2 = -2.5 ties to -2, 1.5/2 = 0.75 to 1
    assert dequantize(got)[16:].tolist() == [0.75, 0, 0.25, 0]
    whole = quantize(x, NVFP4)
    assert whole.global_scale == F32(12) / F32(2688)
    assert decode(whole.scales, E4M3)[0] == 448


@every_rounding
@every_mode
@mx_format
def test_quantize__equals_the_exact_form_on_tie_dense_blocks(format, mode, rounding):
    assert_exact(tie_dense(1, (12, 70)), format, -1, mode, rounding)


@every_rounding
@pytest.mark.parametrize("global_scale", [None, 1.0, 0.37, 2.0**-118, 2.0**117])
def test_quantize_nvfp4__equals_the_exact_form_on_tie_dense_blocks(global_scale, rounding):
    for seed in range(2):
        x = tie_dense(seed, (12, 40)) * F32(1 if seed else 2.0**-3)
        assert_exact(x, NVFP4, rounding=rounding, global_scale=global_scale)
    narrow = np.random.default_rng(2).standard_normal((8, 40)).astype(F32)
    assert_exact(narrow, NVFP4, rounding=rounding, global_scale=global_scale)


@every_mode
@mx_format
def test_quantize__equals_the_exact_form_beside_every_threshold_of_the_shared_exponent(format, mode):
    element = format.element
    edges = [1.0, element.max / 2.0**element.emax, 2 - 2.0 ** -(element.mantissa_bits + 1), 2.0]
    bits = np.array([e * 2.0**n for e in edges for n in (-149, -130, -127, -126, -20, 0, 20, 126)]).astype(F32)
    for amax in np.concatenate([bits, np.nextafter(bits, F32(0)), np.nextafter(bits, F32(1e38))]):
        assert_exact(np.array([amax, -amax / F32(3), amax / F32(8)], F32), format, 0, mode)


def test_quantize_nvfp4__equals_the_exact_form_beside_every_tie_of_scales_and_elements():
    """Within a few float32 of a tie, the stated order of roundings decides."""
    rng = np.random.default_rng(9)
    near = np.arange(-3, 4)
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    for g in rng.uniform(0.5, 1, 25).astype(F32):
        scale = float(decode(rng.integers(0x10, 0x70, 1).astype(np.uint8), E4M3)[0])
        between = 2.0 ** np.floor(np.log2(scale)) * (1 + np.arange(1, 16, 2) / 16)
        amax = ((6 * float(g) * between).astype(F32).view(np.int32)[:, None] + near).astype(np.int32).view(F32)
        assert_exact(amax.reshape(-1, 1), NVFP4, global_scale=float(g))
        points = (ties * float(g) * scale).astype(F32).view(np.int32)
        x = np.full((len(near), 8), 6 * float(g) * scale, F32)
        x[:, 1:] = (points[None] + near[:, None]).astype(np.int32).view(F32)
        assert_exact(x, NVFP4, global_scale=float(g))


arrays = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=9),
    elements=st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 1.5, 6.0, 448.0, -7.0, 2.0**-149]),
)


@given(arrays, st.sampled_from(FORMATS), st.integers(1, 5), st.data())
def test_quantize__equals_the_exact_form_on_any_shape_axis_and_value(x, format, size, data):
    format = replace(format, size=size)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    mode = None if format.two_level else data.draw(st.sampled_from(ScaleMode))
    got = assert_exact(x, format, axis, mode, data.draw(st.sampled_from(ROUNDINGS)))
    value = dequantize(got, np.float64)
    for scale, inside in blocks_of(x, axis % x.ndim, size):
        if np.all(np.isfinite(x[inside])):
            assert np.all(np.isfinite(value[inside]))
        else:
            assert np.all(np.isnan(value[inside]))
            assert int(got.scales[scale]) == format.scale.nan_code
            assert not got.codes[inside].any()


@every_format
def test_dequantize__equals_the_exact_product_for_every_pair_of_codes(format):
    elements = np.arange(1 << format.element.bits).astype(np.uint8)
    scales = np.arange(255 if format.scale == E8M0 else 127).astype(np.uint8)
    codes = np.repeat(elements[None], len(scales), 0)
    g = F32(1 if not format.two_level else 0.1)
    whole = replace(format, size=len(elements))
    got = BlockScaled(codes, scales[:, None], whole, 1, g)
    with np.errstate(over="ignore", invalid="ignore"):
        element = np.array([format.element.decode_exact(int(c)) for c in elements])
        scale = np.array([format.scale.decode_exact(int(c)) for c in scales])
        exact = scale[:, None] * float(g) * element
        assert np.array_equal(dequantize(got, np.float64), exact, equal_nan=True)
        single = exact.astype(F32)
    if format.two_level:
        single = element.astype(F32) * (scale.astype(F32) * g)[:, None]
    assert np.array_equal(dequantize(got), single, equal_nan=True)
    if not format.two_level:
        held = np.abs(exact) < 2.0**128
        assert np.array_equal(single.astype(np.float64)[held], exact[held])


@mx_format
def test_dequantize__overflows_float32_only_where_the_docstring_says(format):
    x = np.array([[3.4028235e38, 1.0], [-3.0e38, 2.5e38]], F32)
    assert np.all(np.isfinite(dequantize(quantize(x, format))))
    rounded_up = quantize(x, format, mode=ScaleMode.CEIL)
    wide = dequantize(rounded_up, np.float64)
    assert wide[0, 0] == (2.0**128 if format is not MXINT8 else 127 / 64 * 2.0**127)
    assert dequantize(quantize(x, format, mode=ScaleMode.CEIL))[0, 0] == (
        np.inf if format is not MXINT8 else wide[0, 0]
    )


@every_rounding
@every_mode
@mx_format
def test_quantize__is_idempotent_in_value(format, mode, rounding):
    x = np.random.default_rng(3).standard_normal((40, 64)).astype(F32)
    once = quantize(x, format, mode=mode, rounding=rounding)
    again = quantize(dequantize(once), format, mode=mode, rounding=rounding)
    assert np.array_equal(dequantize(once), dequantize(again))
    assert again.saturated == 0
    if mode is ScaleMode.FLOOR:
        assert np.array_equal(once.codes, again.codes)
        assert np.array_equal(once.scales, again.scales)


def test_quantize_nvfp4__is_idempotent_for_one_global_scale():
    x = np.random.default_rng(3).standard_normal((40, 64)).astype(F32)
    once = quantize(x, NVFP4, global_scale=2.0**-9)
    again = quantize(dequantize(once), NVFP4, global_scale=2.0**-9)
    assert np.array_equal(once.codes, again.codes)
    assert np.array_equal(once.scales, again.scales)


@every_mode
@mx_format
@given(power=st.integers(-60, 60))
def test_quantize__moves_only_the_scale_when_a_block_is_multiplied_by_a_power_of_two(format, mode, power):
    x = np.random.default_rng(4).standard_normal((3, 50)).astype(F32)
    plain, moved = quantize(x, format, mode=mode), quantize(x * F32(2.0**power), format, mode=mode)
    assert np.array_equal(plain.codes, moved.codes)
    assert np.array_equal(plain.scales.astype(int) + power, moved.scales)


@pytest.mark.parametrize("power", [-40, -1, 5, 40])
def test_quantize_nvfp4__moves_only_the_global_scale_when_a_tensor_is_multiplied_by_a_power_of_two(power):
    x = np.random.default_rng(4).standard_normal((3, 50)).astype(F32)
    plain, moved = quantize(x, NVFP4), quantize(x * F32(2.0**power), NVFP4)
    assert np.array_equal(plain.codes, moved.codes)
    assert np.array_equal(plain.scales, moved.scales)
    assert moved.global_scale == plain.global_scale * F32(2.0**power)


@mx_format
def test_quantize__keeps_every_grid_point_of_a_block_that_reaches_the_top_binade(format):
    element = format.element
    values = np.array([element.decode_exact(c) for c in range(1 << element.bits)])
    values = np.unique(values[np.isfinite(values) & (np.abs(values) <= element.max)]).astype(F32)
    whole = replace(format, size=len(values))
    got = quantize(values * F32(2.0**-5), whole)
    assert got.scales.tolist() == [127 - 5]
    assert np.array_equal(dequantize(got), values * F32(2.0**-5))
    assert got.saturated == 0


@every_mode
@mx_format
def test_quantize__rounds_monotonically_inside_a_block(format, mode):
    x = np.sort(np.random.default_rng(5).standard_normal((20, 32)).astype(F32), axis=1)
    assert np.all(np.diff(dequantize(quantize(x, format, mode=mode)), axis=1) >= 0)


@mx_format
def test_quantize__saturates_nothing_in_ceil_and_rceil(format):
    x = np.random.default_rng(6).uniform(-8, 8, (200, 32)).astype(F32)
    x[:, 3] = np.nextafter(F32(8), F32(0))
    assert quantize(x, format).saturated >= 200
    assert quantize(x, format, mode=ScaleMode.CEIL).saturated == 0
    assert quantize(x, format, mode=ScaleMode.RCEIL).saturated == 0


def test_quantize__counts_every_saturated_element():
    assert quantize(np.array([7.9, -7.9, 7.0, 6.9, 5.0, 4.0], F32), MXFP4).saturated == 3
    assert quantize(np.full(40, 100.0, F32), NVFP4, global_scale=2.0**-10).saturated == 40


@every_format
def test_quantize__gives_zero_blocks_the_smallest_scale(format):
    x = np.zeros(2 * format.size, F32)
    x[1], x[-1] = -0.0, 5.0
    got = quantize(x, format)
    smallest = 0 if format.scale == E8M0 else E4M3.encode_exact(2.0**-6)
    assert int(got.scales[0]) == smallest
    assert not dequantize(got)[: format.size].any()
    assert np.signbit(dequantize(got)[1]) == (format is not MXINT8)
    empty = quantize(np.zeros(5, F32), format)
    assert (empty.global_scale, int(empty.scales[0])) == (1, smallest)


@every_format
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_quantize__breaks_only_the_block_with_a_nan_or_infinity(format, bad):
    x = np.linspace(-3, 3, 2 * format.size + 5).astype(F32)
    broken = x.copy()
    broken[format.size + 1] = bad
    got, plain = quantize(broken, format), quantize(x, format)
    at = slice(format.size, 2 * format.size)
    assert np.all(np.isnan(dequantize(got)[at]))
    keep = np.ones(x.size, bool)
    keep[at] = False
    assert np.array_equal(dequantize(got)[keep], dequantize(plain)[keep])
    assert got.scales[[0, 2]].tolist() == plain.scales[[0, 2]].tolist()


@every_format
def test_quantize__gives_the_same_codes_along_any_axis_of_any_memory_order(format):
    x = np.random.default_rng(8).standard_normal((6, 9, 50)).astype(F32)
    for axis in range(3):
        want = quantize(np.ascontiguousarray(x.transpose(2, 0, 1)), format, axis)
        got = quantize(x.transpose(2, 0, 1), format, axis - 3)
        assert np.array_equal(want.codes, got.codes)
        assert np.array_equal(want.scales, got.scales)
        assert got.axis == axis


@mx_format
def test_int8_and_float_elements__decode_what_they_encode(format):
    element = format.element
    for code in range(1 << element.bits):
        value = element.decode_exact(code)
        if math.isfinite(value) and not (element == INT8 and code == 128):
            assert element.encode_exact(value) == code
    assert (INT8.decode_exact(128), INT8.encode_exact(-2.0)) == (-2.0, 129)


def test_quantize_block_exact__rounds_to_float32_where_the_rule_says():
    """A block whose codes change if one of the roundings to float32 is left out: the reciprocal is 1/3 rounded up."""
    x = np.array([18.0, float(np.nextafter(F32(0.75), F32(0)))], F32)
    scale, codes = quantize_block_exact([float(v) for v in x], NVFP4)
    assert E4M3.decode_exact(scale) == 3
    reciprocal = Fraction(FLOAT32.decode_exact(FLOAT32.encode_exact(Fraction(1, 3))))
    assert reciprocal > Fraction(1, 3)
    assert quantize(x, NVFP4, global_scale=1.0).codes.tolist() == codes == [7, 0]
    tie = np.array([18.0, 0.75], F32)  # 0.25 exactly if divided; the product rounds back to that tie
    assert quantize(tie, NVFP4, global_scale=1.0).codes.tolist() == quantize_block_exact(tie.tolist(), NVFP4)[1]


@pytest.mark.parametrize(
    "make",
    [
        lambda: BlockFormat("x", E4M3, 0),
        lambda: BlockFormat("x", E4M3_NAN),
        lambda: BlockFormat("x", FLOAT16),
        lambda: BlockFormat("x", E8M0),
        lambda: BlockFormat("x", E4M3, 16, E4M3),
        lambda: BlockFormat("x", E2M1, 16, E5M2),
        lambda: quantize(np.ones(4), MXFP4),
        lambda: quantize(np.ones((2, 4), F32), MXFP4, axis=2),
        lambda: quantize(np.array(F32(1)), MXFP4),
        lambda: quantize(np.empty((0, 4), F32), MXFP4),
        lambda: quantize(np.ones(4, F32), MXFP4, global_scale=1.0),
        lambda: quantize(np.ones(4, F32), NVFP4, mode=ScaleMode.FLOOR),
        lambda: quantize(np.ones(4, F32), NVFP4, global_scale=0.0),
        lambda: quantize(np.ones(4, F32), NVFP4, global_scale=math.nan),
        lambda: quantize(np.ones(4, F32), NVFP4, global_scale=2.0**118),
        lambda: quantize(np.ones(4, F32), MXFP4, rounding="nearest"),
        lambda: dequantize(quantize(np.ones(4, F32), MXFP4), np.float16),
        lambda: dequantize(BlockScaled(np.zeros((2, 40), np.uint8), np.zeros((2, 1), np.uint8), MXFP4, 1)),
        lambda: dequantize(BlockScaled(np.full(4, 16, np.uint8), np.zeros(1, np.uint8), MXFP4, 0)),
    ],
)
def test_bad_input__is_a_typed_error(make):
    with pytest.raises(BadInput):
        make()
