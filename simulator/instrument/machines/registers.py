"""Any register, any width: integer sums group by group, then the float32 epilogue or a requantizer.

Where :class:`ByteCodes` computes a site too, both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Count
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.fixed_point import INT32_MAX, INT32_MIN
from simulator.arithmetic.group_sums import add_groups
from simulator.arithmetic.matmul import Accumulated, integer_matmul
from simulator.arithmetic.pair_accumulator import PairAccumulator
from simulator.arithmetic.quantizer import Quantized, quantize_to_range
from simulator.arithmetic.transposed import Stretched, flipped_kernel
from simulator.instrument import emulation
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose, Linear, MatMul, Weighted
from simulator.instrument.machines.machine import Emulated, Parameters
from simulator.instrument.machines.operands import quantized
from simulator.instrument.machines.requantization import bias_for, dequantized, requantizer_of, rounded_output
from simulator.instrument.treatment import Treatment
from simulator.targets.description import BiasKind, bias_of

Sums = Callable[[slice, np.ndarray | None], Accumulated]
"""Sums over a slice of the input channels; the integer bias enters the register."""


@dataclass(frozen=True)
class _Problem:
    """A contraction in integers: ``outputs`` is the last axis of its sums."""

    sums: Sums
    channels: int
    x_scale: np.ndarray
    w_scale: np.ndarray
    """(outputs, groups)"""
    group_size: int | None
    bias: Tensor | None
    clipped: int


class Registers:
    """The general path.

    Args:
        treatment: of the site, without block format or target.
        parameters: calibrated, by role.
    """

    def __init__(self, treatment: Treatment, parameters: Parameters) -> None:
        self._treatment, self._parameters = treatment, parameters

    @property
    def weight_key(self) -> Hashable:
        """The weight's spec."""
        return type(self), self._treatment.weight

    def prepare(self, operation: Weighted, weight: Tensor) -> Quantized:
        """Codes of the weight; a transposed convolution's as those of the plain one."""
        assert self._treatment.weight is not None
        values = emulation.array(weight)
        if isinstance(operation, ConvTranspose):
            values = flipped_kernel(values, operation.geometry.groups)
        return quantize_to_range(values, self._treatment.weight)

    def __call__(self, contraction: Contraction, prepared: Any) -> Emulated:
        """The contraction."""
        if isinstance(contraction, MatMul):
            found = self._finish(self._matrices(contraction))
            return Emulated(torch.from_numpy(found[0]).reshape(contraction.shape), *found[1:])
        if isinstance(contraction, Linear):
            found = self._finish(self._rows(contraction, prepared))
            return Emulated(torch.from_numpy(found[0]).reshape(*contraction.input.shape[:-1], -1), *found[1:])
        found = self._finish(self._image(contraction, prepared))
        return Emulated(emulation.channels_first(found[0]), *found[1:])

    def _codes(self, role: str, values: np.ndarray, rows: tuple[int, ...]) -> Quantized:
        return quantized(values, self._treatment.operands[role], self._parameters.get(role), rows)

    def _matrices(self, contraction: MatMul) -> _Problem:
        first, second = contraction.roles
        x, y = (
            self._codes(role, emulation.array(tensor), tuple(range(tensor.ndim - 1)))
            for role, tensor in ((first, contraction.left), (second, contraction.right))
        )
        if y.scale.size > 1:  # one scale per column of every batch: multiplied before the sums are rescaled
            x_scale, w_scale = x.scale * np.swapaxes(y.scale, -1, -2), np.ones((1, 1), np.float32)
        else:
            x_scale, w_scale = x.scale, y.scale.reshape(1, 1)

        def sums(part: slice, bias: np.ndarray | None) -> Accumulated:
            return integer_matmul(
                x.codes[..., part], y.codes[..., part], self._accumulator, x_zero=_zero(x), w_zero=_zero(y),
                count=self._count,
            )  # fmt: skip

        clipped = sum(emulation.copies(q.codes.shape, contraction.leading) * q.clipped for q in (x, y))
        return _Problem(sums, x.codes.shape[-1], x_scale, w_scale, None, None, clipped)

    def _rows(self, contraction: Linear, weight: Quantized) -> _Problem:
        depth = contraction.input.shape[-1]
        x = self._codes("input", emulation.array(contraction.input).reshape(-1, depth), (0,))

        def sums(part: slice, bias: np.ndarray | None) -> Accumulated:
            return integer_matmul(
                np.ascontiguousarray(x.codes[:, part]), np.ascontiguousarray(weight.codes[:, part]), self._accumulator,
                x_zero=_zero(x), w_zero=_zeros(weight, part), bias=bias, count=self._count,
            )  # fmt: skip

        return self._weighted(sums, depth, x, weight, contraction.bias)

    def _image(self, contraction: Conv | ConvTranspose, weight: Quantized) -> _Problem:
        x = self._codes("input", emulation.channels_last(contraction.input), (0,))
        codes, geometry = x.codes, contraction.geometry
        if isinstance(contraction, ConvTranspose):
            stretched = Stretched.of(codes.shape[1:-1], weight.codes.shape[2:], geometry, contraction.output_padding)
            codes, geometry = stretched.image(codes, _zero(x)), stretched.plain
        grouped = codes.reshape(*codes.shape[:-1], geometry.groups, -1)

        def sums(part: slice, bias: np.ndarray | None) -> Accumulated:
            taken = np.ascontiguousarray(grouped[..., part]).reshape(*codes.shape[:-1], -1)
            return integer_conv(
                taken, np.ascontiguousarray(weight.codes[:, part]), self._accumulator, geometry, x_zero=_zero(x),
                w_zero=_zeros(weight, part), bias=bias, count=self._count,
            )  # fmt: skip

        return self._weighted(sums, grouped.shape[-1], x, weight, contraction.bias)

    def _weighted(self, sums: Sums, channels: int, x: Quantized, weight: Quantized, bias: Tensor | None) -> _Problem:
        size = weight.spec.granularity.group_size(1)
        scale = weight.scale.reshape(len(weight.scale), -1)
        scale = np.broadcast_to(scale, (len(weight.codes), scale.shape[1]))
        return _Problem(sums, channels, x.scale, scale, size, bias, x.clipped)

    def _finish(self, problem: _Problem) -> tuple[np.ndarray, int, int, int]:
        """Float32 (..., outputs), with what was clipped, lost and saturated."""
        size = problem.group_size or problem.channels
        parts = [slice(first, first + size) for first in range(0, problem.channels, size)] or [slice(0, 0)]
        if self._treatment.output is not None and len(parts) == 1:
            return self._requantized(problem, parts[0])
        found = [problem.sums(part, None) for part in parts]
        overflowed = sum(each.overflowed or 0 for each in found)
        sums = np.stack([each.values for each in found])
        outputs = sums.shape[-1]
        scale = np.ascontiguousarray(np.broadcast_to(problem.w_scale, (outputs, len(parts))).T)
        bias = None if problem.bias is None else emulation.array(problem.bias)
        left = np.broadcast_to(
            problem.x_scale, (*(1,) * (sums.ndim - 1 - problem.x_scale.ndim), *problem.x_scale.shape)
        )
        if left.shape[-1] == 1:
            real = add_groups(sums, scale, self._treatment.group_register, left_scale=left[None], bias=bias)
        else:  # scales per column of a product of two activations
            with np.errstate(over="ignore", under="ignore"):
                real = self._treatment.group_register.hold(sums[0].astype(np.float32) * left)
        if self._treatment.output is None:
            return real, problem.clipped, overflowed, 0
        real, saturated = rounded_output(real, self._treatment.output, self._parameters["output"])
        return real, problem.clipped, overflowed, saturated

    def _requantized(self, problem: _Problem, part: slice) -> tuple[np.ndarray, int, int, int]:
        kind, into = self._treatment.requantizer, self._parameters["output"]
        x_scale = np.float32(problem.x_scale.item())
        w_scale = np.ascontiguousarray(problem.w_scale[:, 0])
        if w_scale.size == 1:
            w_scale = w_scale.reshape(())
        bias = bias_for(kind, problem.bias, x_scale, w_scale)
        first = self._treatment.limited and bias_of(kind) is BiasKind.INT32  # the register holds it
        found = problem.sums(part, bias if first else None)
        values = found.values
        whole = values if bias is None or first or bias.dtype != np.int32 else values + bias.astype(np.int64)
        if any(v.size and not (v.min() >= INT32_MIN and v.max() <= INT32_MAX) for v in (values, whole)):
            raise BadInput(
                "a requantizer takes sums that fit int32, the bias included",
                got=f"{int(whole.min())}..{int(whole.max())}",
                fix="use fewer bits, float outputs, or a register of 32 bits (accumulator) that wraps or saturates",
            )
        requantizer = requantizer_of(self._treatment, x_scale, w_scale, into, None if first else bias)
        made = requantizer(np.ascontiguousarray(values.astype(np.int32)))
        return dequantized(made.codes, into), problem.clipped, found.overflowed or 0, made.saturated

    @property
    def _accumulator(self) -> Accumulator | PairAccumulator:
        return self._treatment.accumulator

    @property
    def _count(self) -> Count:
        return Count.OUTPUTS if self._treatment.limited else Count.NONE


def _zeros(weight: Quantized, part: slice) -> np.ndarray:
    """Zero points (outputs,) of a slice of the input channels."""
    group = part.start // (weight.spec.granularity.group_size(1) or weight.codes.shape[1])
    zeros = weight.zero_point.reshape(len(weight.zero_point), -1)[:, group]
    return np.ascontiguousarray(np.broadcast_to(zeros, (len(weight.codes),)))


def _zero(x: Quantized) -> int:
    return int(x.zero_point.flat[0]) if x.zero_point.size else 0
