"""Claim: the ONNX standard's own node cases of its quantization operators hold for our public functions, bit for bit.

``onnx.backend.test`` ships inputs and expected outputs. Each case of an operator in ``OPERATORS`` must run here or be
named in ``NOT_EXPRESSED`` with the reason, and their number must not shrink. One difference is allowed: expected float
codes are written as numbers, so that a zero has lost its sign; floats are compared as values.
"""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's case generators warn about overflows they mean
        import onnx
        from onnx import TensorProto, helper, numpy_helper
        from onnx.backend.test.case.node import collect_testcases

        CASES = collect_testcases(None)
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"onnx is absent: {error}", allow_module_level=True)

from simulator.arithmetic import float_formats as floats
from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.float_codes import decode, encode
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.quantizer import Quantized, QuantSpec, dequantize, quantize, quantize_to_range
from simulator.arithmetic.requantize import OnnxRuntimeRequantizer

INTEGERS = {
    TensorProto.UINT2: IntFormat(2, signed=False),
    TensorProto.INT2: IntFormat(2),
    TensorProto.UINT4: IntFormat(4, signed=False),
    TensorProto.INT4: IntFormat(4),
    TensorProto.UINT8: IntFormat(8, signed=False),
    TensorProto.INT8: IntFormat(8),
    TensorProto.UINT16: IntFormat(16, signed=False),
    TensorProto.INT16: IntFormat(16),
}
FLOATS = {
    TensorProto.FLOAT8E4M3FN: floats.E4M3,
    TensorProto.FLOAT8E5M2: floats.E5M2,
    TensorProto.FLOAT4E2M1: floats.E2M1,
}
NOT_EXPRESSED = {
    "test_dequantizelinear_e4m3fn_float16": "our dequantized values are float32, this case multiplies in float16",
}
EXPECTED = 45
"""Cases of onnx 1.23; a release may add some."""


class Tensor:
    """A tensor of a case: its ONNX type and its values as codes or float32."""

    def __init__(self, data):
        if isinstance(data, TensorProto):
            self.kind, self.values = data.data_type, numpy_helper.to_array(data)
        else:
            self.values = np.asarray(data)
            self.kind = helper.np_dtype_to_tensor_dtype(self.values.dtype)
        if self.kind in FLOATS:
            self.values = self.values.view(np.uint8)
        elif self.kind in INTEGERS:
            self.values = self.values.astype(INTEGERS[self.kind].dtype)
        elif self.kind == TensorProto.FLOAT16:  # exact
            self.values = self.values.astype(np.float32)

    def item(self):
        return self.values.reshape(-1)[0]


def parameters(x, scale, attributes):
    """Granularity, and how to bring scale and zero point into its shape."""
    rank = x.values.ndim
    axis = attributes.get("axis", 1) % rank
    if scale.values.ndim == 0:
        granularity = PerTensor()
    elif attributes.get("block_size"):
        granularity = PerGroup(axis, attributes["block_size"], tuple(i for i in range(rank) if i != axis))
    else:
        granularity = PerAxis((axis,))
    return granularity, granularity.parameter_shape(x.values.shape)


def quantize_linear(attributes, x, scale, zero=None):
    kind = zero.kind if zero else attributes["output_dtype"]
    granularity, shape = parameters(x, scale, attributes)
    if kind in FLOATS:
        return [encode(x.values / granularity.expand(scale.values.reshape(shape), x.values.shape), FLOATS[kind])]
    zeros = zero.values.reshape(shape) if zero else np.zeros(shape, np.int32)
    return [quantize(x.values, QuantSpec(INTEGERS[kind], granularity), scale.values.reshape(shape), zeros).codes]


def dequantize_linear(attributes, x, scale, zero=None):
    granularity, shape = parameters(x, scale, attributes)
    if x.kind in FLOATS:
        assert zero is None or zero.item() == 0
        return [decode(x.values, FLOATS[x.kind]) * granularity.expand(scale.values.reshape(shape), x.values.shape)]
    spec = QuantSpec(INTEGERS[x.kind], granularity)
    zeros = zero.values.reshape(shape).astype(np.int32)
    return [dequantize(Quantized(x.values, scale.values.reshape(shape), zeros, spec))]


def dynamic_quantize_linear(attributes, x):
    found = quantize_to_range(x.values, QuantSpec(IntFormat(8, signed=False)))
    return [found.codes, found.scale.reshape(()), found.zero_point.reshape(())]


def matmul_integer(attributes, x, w, x_zero, w_zero):
    """One matrix at a time where there are several."""
    if x.values.ndim == 3:
        pairs = zip(x.values, w.values, strict=True)
        return [np.stack([matmul_integer(attributes, Tensor(a), Tensor(b), x_zero, w_zero)[0] for a, b in pairs])]
    zero = w_zero.values.reshape(-1) if w_zero.values.size > 1 else int(w_zero.item())
    return [integer_matmul(x.values, w.values.T, Accumulator(), x_zero=int(x_zero.item()), w_zero=zero).values]


def conv_integer(attributes, x, w, x_zero, w_zero=None):
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    assert (top, left) == (bottom, right)
    sums = integer_conv(
        x.values.transpose(0, 2, 3, 1), w.values, Accumulator(),
        Geometry.of(2, padding=(top, left)),
        x_zero=int(x_zero.item()), w_zero=0 if w_zero is None else w_zero.values,
    )  # fmt: skip
    return [sums.values.transpose(0, 3, 1, 2)]


def requantize(sums, kind, scales, zero):
    kernel = OnnxRuntimeRequantizer(*(scale.item() for scale in scales), int(zero.item()), INTEGERS[kind])
    return kernel(sums.astype(np.int32)).codes


def qlinear_matmul(attributes, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero):
    sums = matmul_integer(attributes, x, w, x_zero, w_zero)[0]
    return [requantize(sums, y_zero.kind, (x_scale, w_scale, y_scale), y_zero)]


def qlinear_conv(attributes, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero):
    sums = conv_integer(attributes, x, w, x_zero, w_zero)[0].transpose(0, 2, 3, 1)
    codes = requantize(sums, y_zero.kind, (x_scale, w_scale, y_scale), y_zero)
    return [codes.transpose(0, 3, 1, 2)]


OPERATORS = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "MatMulInteger": matmul_integer,
    "ConvInteger": conv_integer,
    "QLinearMatMul": qlinear_matmul,
    "QLinearConv": qlinear_conv,
}


def operator_of(case):
    """The operator that a case is about; an expanded case is a graph that defines one."""
    nodes = [node.op_type for node in case.model.graph.node]
    if case.name.startswith("test_dynamicquantizelinear"):
        return "DynamicQuantizeLinear"
    return nodes[0] if len(nodes) == 1 and nodes[0] in OPERATORS else None


RELEVANT = {case.name: case for case in CASES if operator_of(case)}


def test_cases__none_is_lost():
    assert len(RELEVANT) >= EXPECTED, onnx.__version__
    assert set(NOT_EXPRESSED) <= set(RELEVANT)
    mentioned = {c.name for c in CASES if OPERATORS.keys() & {node.op_type for node in c.model.graph.node}}
    assert mentioned == set(RELEVANT)


@pytest.mark.parametrize("name", sorted(set(RELEVANT) - set(NOT_EXPRESSED)))
def test_case__holds(name):
    case = RELEVANT[name]
    node = case.model.graph.node[0]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "value"}
    for inputs, outputs in case.data_sets:
        found = OPERATORS[operator_of(case)](attributes, *(Tensor(data) for data in inputs))
        assert len(found) == len(outputs)
        for ours, theirs in zip(found, map(Tensor, outputs), strict=True):
            assert ours.shape == theirs.values.shape
            read = (
                (lambda codes, kind=theirs.kind: decode(codes, FLOATS[kind])) if theirs.kind in FLOATS else np.asarray
            )
            assert np.array_equal(read(ours), read(theirs.values)), (ours, theirs.values)
