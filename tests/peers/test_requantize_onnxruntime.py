"""Claim: ONNX Runtime's QLinearMatMul and QLinearConv give the codes of our requantizer fed with the exact int32 sums.

The sums are dense in ties: small products under power-of-two scales, with a zero point of either parity.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from byte_operands import operands

try:
    import onnx_nodes
    from onnx import TensorProto
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"onnxruntime or onnx is absent: {error}", allow_module_level=True)

from simulator.arithmetic.codes_out import conv_codes
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.requantize import OnnxRuntimeRequantizer

ROWS, DEPTH, CHANNELS = 192, 8, 48
SCALES = {
    "ties": (0.5, 0.25, 2.0),
    "ties in a finer step": (2.0**-7, 2.0**-5, 2.0**-8),
    "random": (0.0123, 0.0371, 0.071),
    "thirds": (1 / 3, 1 / 7, 0.7),
    "beyond int32": (0.5, 0.25, 1e-8),
}
FORMATS = [IntFormat(8, signed=False), IntFormat(8)]
KINDS = {True: TensorProto.INT8, False: TensorProto.UINT8}


def problems(fmt, scales, per_channel):
    """Codes, exact sums and parameters: (x, x_zero, w, sums, x_scale, w_scale, y_scale, y_zero, bias)."""
    rng = np.random.default_rng(6)
    x_scale, w_scale, y_scale = (np.float32(s) for s in SCALES[scales])
    if per_channel:
        w_scale = w_scale * (2.0 ** rng.integers(-2, 3, CHANNELS)).astype(np.float32)
        if "ties" not in scales:
            w_scale = w_scale * rng.uniform(0.5, 2, CHANNELS).astype(np.float32)
    for largest, x_zero, y_zero in ((4, 3, fmt.qmin), (9, 5, fmt.qmin + 77), (40, 17, fmt.qmax)):
        x = rng.integers(0, largest, (ROWS, DEPTH), endpoint=True).astype(fmt.dtype)
        w = rng.integers(-largest, largest, (CHANNELS, DEPTH), endpoint=True).astype(np.int8)
        acc = (x.astype(np.int32) - x_zero) @ w.astype(np.int32).T
        bias = rng.integers(-200, 200, CHANNELS).astype(np.int32)
        yield x, fmt.dtype.type(x_zero), w, acc, x_scale, w_scale, y_scale, fmt.dtype.type(y_zero), bias


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_qlinear_matmul__has_our_requantizers_codes(fmt, scales, per_channel):
    for x, x_zero, w, acc, x_scale, w_scale, y_scale, y_zero, _ in problems(fmt, scales, per_channel):
        ours = OnnxRuntimeRequantizer(x_scale, w_scale, y_scale, int(y_zero), fmt)(acc)
        w_zero = np.zeros(np.shape(w_scale), np.int8)
        inputs = [x, x_scale, x_zero, w.T.copy(), w_scale, w_zero, y_scale, y_zero]
        theirs = onnx_nodes.run("QLinearMatMul", inputs, KINDS[fmt.signed])
        assert theirs.dtype == fmt.dtype
        assert np.count_nonzero(ours.codes != theirs) == 0


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_qlinear_conv__has_our_requantizers_codes(fmt, scales, per_channel):
    for x, x_zero, w, acc, x_scale, w_scale, y_scale, y_zero, bias in problems(fmt, scales, per_channel):
        ours = OnnxRuntimeRequantizer(x_scale, w_scale, y_scale, int(y_zero), fmt, bias)(acc)
        w_zero = np.zeros(np.shape(w_scale), np.int8)
        image, kernel = x.reshape(ROWS, DEPTH, 1, 1), w.reshape(CHANNELS, DEPTH, 1, 1)
        inputs = [image, x_scale, x_zero, kernel, w_scale, w_zero, y_scale, y_zero, bias]
        theirs = onnx_nodes.run("QLinearConv", inputs, KINDS[fmt.signed]).reshape(ROWS, CHANNELS)
        assert np.count_nonzero(ours.codes != theirs) == 0


GEOMETRIES = {
    "dilation 2, 3": ((3, 2), (1, 1), ((2, 2), (1, 1)), (2, 3), 1),
    "groups, padded at one end": ((3, 3), (2, 1), ((0, 1), (1, 0)), (1, 1), 2),
    "depthwise, stride and dilation": ((3, 3), (2, 2), ((2, 2), (2, 2)), (2, 2), 6),
    "depthwise": ((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 6),
}


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("scales", ["ties", "random", "thirds"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_qlinear_conv__of_any_geometry_has_the_codes_of_conv_codes(fmt, geometry, scales, per_channel):
    size, stride, padding, dilation, groups = GEOMETRIES[geometry]
    rng = np.random.default_rng(8)
    x_scale, w_scale, y_scale = (np.float32(s) for s in SCALES[scales])
    if per_channel:
        w_scale = w_scale * (2.0 ** rng.integers(-2, 3, 12)).astype(np.float32)
    whole = Geometry(stride, padding, dilation, groups)
    for largest, x_zero, y_zero in ((4, 3, fmt.qmin), (9, 5, fmt.qmin + 77), (40, 17, fmt.qmax)):
        x = rng.integers(0, largest, (2, 6, 9, 11), endpoint=True).astype(fmt.dtype)
        w = rng.integers(-largest, largest, (12, 6 // groups, *size), endpoint=True).astype(np.int8)
        bias = rng.integers(-200, 200, 12).astype(np.int32)
        requantizer = OnnxRuntimeRequantizer(x_scale, w_scale, y_scale, y_zero, fmt, bias)
        ours = conv_codes(*operands(x, x_zero, w, 0, whole), requantizer, whole).codes
        w_zero = np.zeros(np.shape(w_scale), np.int8)
        y_code = fmt.dtype.type(y_zero)
        inputs = [x, x_scale, fmt.dtype.type(x_zero), w, w_scale, w_zero, y_scale, y_code, bias]
        (top, bottom), (left, right) = padding
        theirs = onnx_nodes.run(
            "QLinearConv", inputs, KINDS[fmt.signed], kernel_shape=size, strides=stride,
            pads=(top, left, bottom, right), dilations=dilation, group=groups,
        )  # fmt: skip
        assert np.count_nonzero(ours.transpose(0, 3, 1, 2) != theirs) == 0
