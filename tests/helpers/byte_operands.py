"""Codes with their zero points as the operands of ``contract`` and ``codes_out``."""

from __future__ import annotations

import numpy as np

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerTensor
from simulator.arithmetic.operands import Activation, left_operand, pad
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.arithmetic.weights import PreparedWeight, prepare_weight


def quantized(codes: np.ndarray, zero: int = 0) -> Quantized:
    """Bytes with scale 1 and one zero point."""
    spec, shape = QuantSpec(IntFormat(8, signed=codes.dtype == np.int8), PerTensor()), (1,) * codes.ndim
    return Quantized(codes, np.ones(shape, np.float32), np.full(shape, zero, np.int32), spec)


def operands(
    x: np.ndarray, x_zero: int, w: np.ndarray, w_zero: int, geometry: Geometry
) -> tuple[Activation, PreparedWeight]:
    """x (batch, channel, spatial...) padded and w (outputs, channels per group, spatial...) prepared for a geometry."""
    image = left_operand(quantized(np.ascontiguousarray(np.moveaxis(x, 1, -1)), x_zero))
    return pad(image, geometry), prepare_weight(quantized(w, w_zero), parts=geometry.groups)
