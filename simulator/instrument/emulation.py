"""Contractions in exact integers: torch tensors in, the engine's result out, no copy in between where layouts allow.

Each function quantizes its float32 operands with static parameters, contracts them in exact integers and rescales
(``simulator.arithmetic.contract`` states the formula). Outputs are allocated here as torch tensors and filled by the
engine through numpy views of the same memory. A shared operand is quantized once, and its codes are broadcast; it
counts as clipped as often as it is read.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic import contract
from simulator.arithmetic.operands import Activation, ScaledFormat, quantize_image, quantize_matrices
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.transposed import conv_transpose as engine_conv_transpose
from simulator.arithmetic.weights import PreparedWeight, prepare_weight
from simulator.instrument.contractions import Conv, ConvTranspose, Linear, MatMul, Weighted
from simulator.instrument.weight_codes import WeightBounds, flipped, weight_codes


def prepared(
    operation: Weighted, weight: Tensor, spec: QuantSpec, bounds: WeightBounds | None = None
) -> PreparedWeight:
    """``weight``, in the layout of ``operation.weight``, quantized and packed; output channels on axis 0."""
    parts = 1 if isinstance(operation, Linear) else operation.geometry.groups
    return prepare_weight(flipped(operation, weight_codes(operation, array(weight), spec, bounds)), parts=parts)


def weighted(operation: Weighted, how: ScaledFormat, weight: PreparedWeight) -> tuple[Tensor, int]:
    """Any contraction with a weight; returns the output and the number of clipped activations."""
    if isinstance(operation, Linear):
        return linear(operation, how, weight)
    if isinstance(operation, Conv):
        return conv(operation, how, weight)
    return conv_transpose(operation, how, weight)


def linear(operation: Linear, how: ScaledFormat, weight: PreparedWeight) -> tuple[Tensor, int]:
    """A linear layer; returns the output and the number of clipped activations."""
    *leading, depth = operation.input.shape
    x = quantize_matrices(array(operation.input).reshape(1, -1, depth), how, side="left")
    out = torch.empty(*leading, weight.outputs)
    contract.linear(x, weight, _bias(operation.bias), out=out.numpy().reshape(1, -1, weight.outputs))
    return out, x.clipped


def conv(operation: Conv, how: ScaledFormat, weight: PreparedWeight) -> tuple[Tensor, int]:
    """A convolution; the output is channels-last in memory, as the engine computes it."""
    x = quantize_image(channels_last(operation.input), how, operation.geometry)
    out = contract.conv(x, weight, _bias(operation.bias), operation.geometry)
    return channels_first(out), x.clipped


def conv_transpose(operation: ConvTranspose, how: ScaledFormat, weight: PreparedWeight) -> tuple[Tensor, int]:
    """A transposed convolution; the output is channels-last in memory."""
    x = quantize_image(channels_last(operation.input), how)
    out = engine_conv_transpose(
        x, weight, _bias(operation.bias), operation.geometry, output_padding=operation.output_padding
    )
    return channels_first(out), x.clipped


def matmul(operation: MatMul, how_left: ScaledFormat, how_right: ScaledFormat) -> tuple[Tensor, int]:
    """A matmul of two activations."""
    leading = operation.leading
    left = quantize_matrices(array(operation.left), how_left, side="left")
    right = quantize_matrices(array(operation.right), how_right, side="right")
    rows, columns = operation.left.shape[-2], operation.right.shape[-2]
    out = torch.empty(*leading, rows, columns)
    clipped = sum(copies(operand.bytes.shape, leading) * operand.clipped for operand in (left, right))
    if prod(right.bytes.shape[:-2]) == 1 and operation.left.numel():  # one right matrix: all rows are one matrix too
        leading, rows = (1,), prod(leading) * rows
        left = replace(left, bytes=left.bytes.reshape(1, rows, -1))
        right = replace(right, bytes=right.bytes.reshape(1, columns, -1))
    left, right = _broadcast(left, leading), _broadcast(right, leading)
    contract.batched_matmul(left, right, out=out.numpy().reshape(-1, rows, columns))
    return out, clipped


def view(tensor: Tensor) -> np.ndarray:
    """A numpy view of a CPU tensor's memory."""
    return tensor.numpy(force=tensor.requires_grad)


def array(tensor: Tensor) -> np.ndarray:
    """:func:`view` made C-contiguous, copied only if its layout is another."""
    return np.ascontiguousarray(view(tensor))


def _broadcast(operand: Activation, leading: tuple[int, ...]) -> Activation:
    """Bytes (..., rows, depth) as one batch axis of all leading axes."""
    matrix = operand.bytes.shape[-2:]
    codes = np.broadcast_to(operand.bytes, (*leading, *matrix)).reshape(-1, *matrix)
    return replace(operand, bytes=np.ascontiguousarray(codes))


def copies(shape: tuple[int, ...], leading: tuple[int, ...]) -> int:
    """How often broadcasting uses each matrix of an operand (..., rows, depth)."""
    own = prod(shape[:-2])
    return prod(leading) // own if own else 0


def channels_last(image: Tensor) -> np.ndarray:
    """(batch, channel, spatial...) as a C-contiguous (batch, spatial..., channel)."""
    return np.ascontiguousarray(np.moveaxis(view(image), 1, -1))


def channels_first(image: np.ndarray) -> Tensor:
    """A view of (batch, spatial..., channel) as (batch, channel, spatial...)."""
    return torch.from_numpy(image).movedim(-1, 1)


def _bias(bias: Tensor | None) -> np.ndarray | None:
    return None if bias is None else array(bias)
