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
from simulator.arithmetic.quantizer import Quantized
from simulator.arithmetic.transposed import Stretched
from simulator.instrument import emulation
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose, Linear, MatMul, Weighted
from simulator.instrument.machines.channel_groups import (
    NO_GROUPS,
    VALUE,
    Groups,
    contracted_groups,
    grouped_axes,
    parts_of,
)
from simulator.instrument.machines.head_products import one_zero, product_by_head
from simulator.instrument.machines.machine import Emulated, Parameters
from simulator.instrument.machines.operands import quantized
from simulator.instrument.machines.requantization import bias_for, dequantized, requantizer_of, rounded_output
from simulator.instrument.treatment import Treatment
from simulator.instrument.weight_codes import flipped, weight_codes
from simulator.targets.description import BiasKind, bias_of

Sums = Callable[["_Part", np.ndarray | None], Accumulated]
"""Sums over a part of the input channels; the integer bias enters the register."""


@dataclass(frozen=True)
class _Part:
    """Input channels whose products are one integer sum: those of a weight group, of a group of channels."""

    channels: np.ndarray
    x_scale: np.ndarray
    x_zero: np.ndarray
    """Of these channels alone; for two run-time operands both may vary over heads."""
    w_group: int = 0
    w_zero: np.ndarray | None = None
    """Of a second run-time operand."""


@dataclass(frozen=True)
class _Problem:
    """A contraction in integers: ``outputs`` is the last axis of its sums."""

    sums: Sums
    parts: list[_Part]
    w_scale: np.ndarray
    """(outputs, groups)"""
    bias: Tensor | None
    clipped: int


class Registers:
    """The general path.

    Args:
        treatment: of the site, without block format or target.
        parameters: calibrated, by role.
        groups: of channels, by role.
    """

    def __init__(self, treatment: Treatment, parameters: Parameters, groups: Groups = NO_GROUPS) -> None:
        self._treatment, self._parameters, self._groups = treatment, parameters, groups

    @property
    def weight_key(self) -> Hashable:
        """The weight's spec, and its bounds where they are given."""
        return type(self), self._treatment.weight, self._treatment.weight_bounds

    def prepare(self, operation: Weighted, weight: Tensor) -> Quantized:
        """Codes of the weight; a transposed convolution's as those of the plain one."""
        assert self._treatment.weight is not None
        spec, bounds = self._treatment.weight, self._treatment.weight_bounds
        return flipped(operation, weight_codes(operation, emulation.array(weight), spec, bounds))

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
        channels = grouped_axes(self._groups, role, values.ndim)
        return quantized(values, self._treatment.operands[role], self._parameters.get(role), rows, channels)

    def _matrices(self, contraction: MatMul) -> _Problem:
        first, second = contraction.roles
        x, y = (
            self._codes(role, emulation.array(tensor), tuple(range(tensor.ndim - 1)))
            for role, tensor in ((first, contraction.left), (second, contraction.right))
        )
        labels = [
            contracted_groups(self._groups[role].group)
            for role in (first, second)
            if role in self._groups and role != VALUE
        ]
        depth = x.codes.shape[-1]
        parts = []
        for channels in parts_of([np.zeros(depth, np.int64), *labels]):
            x_scale, x_zero, y_scale, y_zero = (_of(each, channels) for q in (x, y) for each in (q.scale, q.zero_point))
            if y_scale.size > 1 or self._groups:  # per column or head: multiplied before the sums are rescaled
                scale, w_scale = x_scale * np.swapaxes(y_scale, -1, -2), np.ones((1, 1), np.float32)
            else:
                scale, w_scale = x_scale, y_scale.reshape(1, 1)
            parts.append(_Part(channels, scale, x_zero, 0, y_zero))

        def sums(part: _Part, bias: np.ndarray | None) -> Accumulated:
            left, right = (_taken(q.codes, part.channels) for q in (x, y))
            assert part.w_zero is not None
            return product_by_head(left, right, part.x_zero, part.w_zero, self._accumulator, self._count)

        clipped = sum(emulation.copies(q.codes.shape, contraction.leading) * q.clipped for q in (x, y))
        return _Problem(sums, parts, w_scale, None, clipped)

    def _rows(self, contraction: Linear, weight: Quantized) -> _Problem:
        depth = contraction.input.shape[-1]
        x = self._codes("input", emulation.array(contraction.input).reshape(-1, depth), (0,))

        def sums(part: _Part, bias: np.ndarray | None) -> Accumulated:
            return integer_matmul(
                _taken(x.codes, part.channels), np.ascontiguousarray(weight.codes[:, part.channels]), self._accumulator,
                x_zero=one_zero(part.x_zero), w_zero=_zeros(weight, part), bias=bias, count=self._count,
            )  # fmt: skip

        return self._weighted(sums, depth, x, weight, contraction.bias)

    def _image(self, contraction: Conv | ConvTranspose, weight: Quantized) -> _Problem:
        x = self._codes("input", emulation.channels_last(contraction.input), (0,))
        grouped = x.codes.reshape(*x.codes.shape[:-1], contraction.geometry.groups, -1)

        def sums(part: _Part, bias: np.ndarray | None) -> Accumulated:
            taken, geometry = _taken(grouped, part.channels).reshape(*x.codes.shape[:-1], -1), contraction.geometry
            if isinstance(contraction, ConvTranspose):
                stretched = Stretched.of(
                    taken.shape[1:-1], weight.codes.shape[2:], geometry, contraction.output_padding
                )
                taken, geometry = stretched.image(taken, one_zero(part.x_zero)), stretched.plain
            return integer_conv(
                taken, np.ascontiguousarray(weight.codes[:, part.channels]), self._accumulator, geometry,
                x_zero=one_zero(part.x_zero), w_zero=_zeros(weight, part), bias=bias, count=self._count,
            )  # fmt: skip

        return self._weighted(sums, grouped.shape[-1], x, weight, contraction.bias)

    def _weighted(self, sums: Sums, channels: int, x: Quantized, weight: Quantized, bias: Tensor | None) -> _Problem:
        size = weight.spec.granularity.group_size(1) or max(channels, 1)
        scale = weight.scale.reshape(len(weight.scale), -1)
        scale = np.broadcast_to(scale, (len(weight.codes), scale.shape[1]))
        of_weight = np.arange(channels) // size
        labels = [contracted_groups(own.group, channels) for own in self._groups.values()]
        parts = [
            _Part(part, _of(x.scale, part), _of(x.zero_point, part), int(of_weight[part[0]]) if part.size else 0)
            for part in parts_of([*labels, of_weight])
        ]
        return _Problem(sums, parts, scale, bias, x.clipped)

    def _finish(self, problem: _Problem) -> tuple[np.ndarray, int, int, int]:
        """Float32 (..., outputs), with what was clipped, lost and saturated."""
        parts = problem.parts
        if self._treatment.output is not None and len(parts) == 1 and not self._groups:
            return self._requantized(problem, parts[0])
        found = [problem.sums(part, None) for part in parts]
        overflowed = sum(each.overflowed or 0 for each in found)
        sums = np.stack([each.values for each in found])
        outputs = sums.shape[-1]
        w_scale = np.broadcast_to(problem.w_scale, (outputs, problem.w_scale.shape[1]))
        scale = np.ascontiguousarray(w_scale[:, [part.w_group for part in parts]].T)
        bias = None if problem.bias is None else emulation.array(problem.bias)
        left = np.stack(
            [part.x_scale.reshape((1,) * (sums.ndim - 1 - part.x_scale.ndim) + part.x_scale.shape) for part in parts]
        )
        if left.shape[-1] == 1:
            real = add_groups(sums, scale, self._treatment.group_register, left_scale=left, bias=bias)
        else:  # scales per column of a product of two activations
            assert len(parts) == 1
            with np.errstate(over="ignore", under="ignore"):
                real = self._treatment.group_register.hold(sums[0].astype(np.float32) * left[0])
        if self._treatment.output is None:
            return real, problem.clipped, overflowed, 0
        real, saturated = rounded_output(real, self._treatment.output, self._parameters["output"])
        return real, problem.clipped, overflowed, saturated

    def _requantized(self, problem: _Problem, part: _Part) -> tuple[np.ndarray, int, int, int]:
        kind, into = self._treatment.requantizer, self._parameters["output"]
        x_scale = np.float32(part.x_scale.item())
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


def _zeros(weight: Quantized, part: _Part) -> np.ndarray:
    """Zero points (outputs,) of a part of the input channels."""
    zeros = weight.zero_point.reshape(len(weight.zero_point), -1)[:, part.w_group]
    return np.ascontiguousarray(np.broadcast_to(zeros, (len(weight.codes),)))


def _of(parameter: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """A parameter of channels that share it: where it varies along the last axis, that of the first of them."""
    return parameter if parameter.shape[-1] <= 1 else parameter[..., channels[:1]]


def _taken(codes: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Codes of some channels of the last axis."""
    whole = len(channels) == codes.shape[-1]  # they are ascending
    return np.ascontiguousarray(codes if whole else codes[..., channels])
