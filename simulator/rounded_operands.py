"""A contraction's two operands beside their codes' values and steps, as the site's arithmetic makes them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from simulator.arithmetic.quantizer import Quantized, QuantSpec, dequantize
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose, MatMul, Weighted
from simulator.instrument.emulation import array
from simulator.instrument.machines.channel_groups import NO_GROUPS, Groups, grouped_axes
from simulator.instrument.machines.machine import Parameters
from simulator.instrument.machines.operands import quantized
from simulator.instrument.treatment import Treatment
from simulator.instrument.weight_codes import WeightBounds, weight_codes
from simulator.instrument.weight_layout import WeightLayout


@dataclass(frozen=True)
class Rounded:
    """One operand, tensors of its shape.

    Attributes:
        exact: as the network computes it.
        error: its codes' value minus ``exact``.
        step: distance between two codes.
        clip: ``error`` of elements more than half a step beyond the outermost code, else 0.
        intervals: largest code minus smallest code.
    """

    exact: Tensor
    error: Tensor
    step: Tensor
    clip: Tensor
    intervals: int


def operands(
    contraction: Contraction, treatment: Treatment, parameters: Parameters, groups: Groups = NO_GROUPS
) -> tuple[Rounded, Rounded]:
    """Left (a run-time operand) and right (the weight, or the other run-time operand).

    Args:
        contraction: with float operands.
        treatment: of its site, in integers.
        parameters: calibrated, by role.
        groups: of channels, by role.

    Raises:
        BadInput: a dynamic range over NaN or infinities.
    """
    run_time = []
    for role, tensor in contraction.activations().items():
        values = array(tensor)
        image = isinstance(contraction, Conv | ConvTranspose)
        rows = (0,) if image else tuple(range(values.ndim - 1))
        channels = grouped_axes(groups, role, values.ndim, image=image)
        made = quantized(values, treatment.operands[role], parameters.get(role), rows, channels)
        run_time.append(_rounded(values, made))
    if isinstance(contraction, MatMul):
        left, right = run_time
        return left, right
    assert treatment.weight is not None
    return run_time[0], _weight(contraction, treatment.weight, treatment.weight_bounds)


def product(contraction: Contraction, left: Tensor, right: Tensor) -> Tensor:
    """The contraction of two other operands of the same shapes, without bias."""
    if isinstance(contraction, MatMul):
        return replace(contraction, left=left, right=right).float()
    return replace(contraction, input=left, weight=right, bias=None).float()


def _weight(operation: Weighted, spec: QuantSpec, bounds: WeightBounds | None) -> Rounded:
    """Scales lie along axis 0 of a layout with outputs first, which a transposed convolution's weight has not."""
    values, layout = array(operation.weight), WeightLayout.of(operation)
    made = weight_codes(operation, values, spec, bounds)
    found = _rounded(layout.outputs_first(values), made)

    def back(tensor: Tensor) -> Tensor:
        return layout.outputs_first(tensor)

    return Rounded(back(found.exact), back(found.error), back(found.step), back(found.clip), found.intervals)


def _rounded(values: np.ndarray, made: Quantized) -> Rounded:
    spec, shape = made.spec, values.shape
    step = np.array(spec.granularity.expand(made.scale, shape), np.float32)
    zero = spec.granularity.expand(made.zero_point, shape)
    low, high = (step * (bound - zero).astype(np.float32) for bound in (spec.format.qmin, spec.format.qmax))
    error = dequantize(made) - values
    clip = np.where((values < low - step / 2) | (values > high + step / 2), error, np.float32(0))
    intervals = spec.format.qmax - spec.format.qmin
    return Rounded(_tensor(values), _tensor(error), _tensor(step), _tensor(clip), intervals)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
