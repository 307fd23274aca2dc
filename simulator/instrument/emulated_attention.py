"""Attention in exact integers, part by part: the bits of two whole products (``emulation.matmul``) around a softmax.

Query, key and value are quantized once, keys and values packed once; then the scores of each part are computed, scaled
and masked, turned into probabilities, quantized and multiplied by V in the same memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np
from torch import Tensor

from simulator.arithmetic import contract
from simulator.arithmetic.operands import Activation, ScaledFormat, quantize_matrices
from simulator.arithmetic.weights import PreparedWeight, pack_matrices
from simulator.instrument.attention_parts import Attention, Index, in_parts
from simulator.instrument.emulation import array, clipped_as_read

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
    clipped = [clipped_as_read(query, leading) + clipped_as_read(key, leading), clipped_as_read(value, leading)]
    queries = np.broadcast_to(query.bytes, (*leading, *query.bytes.shape[-2:]))
    keys, values = _Matrices(key, leading), _Matrices(value, leading)
    probability = mixture_formats["probability"]

    def multiply(part: Index, into: Tensor) -> None:
        left = replace(query, bytes=np.ascontiguousarray(queries[part]))
        _multiply(left, keys.of(part), into)

    def mix(part: Index, weights: Tensor, into: Tensor) -> None:
        left = quantize_matrices(array(weights), probability, side="left")
        clipped[1] += left.clipped
        _multiply(left, values.of(part), into)

    return in_parts(operation, multiply, mix, rows_apart=True, scores=scores), clipped[0], clipped[1]


def _multiply(left: Activation, right: PreparedWeight, into: Tensor) -> None:
    matrices = (right.parts, -1, left.depth)
    out = into.numpy().reshape(right.parts, -1, right.outputs)
    contract.batched_matmul(replace(left, bytes=left.bytes.reshape(matrices)), right, out=out)


class _Matrices:
    """Right operands by part; each matrix is packed once, however often it is read."""

    def __init__(self, operand: Activation, leading: tuple[int, ...]) -> None:
        *own, columns, depth = operand.bytes.shape
        rows = operand.bytes.reshape(-1, columns, depth)
        zero, scale = (np.repeat(values, len(rows) * columns, axis=1) for values in (operand.zero, operand.scale))
        self._packed = pack_matrices(rows, scale, zero, operand.largest)
        self._numbers = np.broadcast_to(np.arange(len(rows)).reshape(own), leading)

    def of(self, part: Index) -> PreparedWeight:
        """Those that the part's rows meet; the last index of a part, of its rows, is none of theirs."""
        return self._packed.select(self._numbers[part[:-1]].reshape(-1))
