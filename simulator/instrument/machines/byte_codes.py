"""Codes of up to 8 bits, exact int32 sums: the engine at full speed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic.codes_out import conv_codes, linear_codes
from simulator.arithmetic.operands import ScaledFormat, quantize_image, quantize_matrices
from simulator.arithmetic.requantize import Requantized
from simulator.arithmetic.rules import DIVIDE
from simulator.arithmetic.weights import PreparedWeight
from simulator.instrument import emulation
from simulator.instrument.contractions import Contraction, Conv, Linear, MatMul, Weighted
from simulator.instrument.machines.machine import Emulated, Parameters
from simulator.instrument.machines.operands import own_range
from simulator.instrument.machines.requantization import bias_for, dequantized, requantizer_of
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.treatment import Treatment


class ByteCodes:
    """The fast path: a float output, or requantized codes of a linear layer or convolution.

    Args:
        treatment: of the site; see :meth:`takes`.
        parameters: calibrated, by role.
    """

    def __init__(self, treatment: Treatment, parameters: Parameters) -> None:
        self._treatment, self._parameters = treatment, parameters
        self.formats: dict[str, ScaledFormat] = {
            role: ScaledFormat(operand.spec, parameters[role].scale, parameters[role].zero_point)
            for role, operand in treatment.operands.items()
            if operand.range is ActivationRange.STATIC
        }

    @staticmethod
    def takes(treatment: Treatment, operation: str) -> bool:
        """Whether this path computes a site of ``operation`` so treated."""
        if treatment.target is not None or treatment.block is not None or treatment.limited or treatment.regrouped:
            return False
        rows = any(operand.range is ActivationRange.ROW for operand in treatment.operands.values())
        if treatment.logarithmic:
            return False
        wide = max(treatment.activation_bits, treatment.weight_bits) > 8
        ruled = any(operand.spec.rule != DIVIDE for operand in treatment.operands.values())
        requantizable = (
            treatment.weight is not None
            and operation.startswith(("linear", "addmm", "conv"))
            and "transpose" not in operation
        )
        grouped = treatment.weight is not None and treatment.weight.granularity.group_size(1) is not None
        return not (rows or wide or ruled or (treatment.output is not None and (grouped or not requantizable)))

    @property
    def static(self) -> bool:
        """Whether every run-time operand has a calibrated scale, and the output is float32."""
        return self._treatment.output is None and self.formats.keys() == self._treatment.operands.keys()

    @property
    def weight_key(self) -> Hashable:
        """The weight's spec, and its bounds where they are given."""
        return type(self), self._treatment.weight, self._treatment.weight_bounds

    def prepare(self, operation: Weighted, weight: Tensor) -> PreparedWeight:
        """Packed bytes."""
        assert self._treatment.weight is not None
        return emulation.prepared(operation, weight, self._treatment.weight, self._treatment.weight_bounds)

    def __call__(self, contraction: Contraction, prepared: Any) -> Emulated:
        """The contraction."""
        how = {role: self._format(role, tensor) for role, tensor in contraction.activations().items()}
        if isinstance(contraction, MatMul):
            left, right = (how[role] for role in contraction.roles)
            return Emulated(*emulation.matmul(contraction, left, right))
        if self._treatment.output is None:
            return Emulated(*emulation.weighted(contraction, how["input"], prepared))
        assert isinstance(contraction, Linear | Conv)
        return self._requantized(contraction, how["input"], prepared)

    def _format(self, role: str, tensor: Tensor) -> ScaledFormat:
        if role in self.formats:
            return self.formats[role]
        operand = self._treatment.operands[role]
        own = own_range(emulation.array(tensor), operand)
        return ScaledFormat(operand.spec, own.scale, own.zero_point)

    def _requantized(self, contraction: Linear | Conv, how: ScaledFormat, weight: PreparedWeight) -> Emulated:
        into = self._parameters["output"]
        scales = np.ascontiguousarray(weight.scale[0])
        bias = bias_for(self._treatment.requantizer, contraction.bias, how.scale, scales)
        requantizer = requantizer_of(self._treatment, how.scale, scales, into, bias)
        found: Requantized
        if isinstance(contraction, Linear):
            x = quantize_matrices(emulation.array(contraction.input), how, side="left")
            found = linear_codes(x, weight, requantizer)
            output = torch.from_numpy(dequantized(found.codes, into))
        else:
            x = quantize_image(emulation.channels_last(contraction.input), how, contraction.geometry)
            found = conv_codes(x, weight, requantizer, contraction.geometry)
            output = emulation.channels_first(dequantized(found.codes, into))
        return Emulated(output, x.clipped, 0, found.saturated)
