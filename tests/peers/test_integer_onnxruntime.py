"""Claim: ONNX Runtime's MatMulInteger and ConvInteger give our exact int32 sums, zero points subtracted inside.

Codes include the extremes of their types; convolutions have every stride, padding, dilation and grouping.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

try:
    import onnx_nodes
    from onnx import TensorProto
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"onnxruntime or onnx is absent: {error}", allow_module_level=True)

from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.matmul import integer_matmul

EXACT = Accumulator()
KINDS = [np.uint8, np.int8]


def codes(rng, kind, shape):
    """Every code, and the two extremes in one element of three."""
    info = np.iinfo(kind)
    found = rng.integers(info.min, info.max, shape, endpoint=True)
    return np.where(rng.integers(0, 3, shape) == 0, rng.choice([info.min, info.max], shape), found).astype(kind)


@pytest.mark.parametrize("x_kind", KINDS)
@pytest.mark.parametrize("w_kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (33, 257, 65), (5, 64, 48), (128, 31, 16)], ids=str)
def test_matmul_integer__has_our_sums(shape, w_kind, x_kind):
    rng = np.random.default_rng(41)
    rows, depth, outputs = shape
    for per_output in (False, True):
        x, w = codes(rng, x_kind, (rows, depth)), codes(rng, w_kind, (outputs, depth))
        x_zero, w_zero = codes(rng, x_kind, ()), codes(rng, w_kind, (outputs,) if per_output else ())
        ours = integer_matmul(x, w, EXACT, x_zero=int(x_zero), w_zero=w_zero).values
        theirs = onnx_nodes.run("MatMulInteger", [x, w.T.copy(), x_zero, w_zero], TensorProto.INT32)
        assert theirs.dtype == np.int32
        assert np.count_nonzero(ours != theirs) == 0


GEOMETRIES = {
    "1x1": ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "3x3 padded": ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "3x2 stride 2, 3": ((3, 2), (2, 3), (1, 2, 1, 2), (1, 1), 1),
    "padded at one end": ((3, 3), (2, 2), (0, 1, 1, 0), (1, 1), 1),
    "dilation 2, 3": ((3, 2), (1, 1), (2, 1, 2, 1), (2, 3), 1),
    "groups": ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    "depthwise, stride and dilation": ((3, 3), (2, 2), (2, 2, 2, 2), (2, 2), 6),
}


@pytest.mark.parametrize("x_kind", KINDS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_conv_integer__has_our_sums(geometry, x_kind):
    """Padding is the value 0, which is the code x_zero."""
    size, stride, pads, dilation, groups = GEOMETRIES[geometry]
    rng = np.random.default_rng(42)
    for w_kind in KINDS:
        x, w = codes(rng, x_kind, (2, 6, 9, 11)), codes(rng, w_kind, (12, 6 // groups, *size))
        x_zero, w_zero = codes(rng, x_kind, ()), codes(rng, w_kind, ())
        theirs = onnx_nodes.run(
            "ConvInteger", [x, w, x_zero, w_zero], TensorProto.INT32,
            kernel_shape=size, strides=stride, pads=pads, dilations=dilation, group=groups,
        )  # fmt: skip
        whole = Geometry(stride, ((pads[0], pads[2]), (pads[1], pads[3])), dilation, groups)
        ours = integer_conv(x.transpose(0, 2, 3, 1), w, EXACT, whole, x_zero=int(x_zero), w_zero=int(w_zero)).values
        assert theirs.dtype == np.int32
        assert np.count_nonzero(ours.transpose(0, 3, 1, 2) != theirs) == 0
