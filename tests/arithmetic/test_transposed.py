"""Claim: a transposed convolution is the gradient of its convolution: each input pixel scatters its kernel."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.operands import ScaledFormat, left_operand, quantize_image
from simulator.arithmetic.quantizer import QuantSpec, quantize_to_range
from simulator.arithmetic.transposed import conv_transpose, flipped_kernel
from simulator.arithmetic.weights import prepare_weight

CASES = [
    (Geometry.of(1, stride=3, padding=1), (5,), (4,), (2,)),
    (Geometry.of(2, stride=(2, 1), padding=(0, 1), groups=2), (3, 4), (2, 3), (1, 0)),
    (Geometry.of(2, stride=2, dilation=(1, 3)), (3, 2), (3, 2), (1, 2)),
    (Geometry.of(2, stride=2, padding=1), (4, 3), (1, 1), (0, 0)),  # padding beyond the kernel's reach crops
    (Geometry.of(2, stride=2, padding=1, groups=4), (4, 3), (3, 3), (1, 1)),
    (Geometry.of(3, stride=(1, 2, 2), padding=(1, 0, 0)), (2, 2, 3), (3, 2, 1), (0, 1, 0)),
]


def scattered(x: np.ndarray, w: np.ndarray, geometry: Geometry, extra: tuple[int, ...]) -> np.ndarray:
    """``out[n s + k d - p, g] += x[n, c] w[c, g, k]`` for integers x (batch, spatial..., channel), in plain loops."""
    outputs = w.shape[1] * geometry.groups
    size = [
        (n - 1) * s - a - b + d * (k - 1) + e + 1
        for n, s, (a, b), d, k, e in zip(
            x.shape[1:-1], geometry.stride, geometry.padding, geometry.dilation, w.shape[2:], extra, strict=True
        )
    ]
    out = np.zeros((len(x), *size, outputs), np.int64)
    share = len(w) // geometry.groups
    for pixel, tap in product(np.ndindex(x.shape[1:-1]), np.ndindex(w.shape[2:])):
        at = [
            n * s + k * d - pad[0]
            for n, s, k, d, pad in zip(pixel, geometry.stride, tap, geometry.dilation, geometry.padding, strict=True)
        ]
        if any(not 0 <= i < n for i, n in zip(at, size, strict=True)):
            continue
        for group in range(geometry.groups):
            part = x[(slice(None), *pixel, slice(group * share, (group + 1) * share))]
            kernel = w[(slice(group * share, (group + 1) * share), slice(None), *tap)]
            columns = slice(group * w.shape[1], (group + 1) * w.shape[1])
            out[(slice(None), *at, columns)] += part @ kernel
    return out


def operands(geometry: Geometry, size: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    x = generator.standard_normal((2, *size, 4)).astype(np.float32)
    return x, generator.standard_normal((4, 3, *kernel)).astype(np.float32)


@pytest.mark.parametrize(("geometry", "size", "kernel", "extra"), CASES)
def test_conv_transpose__scatters_each_pixel_and_rescales_once(geometry, size, kernel, extra):
    x, w = operands(geometry, size, kernel)
    how = ScaledFormat(QuantSpec(IntFormat(8, signed=False)), np.float32(0.03), 101)
    spec = QuantSpec(IntFormat(8, signed=True, narrow=True), PerAxis((0,)), symmetric=True)
    weight = quantize_to_range(flipped_kernel(w, geometry.groups), spec)
    bias = np.arange(3 * geometry.groups, dtype=np.float32)
    image = quantize_image(x, how)
    got = conv_transpose(image, prepare_weight(weight, parts=geometry.groups), bias, geometry, output_padding=extra)
    scale = np.abs(w).reshape(geometry.groups, -1, 3, *kernel).max(axis=(1, *range(3, 3 + len(kernel)))).reshape(-1)
    scale = (scale.astype(np.float64) / 127).astype(np.float32)
    per_channel = scale.reshape(geometry.groups, 1, 3, *(1,) * len(kernel))
    codes = np.rint(w.reshape(geometry.groups, -1, *w.shape[1:]) / per_channel).reshape(w.shape).astype(np.int64)
    sums = scattered(image.bytes.astype(np.int64) - 101, codes, geometry, extra)
    want = sums.astype(np.float32) * (np.float32(0.03) * scale) + bias
    assert got.dtype == want.dtype
    assert np.array_equal(got, want)


def test_conv_transpose__puts_each_samples_own_zero_point_between_its_pixels():
    geometry = Geometry.of(1, stride=2)
    x, w = operands(geometry, (3,), (2,))
    spec = QuantSpec(IntFormat(8, signed=False), PerAxis((0,)))
    both = quantize_to_range(x, spec)
    weight = prepare_weight(quantize_to_range(flipped_kernel(w), QuantSpec(IntFormat(8), symmetric=True)))
    together = conv_transpose(left_operand(both), weight, None, geometry)
    for i in (0, 1):
        alone = conv_transpose(left_operand(quantize_to_range(x[i : i + 1], spec)), weight, None, geometry)
        assert np.array_equal(together[i : i + 1], alone)
    assert both.zero_point.reshape(-1)[0] != both.zero_point.reshape(-1)[1]


def test_conv_transpose__refuses_what_does_not_fit():
    geometry = Geometry.of(1, stride=2)
    x, w = operands(geometry, (3,), (2,))
    image = quantize_image(x, ScaledFormat(QuantSpec(IntFormat(8, signed=False)), np.float32(0.03), 101))
    weight = prepare_weight(quantize_to_range(flipped_kernel(w), QuantSpec(IntFormat(8), symmetric=True)))
    with pytest.raises(BadInput, match="output_padding"):
        conv_transpose(image, weight, None, geometry, output_padding=2)
    with pytest.raises(BadInput, match="at least one element"):
        conv_transpose(image, weight, None, Geometry.of(1, padding=3))
    with pytest.raises(BadInput, match="spatial axes"):
        conv_transpose(image, weight, None, Geometry.of(2))
