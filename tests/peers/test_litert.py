"""Claim: LiteRT's int8 FULLY_CONNECTED and CONV_2D give our requantizers' codes of our exact sums, element for element.

Three sets of kernels compute them, each with a formula of its own: the reference kernels (gemmlowp's double rounding in
CONV_2D, one rounding of a double in FULLY_CONNECTED), the optimised kernels without delegates (ruy), and the default
delegate (XNNPACK). Sums are dense in ties (power-of-two scales), zero points odd and even; per tensor and per channel.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

try:
    import litert_models as litert
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"ai-edge-litert or flatbuffers is absent: {error}", allow_module_level=True)

from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.requantize import (
    GemmlowpRequantizer,
    RuyRequantizer,
    TfliteFullyConnectedRequantizer,
    XnnpackRequantizer,
)

pytestmark = pytest.mark.usefixtures("one_thread")

LINEAR = {"reference": TfliteFullyConnectedRequantizer, "ruy": RuyRequantizer, "xnnpack": XnnpackRequantizer}
CONV = {"reference": GemmlowpRequantizer, "ruy": RuyRequantizer, "xnnpack": XnnpackRequantizer}
INT8 = IntFormat(8)
EXACT = Accumulator()
SCALES = {
    "ties": (0.5, 0.25, 2.0),
    "ties in a finer step": (2.0**-7, 2.0**-5, 2.0**-8),
    "random": (0.0123, 0.0371, 0.071),
    "thirds": (1 / 3, 1 / 7, 0.7),
    "multiplier above 1": (0.5, 0.75, 0.25),
}
ZEROS = ((0, 0), (5, -3), (-128, 127), (-7, 10))
every_kernel = pytest.mark.parametrize("kernels", litert.KERNELS)
every_scale = pytest.mark.parametrize("scales", SCALES)
every_granularity = pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])


def layer(rng, w, scales, per_channel, zeros, largest_bias=200):
    """A layer with these weights; per-channel scales keep the ties where the scales have them."""
    x_scale, w_scale, y_scale = (np.float32(s) for s in SCALES[scales])
    if per_channel:
        w_scale = w_scale * (2.0 ** rng.integers(-2, 3, len(w))).astype(np.float32)
        if "ties" not in scales:
            w_scale = w_scale * rng.uniform(0.5, 2, len(w)).astype(np.float32)
    bias = rng.integers(-largest_bias, largest_bias, len(w)).astype(np.int32)
    return litert.Layer(w, x_scale, w_scale, y_scale, *zeros, bias)


def codes(rng, largest, shape):
    return rng.integers(-largest, largest, shape, endpoint=True).astype(np.int8)


def requantized(kind, layer, acc):
    requantizer = kind(layer.x_scale, layer.w_scale, layer.y_scale, layer.y_zero, INT8, layer.bias)
    return requantizer(acc.astype(np.int32)).codes


def convolved(layer, x):
    """Exact sums; padding and dilation are written into the operands."""
    (rows, columns), (step_h, step_w) = layer.w.shape[1:3], layer.dilation
    w = np.zeros((len(layer.w), (rows - 1) * step_h + 1, (columns - 1) * step_w + 1, layer.w.shape[3]), np.int8)
    w[:, ::step_h, ::step_w] = layer.w
    if layer.same:
        sizes = zip(x.shape[1:3], layer.stride, w.shape[1:3], strict=True)
        lack = [max((-(-size // step) - 1) * step + kernel - size, 0) for size, step, kernel in sizes]
        pads = [(0, 0), *((n // 2, n - n // 2) for n in lack), (0, 0)]
        x = np.pad(x, pads, constant_values=layer.x_zero)
    return integer_conv(
        x, w.transpose(0, 3, 1, 2), EXACT, Geometry.of(2, stride=layer.stride), x_zero=layer.x_zero
    ).values


@every_kernel
@every_scale
@every_granularity
def test_fully_connected__has_our_requantizers_codes(kernels, scales, per_channel):
    rng = np.random.default_rng(21)
    for (rows, depth, outputs, largest), zeros in zip(
        ((192, 8, 48, 9), (192, 8, 48, 4), (1, 33, 65, 20), (7, 257, 31, 127)), ZEROS, strict=True
    ):
        made = layer(rng, codes(rng, largest, (outputs, depth)), scales, per_channel, zeros)
        x = codes(rng, largest, (rows, depth))
        acc = integer_matmul(x, made.w, EXACT, x_zero=made.x_zero).values
        theirs = litert.run(made, x, kernels)
        assert np.count_nonzero(requantized(LINEAR[kernels], made, acc) != theirs) == 0


CONVS = {
    "1x1": {"size": (1, 1)},
    "3x3": {"size": (3, 3), "same": True},
    "3x3 stride 2": {"size": (3, 3), "same": True, "stride": (2, 2)},
    "2x3 stride 1, 2": {"size": (2, 3), "stride": (1, 2)},
    "3x3 dilation 2": {"size": (3, 3), "dilation": (2, 2)},
    "3x2 dilation 1, 3": {"size": (3, 2), "same": True, "dilation": (1, 3)},
}


@every_kernel
@every_scale
@every_granularity
@pytest.mark.parametrize("geometry", CONVS)
def test_conv_2d__has_our_requantizers_codes(kernels, scales, per_channel, geometry):
    rng = np.random.default_rng(22)
    how = dict(CONVS[geometry])
    size = how.pop("size")
    for (channels, outputs, largest), zeros in zip(
        ((8, 24, 3), (3, 17, 6), (1, 8, 20), (5, 9, 127)), ZEROS, strict=True
    ):
        w = codes(rng, largest, (outputs, *size, channels))
        made = dataclasses.replace(layer(rng, w, scales, per_channel, zeros), **how)
        x = codes(rng, largest, (2, 11, 12, channels))
        theirs = litert.run(made, x, kernels)
        assert np.count_nonzero(requantized(CONV[kernels], made, convolved(made, x)) != theirs) == 0


@every_kernel
def test_layers__saturate_alike(kernels):
    """Output steps so fine that nearly every code saturates, up to where the int32 of the kernels still holds them.

    XNNPACK takes multipliers below 256 only.
    """
    rng = np.random.default_rng(23)
    made = layer(rng, codes(rng, 20, (16, 9)), "ties", True, (3, -5))
    x = codes(rng, 20, (40, 9))
    acc = integer_matmul(x, made.w, EXACT, x_zero=made.x_zero).values
    for exponent in (4, 8) if kernels == "xnnpack" else (4, 8, 12):
        fine = dataclasses.replace(made, y_scale=np.float32(2.0**-exponent))
        image = dataclasses.replace(fine, w=fine.w[:, None, None, :].copy())
        for kind, model, codes_in in ((LINEAR, fine, x), (CONV, image, x[:, None, None, :].copy())):
            ours = requantized(kind[kernels], fine, acc)
            assert np.count_nonzero(ours != litert.run(model, codes_in, kernels).reshape(ours.shape)) == 0
