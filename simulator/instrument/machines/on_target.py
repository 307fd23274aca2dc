"""A site on a named machine: the target's own quantize rules, register, epilogue and requantizer."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simulator import targets
from simulator.arithmetic.quantizer import Quantized
from simulator.instrument import emulation
from simulator.instrument.contractions import Contraction, Conv, Linear, MatMul, Weighted
from simulator.instrument.machines.machine import Emulated, Parameters
from simulator.instrument.machines.operands import quantized
from simulator.instrument.machines.requantization import dequantized
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.treatment import Treatment
from simulator.targets.description import BiasKind, Kernel
from simulator.targets.description import Parameters as ParameterSource
from simulator.targets.operands import output_scales


class OnTarget:
    """Computes through ``simulator.targets``.

    Args:
        treatment: of the site, with a target.
        parameters: calibrated, by role.
    """

    def __init__(self, treatment: Treatment, parameters: Parameters) -> None:
        assert treatment.target is not None
        self._treatment, self._parameters, self._target = treatment, parameters, treatment.target
        self._output = None
        if treatment.output is not None:
            into = parameters["output"]
            self._output = targets.OutputSpec(into.scale, into.zero_point, treatment.output.format)

    @property
    def weight_key(self) -> Hashable:
        """The target's weight spec, and the bounds where they are given."""
        return type(self), self._treatment.weight, self._treatment.weight_bounds

    def prepare(self, operation: Weighted, weight: Tensor) -> Quantized:
        """Codes by the target's rule."""
        given = self._treatment.weight_bounds
        bounds = None if given is None else (given.low, given.high)
        return targets.quantize_weight(
            self._target, emulation.array(weight), spec=self._treatment.weight, bounds=bounds
        )

    def __call__(self, contraction: Contraction, prepared: Any) -> Emulated:
        """The contraction."""
        if isinstance(contraction, MatMul):
            x, y = (self._codes(role, emulation.array(t)) for role, t in contraction.activations().items())
            found = targets.matmul(self._target, x, y, self._output)
            clipped = sum(emulation.copies(q.codes.shape, contraction.leading) * q.clipped for q in (x, y))
            return self._emulated(found, clipped, contraction.shape)
        if isinstance(contraction, Linear):
            depth = contraction.input.shape[-1]
            x = self._codes("input", emulation.array(contraction.input).reshape(-1, depth))
            bias = self._bias(contraction.bias, x, prepared, self._target.linear)
            found = targets.linear(self._target, x, prepared, bias, self._output)
            return self._emulated(found, x.clipped, (*contraction.input.shape[:-1], -1))
        assert isinstance(contraction, Conv)
        x = self._codes("input", emulation.channels_last(contraction.input))
        bias = self._bias(contraction.bias, x, prepared, self._target.conv)
        found = targets.conv(self._target, x, prepared, bias, contraction.geometry, self._output)
        made = self._emulated(found, x.clipped, found.values.shape)
        return replace(made, output=made.output.movedim(-1, 1))

    def _codes(self, role: str, values: np.ndarray) -> Quantized:
        if self._target.parameters is ParameterSource.DYNAMIC_BLOCKS:
            return targets.quantize_activation(self._target, values, spec=self._treatment.operands[role].spec)
        operand = self._treatment.operands[role]
        given = self._parameters.get(role)
        if operand.range is ActivationRange.STATIC and given is not None:
            one = operand.spec.granularity.parameter_shape(values.shape)
            scale, zero = np.full(one, given.scale, np.float32), np.full(one, given.zero_point, np.int32)
            return targets.quantize_activation(self._target, values, scale, zero, spec=operand.spec)
        return quantized(values, operand, given, tuple(range(values.ndim - 1)))

    def _bias(self, bias: Tensor | None, x: Quantized, w: Quantized, kernel: Kernel | None) -> np.ndarray | None:
        if bias is None:
            return None
        values = emulation.array(bias)
        assert kernel is not None
        if self._output is None or kernel.bias is BiasKind.FLOAT32:
            return values
        if kernel.bias is BiasKind.INT32:
            return targets.quantize_bias(values, np.float32(x.scale.item()), output_scales(w))
        codes = np.rint(values / self._output.scale)
        return np.clip(codes, self._output.format.qmin, self._output.format.qmax).astype(self._output.format.dtype)

    def _emulated(self, found: targets.Outcome, clipped: int, shape: tuple[int, ...]) -> Emulated:
        values = found.values
        if self._output is not None:
            values = dequantized(values, self._parameters["output"])
        real = torch.from_numpy(np.ascontiguousarray(values, np.float32)).reshape(shape)
        return Emulated(real, clipped, found.overflowed, found.saturated)
