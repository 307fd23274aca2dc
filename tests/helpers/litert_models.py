"""One-operator int8 models for LiteRT (TensorFlow Lite), written with its schema and flatbuffers alone."""

from __future__ import annotations

from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

KERNELS = {
    "reference": OpResolverType.BUILTIN_REF,
    "ruy": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "xnnpack": OpResolverType.BUILTIN,
}
"""Which kernels run a model: the reference ones, the optimised ones without delegates, the default delegate."""


@dataclass(frozen=True)
class Layer:
    """One quantized layer: int8 codes, float32 scales, int32 bias.

    Attributes:
        w: (outputs, inputs) for a linear layer, (outputs, height, width, channels) for a convolution; zero point 0.
        w_scale: float32 () or (outputs,).
        stride, dilation: (height, width), of a convolution.
        same: pad so that the output has ceil(size / stride) pixels, else not at all.
    """

    w: np.ndarray
    x_scale: np.float32
    w_scale: np.ndarray
    y_scale: np.float32
    x_zero: int
    y_zero: int
    bias: np.ndarray | None = None
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    same: bool = False


def run(layer: Layer, x: np.ndarray, kernels: str) -> np.ndarray:
    """Output codes of the layer on int8 codes ``x`` by the chosen kernels, one thread."""
    content = _build(layer, x.shape)
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=KERNELS[kernels], num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def _build(layer: Layer, x_shape: tuple[int, ...]) -> bytes:
    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    model.version, model.buffers, graph.tensors = 3, [_buffer(None)], []

    def tensor(name, shape, kind, scale, zero, data=None):
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), kind, 0
        made.quantization = schema.QuantizationParametersT()
        scales = np.atleast_1d(scale)
        made.quantization.scale = [float(s) for s in scales]
        made.quantization.zeroPoint = [int(zero)] * scales.size
        if data is not None:
            model.buffers.append(_buffer(data))
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    int8, int32 = schema.TensorType.INT8, schema.TensorType.INT32
    linear = layer.w.ndim == 2
    inputs = [
        tensor("x", x_shape, int8, layer.x_scale, layer.x_zero),
        tensor("w", layer.w.shape, int8, layer.w_scale, 0, layer.w),
    ]
    if layer.bias is not None:
        scale = np.float32(layer.x_scale) * np.asarray(layer.w_scale, np.float32)
        inputs.append(tensor("bias", layer.bias.shape, int32, scale, 0, layer.bias))
    else:
        inputs.append(-1)
    y_shape = (x_shape[0], len(layer.w)) if linear else (*_sizes(layer, x_shape), len(layer.w))
    output = tensor("y", y_shape, int8, layer.y_scale, layer.y_zero)
    operator.inputs, operator.outputs, operator.opcodeIndex = inputs, [output], 0
    code = schema.OperatorCodeT()
    if linear:
        code.builtinCode, code.version = schema.BuiltinOperator.FULLY_CONNECTED, 12
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
    else:
        code.builtinCode, code.version = schema.BuiltinOperator.CONV_2D, 3
        operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
        options = operator.builtinOptions = schema.Conv2DOptionsT()
        options.padding = schema.Padding.SAME if layer.same else schema.Padding.VALID
        options.strideH, options.strideW = layer.stride
        options.dilationHFactor, options.dilationWFactor = layer.dilation
    code.deprecatedBuiltinCode = code.builtinCode
    graph.inputs, graph.outputs, graph.operators = [0], [output], [operator]
    model.operatorCodes, model.subgraphs = [code], [graph]
    for_channels = graph.tensors[1].quantization
    for_channels.quantizedDimension = 0
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _buffer(data: np.ndarray | None) -> schema.BufferT:
    made = schema.BufferT()
    if data is not None:
        made.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
    return made


def _sizes(layer: Layer, x_shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes = [x_shape[0]]
    for axis in (0, 1):
        size, step = x_shape[1 + axis], layer.stride[axis]
        reach = (layer.w.shape[1 + axis] - 1) * layer.dilation[axis] + 1
        sizes.append(-(-size // step) if layer.same else (size - reach) // step + 1)
    return tuple(sizes)
