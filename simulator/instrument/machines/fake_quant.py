"""Fake-quant: the same codes, turned back into floats and multiplied in torch's float32, as repositories do it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic import blockscale
from simulator.arithmetic.quantizer import dequantize
from simulator.instrument import emulation
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose, MatMul, Weighted
from simulator.instrument.machines.channel_groups import NO_GROUPS, Groups, grouped_axes
from simulator.instrument.machines.log_products import quantizer_of
from simulator.instrument.machines.machine import Emulated, Parameters
from simulator.instrument.machines.operands import quantized
from simulator.instrument.treatment import Treatment
from simulator.instrument.weight_codes import weight_codes
from simulator.instrument.weight_layout import WeightLayout


class FakeQuant:
    """Operands rounded to their codes' real values; sums and products are torch's. Registers and outputs play no part.

    Args:
        treatment: of the site.
        parameters: calibrated, by role.
        weights: whether weights are rounded.
        activations: whether run-time operands are.
        groups: of channels, by role.
    """

    def __init__(
        self,
        treatment: Treatment,
        parameters: Parameters,
        *,
        weights: bool = True,
        activations: bool = True,
        groups: Groups = NO_GROUPS,
    ) -> None:
        self._treatment, self._parameters, self._groups = treatment, parameters, groups
        self._weights, self._activations = weights, activations

    @property
    def weight_key(self) -> Hashable:
        """Spec and given bounds, or format, of the weight, if it is rounded."""
        treatment = self._treatment
        return type(self), treatment.weight, treatment.weight_bounds, treatment.block, self._weights

    def prepare(self, operation: Weighted, weight: Tensor) -> Tensor:
        """The weight's rounded values, in its own layout."""
        if not self._weights:
            return weight
        values = emulation.array(weight)
        if self._treatment.block is not None:
            return torch.from_numpy(blockscale.dequantize(blockscale.quantize(values, self._treatment.block, axis=1)))
        assert self._treatment.weight is not None
        made = weight_codes(operation, values, self._treatment.weight, self._treatment.weight_bounds)
        return torch.from_numpy(WeightLayout.of(operation).outputs_first(dequantize(made)))

    def __call__(self, contraction: Contraction, prepared: Any) -> Emulated:
        """The contraction in torch float32."""
        operands, clipped = contraction.activations(), 0
        if self._activations:
            leading = contraction.leading if isinstance(contraction, MatMul) else ()
            groups = contraction.geometry.groups if isinstance(contraction, Conv | ConvTranspose) else None
            for role, tensor in operands.items():
                operands[role], lost = self._rounded(role, emulation.array(tensor), groups)
                clipped += lost * (emulation.copies(tuple(tensor.shape), leading) if leading else 1)
        if isinstance(contraction, MatMul):
            left, right = operands.values()
            return Emulated(replace(contraction, left=left, right=right).float(), clipped)
        return Emulated(replace(contraction, input=operands["input"], weight=prepared).float(), clipped)

    def _rounded(self, role: str, values: np.ndarray, groups: int | None) -> tuple[Tensor, int]:
        """An image, which has ``groups``, has its channels on axis 1, and samples for rows."""
        if self._treatment.block is not None:
            split = values if groups is None else values.reshape(len(values), groups, -1, *values.shape[2:])
            found = blockscale.quantize(split, self._treatment.block, axis=-1 if groups is None else 2)
            return torch.from_numpy(blockscale.dequantize(found).reshape(values.shape)), found.saturated
        rows = tuple(range(values.ndim - 1)) if groups is None else (0,)
        operand = self._treatment.operands[role]
        if operand.logarithmic:
            how = quantizer_of(operand, self._parameters[role])
            logs = how.quantize(values)
            return torch.from_numpy(how.dequantize(logs.codes)), logs.clipped
        channels = grouped_axes(self._groups, role, values.ndim, image=groups is not None)
        made = quantized(values, operand, self._parameters.get(role), rows, channels)
        return torch.from_numpy(dequantize(made)), made.clipped
