"""Run-time operands as integer codes, whatever their parameters come from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.quantizer import Quantized, parameters_from_range, quantize, quantize_to_range
from simulator.instrument.machines.channel_groups import ChannelScales
from simulator.instrument.machines.machine import Affine
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.treatment import Operand


def quantized(
    values: np.ndarray,
    operand: Operand,
    given: Affine | None,
    rows: tuple[int, ...],
    channels: tuple[ChannelScales, tuple[int, ...]] | None = None,
) -> Quantized:
    """Codes of ``values``.

    Args:
        values: float32.
        operand: spec and source of the range.
        given: calibrated parameters, for a static range.
        rows: axes along which each index has a scale of its own, for ranges per row.
        channels: calibrated parameters of groups of channels and the axes along which they lie, instead of ``given``.

    Raises:
        BadInput: a dynamic range over NaN, infinities or no element.
    """
    if channels is not None:
        own, axes = channels
        return own.quantized(values, operand.spec, axes)
    if operand.range is ActivationRange.STATIC:
        assert given is not None
        shape = (1,) * values.ndim
        scale, zero = np.full(shape, given.scale, np.float32), np.full(shape, given.zero_point, np.int32)
        return quantize(values, operand.spec, scale, zero)
    if operand.range is ActivationRange.TENSOR:
        return quantize_to_range(values, operand.spec)
    return quantize_to_range(values, replace(operand.spec, granularity=PerAxis(rows)))


def own_range(values: np.ndarray, operand: Operand) -> Affine:
    """Parameters of a whole tensor from its smallest and largest value.

    Raises:
        BadInput: NaN, infinities or no element.
    """
    low, high = operand.spec.granularity.reduce(values, np.minimum), operand.spec.granularity.reduce(values, np.maximum)
    scale, zero = parameters_from_range(low, high, operand.spec)
    return Affine(np.float32(scale.item()), int(zero.item()))
