"""Block formats: each block's sum exact in integers, rescaled and added in float32 in the order of k.

A convolution becomes a product of its windows, (tap, channel) along k with channels filled up to whole blocks, so that
no block spans two pixels.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic import blockscale, contract
from simulator.arithmetic.block_formats import BlockFormat
from simulator.arithmetic.block_integers import block_integers
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerGroup
from simulator.arithmetic.operands import left_operand
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.arithmetic.weights import PreparedWeight, prepare_weight
from simulator.instrument import emulation
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose, Linear, MatMul, Weighted
from simulator.instrument.machines.machine import Emulated


class Blocks:
    """Weights and run-time operands in one block format, along the contracted axis.

    Args:
        format: one of those that :func:`block_integers` takes.
    """

    def __init__(self, format: BlockFormat) -> None:
        self._format = format

    @property
    def weight_key(self) -> Hashable:
        """The format."""
        return type(self), self._format

    def prepare(self, operation: Weighted, weight: Tensor) -> list[PreparedWeight]:
        """One matrix (outputs, taps x channels) per group of the convolution."""
        assert not isinstance(operation, ConvTranspose)
        values = emulation.array(weight)
        if isinstance(operation, Linear):
            return [self._packed(self._integers(values))]
        per_tap = np.moveaxis(values.reshape(*values.shape[:2], -1), 1, -1)  # (outputs, tap, channel)
        whole = _whole_blocks(self._integers(per_tap), self._format.size)
        rows = _flat(whole, self._format.size)
        share = len(values) // operation.geometry.groups
        return [self._packed(_rows(rows, slice(g, g + share))) for g in range(0, len(values), share)]

    def __call__(self, contraction: Contraction, prepared: Any) -> Emulated:
        """The contraction."""
        if isinstance(contraction, MatMul):
            return self._matmul(contraction)
        assert not isinstance(contraction, ConvTranspose)
        bias = None if contraction.bias is None else emulation.array(contraction.bias)
        if isinstance(contraction, Linear):
            *leading, depth = contraction.input.shape
            x = self._integers(emulation.array(contraction.input).reshape(-1, depth))
            out = contract.linear(left_operand(x), prepared[0], bias)
            return Emulated(torch.from_numpy(out).reshape(*leading, -1), x.clipped)
        return self._conv(contraction, prepared, bias)

    def _conv(self, contraction: Conv, prepared: list[PreparedWeight], bias: np.ndarray | None) -> Emulated:
        geometry = contraction.geometry
        image = emulation.channels_last(contraction.input)
        batch, *size, _ = image.shape
        kernel = tuple(contraction.weight.shape[2:])
        outside = geometry.output_size(tuple(size), kernel)
        outputs = len(contraction.weight) // geometry.groups
        x = _whole_blocks(self._integers(image.reshape(batch, *size, geometry.groups, -1)), self._format.size)
        made = []
        for g, weight in enumerate(prepared):
            codes = _windows(x.codes[..., g, :], geometry, kernel, 0)
            scale = _windows(x.scale[..., g, :], geometry, kernel, 1)
            spec = QuantSpec(x.spec.format, PerGroup(1, self._format.size, (0,)), symmetric=True)
            rows = Quantized(codes, scale, np.zeros(scale.shape, np.int32), spec)
            own = None if bias is None else np.ascontiguousarray(bias[g * outputs : (g + 1) * outputs])
            made.append(contract.linear(left_operand(rows), weight, own))
        out = np.concatenate(made, axis=1).reshape(batch, *outside, -1)
        return Emulated(emulation.channels_first(out), x.clipped)

    def _matmul(self, contraction: MatMul) -> Emulated:
        leading = contraction.leading
        rows, columns = contraction.shape[-2:]
        left, right = (self._integers(emulation.array(t)) for t in (contraction.left, contraction.right))
        shapes = ((*leading, rows), (*leading, columns))
        clipped = sum(emulation.copies(q.codes.shape, leading) * q.clipped for q in (left, right))
        x, y = (
            [np.broadcast_to(values, (*shape, values.shape[-1])).reshape(prod(leading), -1, values.shape[-1])
             for values in (q.codes, q.scale)]
            for q, shape in zip((left, right), shapes, strict=True)
        )  # fmt: skip
        spec = QuantSpec(left.spec.format, PerGroup(1, self._format.size, (0,)), symmetric=True)
        out: np.ndarray = np.empty((prod(leading), rows, columns), np.float32)
        for b in range(len(out)):
            a, c = (
                Quantized(np.ascontiguousarray(codes[b]), np.ascontiguousarray(scale[b]),
                          np.zeros(scale[b].shape, np.int32), spec)
                for codes, scale in (x, y)
            )  # fmt: skip
            contract.linear(left_operand(a), self._packed(c), out=out[b])
        return Emulated(torch.from_numpy(out).reshape(*leading, rows, columns), clipped)

    def _integers(self, values: np.ndarray) -> Quantized:
        return block_integers(blockscale.quantize(values, self._format))

    def _packed(self, rows: Quantized) -> PreparedWeight:
        return prepare_weight(rows, group_size=self._format.size)


def _whole_blocks(x: Quantized, size: int) -> Quantized:
    """Codes with zeros up to a whole number of blocks along the last axis; the scales are as many as before."""
    missing = -x.codes.shape[-1] % size
    codes = np.pad(x.codes, [(0, 0)] * (x.codes.ndim - 1) + [(0, missing)])
    return Quantized(np.ascontiguousarray(codes), x.scale, x.zero_point, x.spec, x.clipped)


def _flat(x: Quantized, size: int) -> Quantized:
    """(outputs, tap, channel) as rows (outputs, taps x channels)."""
    spec = QuantSpec(x.spec.format, PerGroup(1, size, (0,)), symmetric=True)
    scale = np.ascontiguousarray(x.scale.reshape(len(x.scale), -1))
    return Quantized(x.codes.reshape(len(x.codes), -1), scale, np.zeros(scale.shape, np.int32), spec)


def _rows(x: Quantized, part: slice) -> Quantized:
    return Quantized(x.codes[part], x.scale[part], x.zero_point[part], x.spec)


def _windows(image: np.ndarray, geometry: Geometry, kernel: tuple[int, ...], fill: int) -> np.ndarray:
    """Rows (batch x output pixels, taps x channels) of an image (batch, spatial..., channel); ``fill`` outside."""
    axes = tuple(range(1, 1 + len(kernel)))
    padded = np.pad(image, [(0, 0), *geometry.padding, (0, 0)], constant_values=fill)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(geometry.dilation, kernel, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
    steps = (slice(None), *(slice(None, None, s) for s in geometry.stride), slice(None))
    taps = tuple(slice(None, None, d) for d in geometry.dilation)
    chosen = np.moveaxis(views[(*steps, *taps)], len(kernel) + 1, -1)  # (batch, output..., tap..., channel)
    return np.ascontiguousarray(chosen).reshape(prod(chosen.shape[: 1 + len(kernel)]), -1)
