"""P V with log-sqrt2 codes of P: shifted integers, summed exactly."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic.log_sqrt2 import LogSqrt2
from simulator.arithmetic.shifted_products import shifted_product
from simulator.instrument import emulation
from simulator.instrument.contractions import PROBABILITY, Contraction, MatMul, Weighted
from simulator.instrument.machines.channel_groups import NO_GROUPS, Groups, grouped_axes
from simulator.instrument.machines.machine import Affine, Emulated, Parameters
from simulator.instrument.machines.operands import quantized
from simulator.instrument.machines.requantization import rounded_output
from simulator.instrument.scheme.settings import ProbabilityFormat
from simulator.instrument.treatment import Operand, Treatment


def quantizer_of(operand: Operand, given: Affine) -> LogSqrt2:
    """The quantizer of a log-sqrt2 operand."""
    return LogSqrt2(operand.spec.format.bits, given.scale, operand.form is ProbabilityFormat.LOG_SQRT2_ZERO)


class LogProducts:
    """``simulator.arithmetic.shifted_products``: two exact sums, each rounded to float32, rescaled and added.

    Args:
        treatment: of the site, whose probability has a log-sqrt2 format.
        parameters: calibrated, by role.
        groups: of channels, by role.
    """

    def __init__(self, treatment: Treatment, parameters: Parameters, groups: Groups = NO_GROUPS) -> None:
        self._treatment, self._parameters, self._groups = treatment, parameters, groups
        self._quantizer = quantizer_of(treatment.operands[PROBABILITY], parameters[PROBABILITY])

    @property
    def weight_key(self) -> Hashable:
        """There is no weight."""
        return (type(self),)

    def prepare(self, operation: Weighted, weight: Tensor) -> Any:
        """Nothing: a softmax output meets run-time operands only."""
        raise NotImplementedError

    def __call__(self, contraction: Contraction, prepared: Any) -> Emulated:
        """The contraction."""
        assert isinstance(contraction, MatMul)
        left, right = (emulation.array(tensor) for tensor in (contraction.left, contraction.right))
        first, second = contraction.roles
        assert first == PROBABILITY
        codes = self._quantizer.quantize(left)
        rows, operand = tuple(range(right.ndim - 1)), self._treatment.operands[second]
        value = quantized(
            right, operand, self._parameters.get(second), rows, grouped_axes(self._groups, second, right.ndim)
        )
        real = shifted_product(
            codes.codes, value.codes.astype(np.int32) - value.zero_point, self._quantizer,
            np.swapaxes(value.scale, -1, -2), self._treatment.group_register,
        )  # fmt: skip
        clipped = sum(
            emulation.copies(shape, contraction.leading) * count
            for shape, count in ((left.shape, codes.clipped), (right.shape, value.clipped))
        )
        saturated = 0
        if self._treatment.output is not None:
            real, saturated = rounded_output(real, self._treatment.output, self._parameters["output"])
        return Emulated(torch.from_numpy(np.ascontiguousarray(real)), clipped, 0, saturated)
