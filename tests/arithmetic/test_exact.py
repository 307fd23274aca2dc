"""Claim: exact contractions of any codes of up to 16 bits are the mathematical integers, at every depth and shape."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_convolution import convolve, random_geometry, random_operands

from samplers.errors import BadInput
from simulator.arithmetic.exact import exact_conv, exact_matmul
from simulator.arithmetic.geometry import Geometry

pytestmark = pytest.mark.usefixtures("one_thread")

TYPES = ("i1", "u1", "i2", "u2")


def extremes(dtype, shape, rng):
    info = np.iinfo(dtype)
    if rng.integers(3) == 0:
        return rng.choice(np.array([info.min, info.max, 0, info.max // 2 + 1], dtype), shape)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def matmul(x, w, x_zero, w_zero):
    steps = w.astype(object) - np.asarray(w_zero, object)[..., None]
    return (x.astype(object) - x_zero) @ np.swapaxes(steps, -1, -2)


@pytest.mark.parametrize(("x_type", "w_type"), list(product(TYPES, repeat=2)))
def test_exact_matmul__is_the_sum_in_python_integers(x_type, w_type):
    rng = np.random.default_rng([TYPES.index(x_type), TYPES.index(w_type)])
    for leading in ((), (2,), (2, 3)):
        for batched, per_output in product((False, True), repeat=2):
            rows, outputs, depth = (int(n) for n in (rng.integers(1, 70), rng.integers(1, 40), rng.integers(1, 50)))
            x = extremes(x_type, (*leading, rows, depth), rng)
            w = extremes(w_type, (*(leading if batched else ()), outputs, depth), rng)
            x_zero = int(extremes(x_type, (), rng))
            w_zero = extremes(w_type, outputs, rng) if per_output else int(extremes(w_type, (), rng))
            got, want = exact_matmul(x, w, x_zero, w_zero), matmul(x, w, x_zero, w_zero)
            assert got.shape == want.shape
            assert np.array_equal(got, want.astype(np.int64))


@pytest.mark.parametrize("depth", [33_024, 33_025, 70_001])
def test_exact_matmul__does_not_wrap_where_bytes_leave_int32(depth):
    x, w = np.full((1, depth), 255, np.uint8), np.full((2, depth), -128, np.int8)
    w[1] = 127
    got = exact_matmul(x, w, 0, np.array([127, -128]))
    assert got.tolist() == [[-depth * 255 * 255, depth * 255 * 255]]
    assert got.dtype == (np.int32 if depth == 33_024 else np.int64)


def test_exact_matmul__of_16_bits_does_not_wrap():
    x, w = np.full((1, 9), -(2**15), np.int16), np.full((1, 9), 2**16 - 1, np.uint16)
    assert exact_matmul(x, w, 2**15 - 1, 0).item() == -9 * (2**16 - 1) ** 2


@pytest.mark.parametrize(("x_type", "w_type"), [("i2", "u2"), ("u1", "i2"), ("i2", "i1")])
def test_exact_matmul__of_16_bits_adds_every_group_of_a_long_depth(x_type, w_type):
    rng = np.random.default_rng(9)
    x, w = extremes(x_type, (2, 70_001), rng), extremes(w_type, (3, 70_001), rng)
    x[0], w[0] = np.iinfo(x_type).min, np.iinfo(w_type).max
    want = (x.astype(object) - 7) @ (w.astype(object) - 3).T
    assert np.array_equal(exact_matmul(x, w, 7, 3), want.astype(np.int64))


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(("x_type", "w_type"), [("u1", "i1"), ("i1", "u1"), ("u2", "i1"), ("i2", "i2")])
def test_exact_conv__is_the_sum_over_taps(axes, x_type, w_type):
    rng = np.random.default_rng([axes, TYPES.index(x_type), TYPES.index(w_type)])
    for _ in range(25):
        geometry = random_geometry(rng, axes)
        x, w, x_zero, w_zero = random_operands(rng, geometry, x_type, w_type)
        got, want = exact_conv(x, w, geometry, x_zero, w_zero), convolve(x, w, geometry, x_zero, w_zero)
        assert got.shape == want.shape
        assert np.array_equal(got, want)


def test_exact_conv__of_every_channel_apart_is_depthwise():
    rng = np.random.default_rng(5)
    for _ in range(20):
        geometry = Geometry.of(2, stride=int(rng.integers(1, 3)), padding=1, groups=int(rng.integers(2, 40)))
        x, w, x_zero, w_zero = random_operands(rng, geometry, depthwise=True)
        assert np.array_equal(exact_conv(x, w, geometry, x_zero, w_zero), convolve(x, w, geometry, x_zero, w_zero))


def test_exact_conv__sums_channels_in_groups_where_bytes_leave_int32():
    x, w = np.full((1, 3, 3, 4000), 255, np.uint8), np.full((1, 4000, 3, 3), -128, np.int8)
    got = exact_conv(x, w, Geometry.of(2), 0, 127)
    assert got.item() == -9 * 4000 * 255 * 255


@given(st.integers(1, 3), st.sampled_from(TYPES), st.sampled_from(TYPES), st.integers(0, 2**32 - 1))
def test_exact_conv__is_the_sum_over_taps_at_any_geometry(axes, x_type, w_type, seed):
    rng = np.random.default_rng(seed)
    geometry = random_geometry(rng, axes)
    x, w, x_zero, w_zero = random_operands(rng, geometry, x_type, w_type)
    assert np.array_equal(exact_conv(x, w, geometry, x_zero, w_zero), convolve(x, w, geometry, x_zero, w_zero))


CODES = np.ones((2, 3), np.int8)
IMAGE, KERNEL = np.ones((1, 4, 4, 2), np.int8), np.ones((2, 2, 3, 3), np.int8)
CASES = {
    "floats": (lambda: exact_matmul(CODES.astype("f4"), CODES), "codes"),
    "32 bits": (lambda: exact_matmul(CODES, CODES.astype("i4")), "codes"),
    "a list": (lambda: exact_matmul([[1]], CODES), "codes"),
    "a vector": (lambda: exact_matmul(CODES[0], CODES), "rows"),
    "other depth": (lambda: exact_matmul(CODES, np.ones((2, 4), np.int8)), "depth"),
    "other batch": (lambda: exact_matmul(CODES[None], np.ones((2, 2, 3), np.int8)), "batch"),
    "no depth": (lambda: exact_matmul(CODES[:, :0], CODES[:, :0]), "empty"),
    "zero point beyond the type": (lambda: exact_matmul(CODES, CODES, 128), "x_zero"),
    "zero points of another number": (lambda: exact_matmul(CODES, CODES, 0, np.zeros(3, int)), "w_zero"),
    "fractional zero point": (lambda: exact_matmul(CODES, CODES, 0.5), "x_zero"),
    "image smaller than the kernel": (lambda: exact_conv(IMAGE[:, :2], KERNEL, Geometry.of(2)), "kernel"),
    "kernel spread beyond the image": (lambda: exact_conv(IMAGE, KERNEL, Geometry.of(2, dilation=2)), "kernel"),
    "other rank": (lambda: exact_conv(IMAGE, KERNEL, Geometry.of(1)), "spatial"),
    "other channels": (lambda: exact_conv(IMAGE[..., :1], KERNEL, Geometry.of(2)), "channels"),
    "groups that do not divide": (lambda: exact_conv(IMAGE, KERNEL, Geometry.of(2, groups=3)), "divide"),
    "stride 0": (lambda: Geometry.of(2, stride=0), "stride"),
    "negative padding": (lambda: Geometry.of(1, padding=-1), "padding"),
    "no dilation": (lambda: Geometry.of(3, dilation=0), "dilation"),
    "no groups": (lambda: Geometry.of(2, groups=0), "groups"),
    "4 axes": (lambda: Geometry.of(4), "axes"),
    "axes that differ": (lambda: Geometry((1,), ((0, 0), (0, 0)), (1,)), "axes"),
    "padding that is no pair": (lambda: Geometry((1,), (1,), (1,)), "pairs"),
}


@pytest.mark.parametrize("case", CASES)
def test_exact__refuses_what_does_not_fit(case):
    call, word = CASES[case]
    with pytest.raises(BadInput, match=word):
        call()
