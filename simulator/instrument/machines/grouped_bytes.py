"""Groups of channels in codes of up to 8 bits: the engine's partial sums, over channels put in the order of groups."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic import contract
from simulator.arithmetic.activation import Activation
from simulator.arithmetic.byte_codes import largest_step, left_shift
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.weights import PreparedWeight, prepare_weight
from simulator.instrument import emulation
from simulator.instrument.contractions import Contraction, Conv, Linear, Weighted
from simulator.instrument.machines.byte_codes import ByteCodes
from simulator.instrument.machines.channel_groups import Groups, contracted_groups, parts_of
from simulator.instrument.machines.machine import Emulated
from simulator.instrument.machines.registers import Registers
from simulator.instrument.treatment import Treatment


class GroupedBytes:
    """The fast path of a linear layer or convolution: a channel's place among the channels changes no integer sum.

    Args:
        treatment: of the site; see :meth:`takes`.
        groups: of the input's channels.
    """

    def __init__(self, treatment: Treatment, groups: Groups) -> None:
        self._treatment, self._own = treatment, groups["input"]
        self._plain = Registers(treatment, {}, groups)

    @staticmethod
    def takes(treatment: Treatment, operation: str, groups: Groups) -> bool:
        """Whether this path computes a site of ``operation`` so treated."""
        return (
            ByteCodes.takes(treatment, operation)
            and treatment.output is None
            and treatment.weight is not None
            and treatment.weight.granularity.group_size(1) is None
            and not operation.startswith("conv_transpose")
            and groups.keys() == {"input"}
        )

    @property
    def weight_key(self) -> Hashable:
        """That of the codes, and the groups after which their channels are ordered."""
        return type(self), self._plain.weight_key, self._own.group.tobytes()

    def prepare(self, operation: Weighted, weight: Tensor) -> PreparedWeight:
        """Packed bytes, channels in the order of groups."""
        found = self._plain.prepare(operation, weight)
        parts = self._parts(weight.shape[1])
        codes = np.ascontiguousarray(found.codes[:, np.concatenate(parts)])
        convolved = 1 if isinstance(operation, Linear) else operation.geometry.groups
        return prepare_weight(replace(found, codes=codes), parts=convolved, sizes=tuple(map(len, parts)))

    def __call__(self, contraction: Contraction, prepared: Any) -> Emulated:
        """The contraction."""
        assert isinstance(contraction, Linear | Conv)
        bias = None if contraction.bias is None else emulation.array(contraction.bias)
        if isinstance(contraction, Linear):
            *leading, depth = contraction.input.shape
            x = self._activation(emulation.array(contraction.input).reshape(-1, depth), depth, None)
            out = torch.empty(*leading, prepared.outputs)
            contract.linear(x, prepared, bias, out=out.numpy().reshape(-1, prepared.outputs))
            return Emulated(out, x.clipped)
        x = self._activation(emulation.channels_last(contraction.input), contraction.contracted, contraction.geometry)
        return Emulated(emulation.channels_first(contract.conv(x, prepared, bias, contraction.geometry)), x.clipped)

    def _parts(self, channels: int) -> list[np.ndarray]:
        return parts_of([contracted_groups(self._own.group, channels)])

    def _activation(self, values: np.ndarray, channels: int, geometry: Geometry | None) -> Activation:
        """Codes as bytes, padded with each channel's own zero point."""
        spec, parts = self._treatment.operands["input"].spec, self._parts(channels)
        found = self._own.quantized(values, spec, (values.ndim - 1,))
        order = (np.arange(0, values.shape[-1], channels)[:, None] + np.concatenate(parts)).reshape(-1)
        shift, first = left_shift(spec), [part[0] for part in parts]
        inside = (found.codes[..., order].astype(np.int16) + shift).astype(np.uint8)
        scale, zero = (each.reshape(-1)[first].reshape(-1, 1) for each in (found.scale, found.zero_point))
        codes = inside
        if geometry is not None and any(map(any, geometry.padding)):
            pads = [(0, 0), *geometry.padding, (0, 0)]
            codes = np.empty(
                [n + before + after for n, (before, after) in zip(inside.shape, pads, strict=True)], np.uint8
            )
            codes[:] = (found.zero_point.reshape(-1)[order] + shift).astype(np.uint8)
            codes[tuple(slice(before, before + n) for n, (before, _) in zip(inside.shape, pads, strict=True))] = inside
        zero = np.ascontiguousarray(zero + np.int32(shift))
        return Activation(
            np.ascontiguousarray(codes), zero, np.ascontiguousarray(scale), largest_step(found), found.clipped
        )
