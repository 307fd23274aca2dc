"""What a site must compute, found twice without the code under test: by the engine, and by float64 sums of codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from simulator.arithmetic import contract
from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.conv import integer_conv_transpose
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.operands import ScaledFormat, quantize_image, quantize_matrices
from simulator.arithmetic.quantizer import QuantSpec, quantize_to_range
from simulator.arithmetic.transposed import conv_transpose, flipped_kernel
from simulator.arithmetic.weights import prepare_weight
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose, Linear, MatMul

F32 = np.float32


def by_engine(operation: Contraction, formats: dict[str, ScaledFormat], spec: QuantSpec) -> np.ndarray:
    """The engine called on the operands of a site; float32 in torch's layout."""
    if isinstance(operation, MatMul):
        leading = torch.broadcast_shapes(operation.left.shape[:-2], operation.right.shape[:-2])
        operands = []
        for (role, tensor), side in zip(operation.activations().items(), ("left", "right"), strict=True):
            whole = np.ascontiguousarray(tensor.expand(*leading, *tensor.shape[-2:]).numpy())
            operands.append(quantize_matrices(whole, formats[role], side=side))
        return contract.batched_matmul(*operands)
    bias = None if operation.bias is None else np.ascontiguousarray(operation.bias.numpy())
    if isinstance(operation, Linear):
        weight = prepare_weight(quantize_to_range(np.ascontiguousarray(operation.weight.numpy()), spec))
        x = quantize_matrices(np.ascontiguousarray(operation.input.numpy()), formats["input"], side="left")
        return contract.linear(x, weight, bias)
    image = np.ascontiguousarray(np.moveaxis(operation.input.numpy(), 1, -1))
    geometry = operation.geometry
    if isinstance(operation, Conv):
        weight = prepare_weight(
            quantize_to_range(np.ascontiguousarray(operation.weight.numpy()), spec), parts=geometry.groups
        )
        out = contract.conv(quantize_image(image, formats["input"], geometry), weight, bias, geometry)
        return np.moveaxis(out, -1, 1)
    if not isinstance(spec.granularity, PerAxis):  # scales along the depth have no integer form to compare with
        codes = quantize_to_range(flipped_kernel(operation.weight.numpy(), geometry.groups), spec)
        weight, x = prepare_weight(codes, parts=geometry.groups), quantize_image(image, formats["input"])
        return np.moveaxis(conv_transpose(x, weight, bias, geometry, output_padding=operation.output_padding), -1, 1)
    return _transposed(operation, image, formats["input"], spec, bias)


def _transposed(
    operation: ConvTranspose, image: np.ndarray, how: ScaledFormat, spec: QuantSpec, bias: np.ndarray | None
) -> np.ndarray:
    """Codes of each output channel have their own scale, whatever its group."""
    codes, scale = _transposed_weight(operation, spec)
    x = quantize_image(image, how)
    found = integer_conv_transpose(
        x.bytes, codes, Accumulator(32), operation.geometry, output_padding=operation.output_padding,
        x_zero=int(x.zero[0, 0]),
    )  # fmt: skip
    out = found.values.astype(F32) * (how.scale * scale)
    return np.moveaxis(out if bias is None else out + bias, -1, 1)


def _transposed_weight(operation: ConvTranspose, spec: QuantSpec) -> tuple[np.ndarray, np.ndarray]:
    weight, groups = operation.weight.numpy(), operation.geometry.groups
    parts = np.split(weight, groups)  # each (channels per group, outputs per group, spatial...)
    quantized = [quantize_to_range(np.ascontiguousarray(part.swapaxes(0, 1)), spec) for part in parts]
    codes = np.concatenate([q.codes.swapaxes(0, 1) for q in quantized])
    return np.ascontiguousarray(codes), np.concatenate([q.scale.reshape(-1) for q in quantized]).astype(F32)


def by_float64(operation: Contraction, formats: dict[str, ScaledFormat], spec: QuantSpec) -> np.ndarray:
    """Exact sums from torch in float64 over codes, then the stated epilogue; scales per output channel only."""
    left, *rest = ((role, tensor) for role, tensor in operation.activations().items())
    if isinstance(operation, MatMul):
        ((role, tensor),) = rest
        sums = replace(operation, left=_steps(left[1], formats[left[0]]), right=_steps(tensor, formats[role])).float()
        return sums.numpy().astype(F32) * (formats[left[0]].scale * formats[role].scale)
    if isinstance(operation, ConvTranspose):
        codes, scale = _transposed_weight(operation, spec)
    else:
        quantized = quantize_to_range(np.ascontiguousarray(operation.weight.numpy()), spec)
        codes, scale = quantized.codes, quantized.scale.reshape(-1).astype(F32)
    how = formats["input"]
    weight = torch.from_numpy(codes.astype(np.float64))
    sums = replace(operation, input=_steps(operation.input, how), weight=weight, bias=None).float()
    axis = -1 if isinstance(operation, Linear) else 1
    out = np.moveaxis(sums.numpy().astype(F32), axis, -1) * (how.scale * scale)
    out = out if operation.bias is None else out + operation.bias.numpy()
    return np.moveaxis(out, -1, axis)


def _steps(tensor: torch.Tensor, how: ScaledFormat) -> torch.Tensor:
    format = how.spec.format
    codes = np.clip(np.rint(tensor.numpy() / how.scale) + how.zero_point, format.qmin, format.qmax)
    return torch.from_numpy(codes.astype(np.float64) - how.zero_point)
