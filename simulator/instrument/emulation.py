"""Contractions in exact integers: torch tensors in, the engine's result out, no copy in between where layouts allow.

Each function quantizes its float32 operands with static parameters, contracts them in exact integers and rescales
(``simulator.arithmetic.contract`` states the formula). Outputs are allocated here as torch tensors and filled by the
engine through numpy views of the same memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic import contract
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.operands import ScaledFormat, quantize_image, quantize_matrices
from simulator.arithmetic.weights import PreparedWeight
from simulator.instrument.contractions import Conv2d, Linear, MatMul


def linear(operation: Linear, how: ScaledFormat, weight: PreparedWeight) -> tuple[Tensor, int]:
    """A linear layer; returns the output and the number of clipped activations."""
    *leading, depth = operation.input.shape
    x = quantize_matrices(array(operation.input).reshape(1, -1, depth), how, side="left")
    out = torch.empty(*leading, weight.outputs)
    contract.linear(x, weight, _bias(operation.bias), out=out.numpy().reshape(1, -1, weight.outputs))
    return out, x.clipped


def conv2d(operation: Conv2d, how: ScaledFormat, weight: PreparedWeight) -> tuple[Tensor, int]:
    """A 2-D convolution; the output is channels-last in memory, as the engine computes it."""
    geometry = Geometry.of(2, stride=operation.stride, padding=operation.padding)
    x = quantize_image(np.ascontiguousarray(view(operation.input).transpose(0, 2, 3, 1)), how, geometry)
    out = contract.conv(x, weight, _bias(operation.bias), geometry)
    return torch.from_numpy(out).permute(0, 3, 1, 2), x.clipped


def matmul(operation: MatMul, how_left: ScaledFormat, how_right: ScaledFormat) -> tuple[Tensor, int]:
    """A matmul of two activations."""
    *leading, rows, depth = operation.left.shape
    columns = operation.right.shape[-2]
    left = quantize_matrices(array(operation.left).reshape(-1, rows, depth), how_left, side="left")
    right = quantize_matrices(array(operation.right).reshape(-1, columns, depth), how_right, side="right")
    out = torch.empty(*leading, rows, columns)
    contract.batched_matmul(left, right, out=out.numpy().reshape(-1, rows, columns))
    return out, left.clipped + right.clipped


def view(tensor: Tensor) -> np.ndarray:
    """A numpy view of a CPU tensor's memory."""
    return tensor.numpy(force=tensor.requires_grad)


def array(tensor: Tensor) -> np.ndarray:
    """:func:`view` made C-contiguous, copied only if its layout is another."""
    return np.ascontiguousarray(view(tensor))


def _bias(bias: Tensor | None) -> np.ndarray | None:
    return None if bias is None else array(bias)
