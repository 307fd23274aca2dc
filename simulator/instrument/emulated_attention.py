"""Attention in exact integers, part by part: the bits of two whole products (``emulation.matmul``) around a softmax.

Query, key and value are quantized once, keys and values packed once; then the scores of each part are computed, scaled
and masked, turned into probabilities, quantized and multiplied by V in the same memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
from torch import Tensor

from simulator.arithmetic.activation import Activation
from simulator.arithmetic.operands import ScaledFormat, quantize_matrices
from simulator.arithmetic.part_products import PartProducts
from simulator.instrument.attention_parts import Attention, Index, in_parts
from simulator.instrument.emulation import array, copies

Formats = Mapping[str, ScaledFormat]


def attention(
    operation: Attention, scores_formats: Formats, mixture_formats: Formats, scores: Tensor | None = None
) -> tuple[Tensor, int, int]:
    """A divisible attention; returns the output and the clipped operand elements of QK^T and of P V.

    Args:
        operation: what is computed.
        scores_formats: of the operands of QK^T, by role.
        mixture_formats: of the operands of P V, by role.
        scores: QK^T, not yet scaled, is written to it if given.
    """
    leading = operation.scores.leading
    query = quantize_matrices(array(operation.query), scores_formats["query"], side="left")
    key = quantize_matrices(array(operation.key), scores_formats["key"], side="right")
    value = quantize_matrices(array(operation.value.transpose(-1, -2)), mixture_formats["value"], side="right")

    def as_read(operand: Activation) -> int:
        return operand.clipped * copies(operand.bytes.shape, leading)

    clipped = [as_read(query) + as_read(key), as_read(value)]
    queries = np.broadcast_to(query.bytes, (*leading, *query.bytes.shape[-2:]))
    multiply_keys = PartProducts(key, scores_formats["query"])
    multiply_values = PartProducts(value, mixture_formats["probability"])
    key_of, value_of = _numbers(key, leading), _numbers(value, leading)

    def multiply(part: Index, into: Tensor) -> None:
        numbers = key_of[part[:-1]].reshape(-1)
        left = np.ascontiguousarray(queries[part]).reshape(len(numbers), -1, multiply_keys.depth)
        multiply_keys.multiply(left, numbers, _matrices(into, numbers))

    def mix(part: Index, weights: Tensor, into: Tensor) -> None:
        numbers = value_of[part[:-1]].reshape(-1)
        clipped[1] += multiply_values.quantize_and_multiply(
            _matrices(weights, numbers), numbers, _matrices(into, numbers)
        )

    return in_parts(operation, multiply, mix, rows_apart=True, scores=scores), clipped[0], clipped[1]


def _numbers(operand: Activation, leading: tuple[int, ...]) -> np.ndarray:
    """Which of the operand's matrices serves each index of ``leading``."""
    own = operand.bytes.shape[:-2]
    return np.broadcast_to(np.arange(prod(own)).reshape(own), leading)


def _matrices(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    return tensor.numpy().reshape(len(numbers), -1, tensor.shape[-1])
