"""The grid of one weight: which codes lie below and above each element, and the real values of codes."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import Quantized, QuantSpec, parameters_from_range, quantize
from simulator.calibration.ranges import Bounds
from simulator.instrument.weight_layout import WeightLayout


class WeightGrid:
    """A weight and the codes that it may get, in the engine's layout.

    Codes are held as float32 integers, exact to 16 bits and beyond.

    Args:
        weight: float32, in its own layout.
        layout: of the weight.
        spec: its codes.
        bounds: low and high in the parameter shape of ``spec`` for the engine's layout.

    Attributes:
        scale: float32, the parameter shape.
        zero_point: int32, the same.
        nearest: codes by the spec's own rule.
        below: ``floor(weight / scale) + zero_point``, not clipped.
        fraction: what is left of ``weight / scale``, in [0, 1).

    Raises:
        BadInput: a weight that is not finite, or bounds of another shape.
    """

    def __init__(self, weight: Tensor, layout: WeightLayout, spec: QuantSpec, bounds: Bounds) -> None:
        self.layout, self.spec = layout, spec
        values = layout.outputs_first(weight.detach()).contiguous()
        if not torch.isfinite(values).all():
            raise BadInput("weights must be finite", got="NaN or infinity", fix="check the network")
        self.scale, self.zero_point = parameters_from_range(*bounds, spec)
        found = quantize(values.numpy(), spec, self.scale, self.zero_point)
        self.nearest = torch.from_numpy(found.codes.astype(np.float32))
        quotient = values / self._step
        self.below = torch.floor(quotient) + self._zero
        self.fraction = quotient - torch.floor(quotient)

    @cached_property
    def _step(self) -> Tensor:
        return self._full(self.scale)

    @cached_property
    def _zero(self) -> Tensor:
        return self._full(self.zero_point.astype(np.float32))

    def _full(self, parameter: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(self.spec.granularity.expand(parameter, tuple(self.nearest.shape))))

    def codes(self, up: Tensor) -> Tensor:
        """``clip(below + up, qmin, qmax)``; integers where ``up`` is 0 or 1, and differentiable in it."""
        return torch.clamp(self.below + up, self.spec.format.qmin, self.spec.format.qmax)

    def values(self, codes: Tensor) -> Tensor:
        """Real values of codes in the weight's own layout: ``(codes - zero_point) scale``, the engine's product."""
        return self.layout.outputs_first((codes - self._zero) * self._step)

    def quantized(self, codes: Tensor) -> Quantized:
        """Integer codes with their parameters."""
        return Quantized(codes.numpy().astype(self.spec.format.dtype), self.scale, self.zero_point, self.spec)
