"""Claim: ONNX Runtime's quantizers give our codes, parameters and real numbers, bit for bit, on tie-dense data.

QuantizeLinear and DequantizeLinear per tensor, per axis and blocked, to all integer types up to 16 bits, NaN and
infinities included; DynamicQuantizeLinear; and the activations of MatMulNBits at accuracy level 4, read through a
weight that selects one of them.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

try:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"onnxruntime or onnx is absent: {error}", allow_module_level=True)

from simulator.arithmetic.dynamic import quantize_dynamic_linear, quantize_matmul_nbits_rows
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.quantizer import QuantSpec, dequantize, quantize
from simulator.arithmetic.rules import DIVIDE, ONNXRUNTIME_BLOCKED

FORMATS = {
    TensorProto.UINT8: IntFormat(8, signed=False),
    TensorProto.INT8: IntFormat(8),
    TensorProto.UINT16: IntFormat(16, signed=False),
    TensorProto.INT16: IntFormat(16),
    TensorProto.UINT4: IntFormat(4, signed=False),
    TensorProto.INT4: IntFormat(4),
}
SCALES = np.array([0.25, 1.0, 0.1, 1 / 3, 0.0473, 2.0**-20, 7.3e5], np.float32)
FAR = [1e4, 1e5, 1e9, 2.0**31, 3e9, 1e12, 2.0**63, 1e19, 1e30, 3.4e38, np.inf]
SPECIAL = np.array([*FAR, *(-v for v in FAR), np.nan, 0.0, -0.0], np.float32)
SHAPE = (56, 32, 64)
# on x86 the blocked kernels, and the 4-bit ones along the last axis, do not saturate: a rule of its own
GRANULARITIES = {
    "tensor": (PerTensor(), {}),
    "axis": (PerAxis((1,)), {"axis": 1}),
    "last axis": (PerAxis((2,)), {"axis": 2}),
    "blocked": (PerGroup(1, 16, (0, 2)), {"axis": 1, "block_size": 16}),
}


def run(nodes, inputs, constants, outputs):
    """Outputs of a graph; ``inputs`` are fed, ``constants`` are TensorProtos."""
    feeds = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for name, v in inputs.items()
    ]
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    graph = helper.make_graph(nodes, "one", feeds, results, constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # the pair of quantizers must run as written
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def tie_dense(scale, fmt, rng):
    """Half steps in and around the range, their float32 neighbours, and special values; ``scale`` in full shape."""
    limit = 2 ** (fmt.bits + 1) + 8
    with np.errstate(over="ignore"):
        ties = (rng.integers(-limit, limit, scale.shape) / 2 * scale).astype(np.float32)
    moved = np.nextafter(ties, rng.choice(np.array([-np.inf, np.inf], np.float32), scale.shape))
    x = np.where(rng.random(scale.shape) < 0.6, ties, moved)
    return np.where(rng.random(scale.shape) < 0.02, rng.choice(SPECIAL, scale.shape), x).astype(np.float32)


def same_bits(a, b):
    return np.array_equal(np.asarray(a, np.float32).view(np.int32), np.asarray(b, np.float32).view(np.int32))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: str(FORMATS[kind]))
def test_quantize_linear_and_back(kind, granularity):
    rng = np.random.default_rng(13)
    fmt = FORMATS[kind]
    ours, attributes = GRANULARITIES[granularity]
    parameters = ours.parameter_shape(SHAPE)
    peer_shape = () if granularity == "tensor" else parameters if granularity == "blocked" else (max(parameters),)
    for _ in range(len(SCALES) if granularity == "tensor" else 1):
        scale = rng.choice(SCALES, parameters)
        zero = rng.integers(fmt.qmin, fmt.qmax + 1, parameters).astype(np.int32)
        x = tie_dense(ours.expand(scale, SHAPE), fmt, rng)
        constants = [
            numpy_helper.from_array(scale.reshape(peer_shape), "s"),
            helper.make_tensor("z", kind, peer_shape, zero.reshape(-1).tolist()),
            helper.make_tensor("one", TensorProto.FLOAT, (), [1.0]),
            helper.make_tensor("none", kind, (), [0]),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **attributes),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **attributes),
            # python takes no 4-bit output: the codes as numbers
            helper.make_node("DequantizeLinear", ["q", "one", "none"], ["codes"]),
        ]
        outputs = {"y": TensorProto.FLOAT, "codes": TensorProto.FLOAT}
        back, codes = run(nodes, {"x": x}, constants, outputs)
        unsaturated = granularity == "blocked" or (granularity == "last axis" and fmt.bits == 4)
        rule = ONNXRUNTIME_BLOCKED if unsaturated else DIVIDE
        got = quantize(x, QuantSpec(fmt, ours, rule=rule), scale, zero)
        assert x.size > 1e5
        assert np.count_nonzero(got.codes != codes) == 0
        assert same_bits(dequantize(got), back)


def test_dynamic_quantize_linear():
    rng = np.random.default_rng(14)
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    outputs = {"q": TensorProto.UINT8, "s": TensorProto.FLOAT, "z": TensorProto.UINT8}
    tensors = [np.zeros(8, np.float32), np.full(3, 2.5, np.float32), np.full(3, -0.1, np.float32)]
    for size in (1, 2, 7, 64, 1001, 9999):
        for spread in (1e-6, 0.03, 1.0, 9e4):
            tensors.append((rng.normal(rng.normal(), 1, size) * spread).astype(np.float32))
    for low, high in ((0, 255), (-127, 128), (-255, 0), (-100, 155), (-64, 63.5), (-0.5, 254.5), (-1.5, 253.5)):
        # the scale is a power of two: half steps, and in the last cases a zero point on a tie
        steps = np.concatenate([[low, high], rng.integers(2 * low, 2 * high, 20000) / 2])
        tensors.extend((steps * 2.0**e).astype(np.float32) for e in (-9, 0))
    assert sum(t.size for t in tensors) > 1e5
    for x in tensors:
        codes, scale, zero = run([node], {"x": x}, [], outputs)
        got = quantize_dynamic_linear(x)
        assert same_bits(got.scale.reshape(()), scale)
        assert int(got.zero_point[0]) == int(zero)
        assert np.count_nonzero(got.codes != codes) == 0


def matmul_nbits(x, block):
    """Real values of the quantized activations: column n of the weight selects depth n (code 9 stands for 9 - 8)."""
    depth = x.shape[1]
    weight = np.full((depth, depth), 8, np.uint8) + np.eye(depth, dtype=np.uint8)
    packed = (weight[:, ::2] | weight[:, 1::2] << 4).astype(np.uint8).reshape(depth, depth // block, block // 2)
    scales = np.ones(depth * (depth // block), np.float32)
    constants = [numpy_helper.from_array(packed, "b"), numpy_helper.from_array(scales, "s")]
    options = {"K": depth, "N": depth, "bits": 4, "block_size": block, "accuracy_level": 4}
    node = helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", **options)
    return run([node], {"x": x}, constants, {"y": TensorProto.FLOAT})[0]


@pytest.mark.parametrize("block", [16, 32, 64, 128])
def test_matmul_nbits_level_4_activation_codes(block):
    rng = np.random.default_rng(15)
    rows, depth = 1000, 256
    x = (rng.integers(-127, 128, (rows, depth)) / 2).astype(np.float32)
    x[::3, ::block] = 127  # inverse 1: half steps are ties
    x[1::3] = rng.normal(size=x[1::3].shape) * np.exp(rng.uniform(-20, 20, (len(x[1::3]), 1)))
    x[::50] = 0
    got = quantize_matmul_nbits_rows(x, block)
    steps = matmul_nbits(x, block) / got.spec.granularity.expand(got.scale, x.shape)
    # the weight's zero point is corrected in float32, which leaves up to about 8 * block * 127 * 2**-24 steps
    assert np.max(np.abs(steps - got.codes)) < 0.05
    assert got.clipped == 0


@pytest.mark.parametrize("block", [16, 128])
def test_matmul_nbits_level_4_activation_scales(block):
    rng = np.random.default_rng(16)
    x = np.zeros((5000, 256), np.float32)
    amax = np.exp(rng.uniform(-30, 30, (5000, 256 // block))).astype(np.float32)
    # codes 127 and -127 sum to 0, so the float correction is exactly 0
    x[:, ::block], x[:, 1::block] = amax, -amax
    theirs = matmul_nbits(x, block)
    assert same_bits(dequantize(quantize_matmul_nbits_rows(x, block))[:, ::block], theirs[:, ::block])
