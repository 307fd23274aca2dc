"""Claim: the ONNX Runtime targets compute what its operators do.

``onnxruntime``: codes of QLinearMatMul, QLinearConv and QGemm, floats of MatMulIntegerToFloat, every bit.
``onnx-matmulnbits``: every bit of MatMulNBits (4 bits, level 4) where float32 is exact; elsewhere within the bound of
``test_matmul_nbits.py``, since the peer adds blocks in another order.
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

from target_problems import SCALES, quantized, scales_of

from simulator import targets
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.packed_layouts import ONNX
from simulator.arithmetic.packing import pack
from simulator.arithmetic.quantizer import Quantized

TARGET = targets.target("onnxruntime")
NBITS = targets.target("onnx-matmulnbits")
KINDS = {True: TensorProto.INT8, False: TensorProto.UINT8}
every_scale = pytest.mark.parametrize("scales", SCALES)
every_granularity = pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
every_activation = pytest.mark.parametrize("spec", TARGET.activations, ids=lambda spec: str(spec.format))


def problem(rng, spec, scales, per_channel, x_shape, w_shape, largest):
    """(x, w, bias, output)."""
    fmt = spec.format
    x_scale, w_scale, y_scale = scales_of(rng, scales, w_shape[0], per_channel)
    x = quantized(rng.integers(max(fmt.qmin, -largest), largest, x_shape), spec, x_scale, fmt.qmin + 133)
    w = quantized(rng.integers(-largest, largest, w_shape), TARGET.weights[per_channel], w_scale)
    bias = rng.integers(-200, 200, w_shape[0]).astype(np.int32)
    return x, w, bias, targets.OutputSpec(y_scale, fmt.qmin + 77, fmt)


def scale_of(operand):
    return operand.scale.reshape(-1) if operand.scale.size > 1 else operand.scale.reshape(())


def zero_of(operand):
    return operand.zero_point.astype(operand.codes.dtype).reshape(np.shape(scale_of(operand)))


def ends(output):
    return [np.asarray(output.scale), np.asarray(output.zero_point, output.format.dtype)]


@every_activation
@every_scale
@every_granularity
def test_linear__gives_the_codes_of_qlinear_matmul(spec, scales, per_channel):
    rng = np.random.default_rng(1)
    for largest in (5, 40):
        x, w, _, output = problem(rng, spec, scales, per_channel, (192, 8), (48, 8), largest)
        inputs = [x.codes, scale_of(x), zero_of(x), w.codes.T.copy(), scale_of(w), zero_of(w), *ends(output)]
        theirs = onnx_nodes.run("QLinearMatMul", inputs, KINDS[spec.format.signed])
        assert np.count_nonzero(targets.linear(TARGET, x, w, None, output).values != theirs) == 0


@every_activation
@every_scale
@every_granularity
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear__gives_the_codes_of_qgemm(spec, scales, per_channel, with_bias):
    rng = np.random.default_rng(7)
    for largest in (5, 40):
        x, w, bias, output = problem(rng, spec, scales, per_channel, (192, 8), (48, 8), largest)
        inputs = [x.codes, scale_of(x), zero_of(x), w.codes, scale_of(w), zero_of(w), bias, *ends(output)]
        if not with_bias:
            bias = None
            inputs[6] = np.zeros(48, np.int32)  # an optional input in the middle
        theirs = onnx_nodes.run("QGemm", inputs, KINDS[spec.format.signed], onnx_nodes.MICROSOFT, transB=1)
        assert np.count_nonzero(targets.linear(TARGET, x, w, bias, output).values != theirs) == 0


@every_activation
@every_scale
def test_matmul__gives_the_codes_of_batched_qlinear_matmul(spec, scales):
    rng = np.random.default_rng(2)
    x, y, _, output = problem(rng, spec, scales, False, (2, 3, 17, 8), (2, 3, 9, 8), 9)
    inputs = [x.codes, scale_of(x), zero_of(x), y.codes.swapaxes(-1, -2).copy(), scale_of(y), zero_of(y), *ends(output)]
    theirs = onnx_nodes.run("QLinearMatMul", inputs, KINDS[spec.format.signed])
    assert np.count_nonzero(targets.matmul(TARGET, x, y, output).values != theirs) == 0


@every_activation
@every_scale
@every_granularity
@pytest.mark.parametrize("groups", [1, 2])
def test_conv__gives_the_codes_of_qlinear_conv(spec, scales, per_channel, groups):
    rng = np.random.default_rng(3)
    geometry = Geometry.of(2, stride=2, padding=1, groups=groups)
    for largest in (3, 20):
        x, w, bias, output = problem(rng, spec, scales, per_channel, (2, 9, 10, 4), (24, 4 // groups, 3, 3), largest)
        image = x.codes.transpose(0, 3, 1, 2).copy()
        inputs = [image, scale_of(x), zero_of(x), w.codes, scale_of(w), zero_of(w), *ends(output), bias]
        theirs = onnx_nodes.run(
            "QLinearConv", inputs, KINDS[spec.format.signed], strides=[2, 2], pads=[1] * 4, group=groups
        )
        ours = targets.conv(TARGET, x, w, bias, geometry, output)
        assert np.count_nonzero(ours.values.transpose(0, 3, 1, 2) != theirs) == 0


@every_granularity
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear__gives_the_floats_of_matmul_integer_to_float(per_channel, with_bias):
    rng = np.random.default_rng(4)
    spec = TARGET.activations[0]
    for _ in range(8):
        x = quantized(rng.integers(0, 256, (16, 24)), spec, rng.uniform(0.01, 0.1), int(rng.integers(0, 256)))
        w_scale = rng.uniform(0.01, 0.1, 32 if per_channel else 1)
        w = quantized(rng.integers(-127, 128, (32, 24)), TARGET.weights[per_channel], w_scale)
        bias = (rng.normal(size=32) * 5).astype(np.float32) if with_bias else None
        inputs = [x.codes, w.codes.T.copy(), scale_of(x), scale_of(w), zero_of(x), zero_of(w)]
        inputs += [] if bias is None else [bias]
        theirs = onnx_nodes.run("MatMulIntegerToFloat", inputs, TensorProto.FLOAT, onnx_nodes.MICROSOFT)
        assert np.count_nonzero(targets.linear(TARGET, x, w, bias).values != theirs) == 0


DEPTH, OUTPUTS = 384, 48


def nbits(x, w, block):
    packed = pack(w.codes, ONNX, w.spec.format).reshape(OUTPUTS, -1, block // 2)
    zeros = np.pad(w.zero_point.astype(np.uint8), ((0, 0), (0, w.zero_point.shape[1] % 2)))  # a row starts a byte
    inputs = [x, packed, w.scale.reshape(-1), pack(zeros, ONNX, w.spec.format).reshape(-1)]
    return onnx_nodes.run(
        "MatMulNBits", inputs, TensorProto.FLOAT, onnx_nodes.MICROSOFT,
        K=DEPTH, N=OUTPUTS, bits=4, block_size=block, accuracy_level=4,
    )  # fmt: skip


def nbits_weight(rng, spec, scale):
    groups = spec.granularity.parameter_shape((OUTPUTS, DEPTH))
    codes = rng.integers(0, 16, (OUTPUTS, DEPTH)).astype(np.uint8)
    return Quantized(codes, scale(groups).astype(np.float32), rng.integers(0, 16, groups).astype(np.int32), spec)


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("rows", [1, 5, 33])
def test_matmul_nbits__has_every_bit_where_float32_is_exact(which, rows):
    rng = np.random.default_rng(5)
    block = NBITS.weights[which].granularity.group_size(1)
    w = nbits_weight(rng, NBITS.weights[which], lambda shape: 2.0 ** rng.integers(-3, 1, shape))
    x = (rng.integers(-60, 60, (rows, DEPTH)) / 2).astype(np.float32)
    x[:, ::block] = 127
    ours = targets.linear(NBITS, targets.quantize_activation(NBITS, x, spec=NBITS.activations[which]), w)
    assert np.count_nonzero(ours.values != nbits(x, w, block)) == 0


@pytest.mark.parametrize("which", range(3))
def test_matmul_nbits__is_within_the_bound_elsewhere(which):
    rng = np.random.default_rng(6)
    block = NBITS.weights[which].granularity.group_size(1)
    w = nbits_weight(rng, NBITS.weights[which], lambda shape: rng.uniform(0.01, 0.1, shape))
    x = rng.standard_normal((9, DEPTH)).astype(np.float32)
    left = targets.quantize_activation(NBITS, x, spec=NBITS.activations[which])
    ours = targets.linear(NBITS, left, w)
    n = 2 * (2 * (DEPTH // block) + 8)  # both sides round
    expand = w.spec.granularity.expand
    reach = (w.codes.astype(np.float64) + expand(w.zero_point, w.codes.shape)) * expand(w.scale, w.codes.shape)
    magnitude = np.abs(left.codes * left.spec.granularity.expand(left.scale, x.shape).astype(np.float64)) @ reach.T
    bound = n * 2.0**-24 / (1 - n * 2.0**-24) * magnitude
    assert np.all(np.abs(ours.values - nbits(x, w, block).astype(np.float64)) <= bound)
