"""From integer sums to output codes, and back to what the next operation reads."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from simulator.arithmetic.quantizer import QuantSpec, quantize
from simulator.arithmetic.requantize.scaled import Scaled
from simulator.instrument import emulation
from simulator.instrument.machines.machine import Affine
from simulator.instrument.treatment import Treatment
from simulator.targets.description import AnyRequantizer, BiasKind, bias_of
from simulator.targets.finish import quantize_bias


def bias_for(
    requantizer: AnyRequantizer, bias: Tensor | None, x_scale: np.float32, w_scale: np.ndarray
) -> np.ndarray | None:
    """The bias as the requantizer takes it.

    Raises:
        BadInput: a bias that does not fit int32 in units of ``x_scale * w_scale``.
    """
    if bias is None:
        return None
    values = emulation.array(bias)
    return quantize_bias(values, x_scale, w_scale) if bias_of(requantizer) is BiasKind.INT32 else values


def requantizer_of(
    treatment: Treatment, x_scale: np.float32, w_scale: np.ndarray, into: Affine, bias: np.ndarray | None
) -> Scaled:
    """The treatment's requantizer with its parameters."""
    kind = treatment.requantizer
    assert issubclass(kind, Scaled)
    assert treatment.output is not None
    return kind(x_scale, w_scale, into.scale, into.zero_point, treatment.output.format, bias)


def rounded_output(real: np.ndarray, spec: QuantSpec, into: Affine) -> tuple[np.ndarray, int]:
    """Float results on the output's codes by the divide rule, and how many were clipped."""
    one = (1,) * real.ndim
    made = quantize(real, spec, np.full(one, into.scale, np.float32), np.full(one, into.zero_point, np.int32))
    return dequantized(made.codes, into), made.clipped


def dequantized(codes: np.ndarray, parameters: Affine) -> np.ndarray:
    """``f32(f32(code - zero_point) * scale)``."""
    real = codes.astype(np.float32)  # exact: codes have at most 16 bits
    real -= np.float32(parameters.zero_point)
    real *= parameters.scale
    return real
