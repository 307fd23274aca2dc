"""Block formats as grouped integers: every element is an integer times a power of two, so a block's sum is one integer.

``element = code / 2**f`` with ``f`` of the format; the block's scale takes the power: ``real = code * (scale / 2**f)``,
the same number. So contractions of MX and NVFP4 tensors run exactly, block by block, in the integer engine.
"""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind
from simulator.arithmetic.block_formats import MXFP4, MXFP6_E2M3, MXINT8, NVFP4, BlockFormat, FixedPoint
from simulator.arithmetic.blockscale import BlockScaled
from simulator.arithmetic.float_codes import decode
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerGroup
from simulator.arithmetic.quantizer import Quantized, QuantSpec

_INTEGERS: dict[BlockFormat, tuple[int, IntFormat]] = {
    MXINT8: (6, IntFormat(8, narrow=True)),
    MXFP4: (1, IntFormat(5, narrow=True)),
    NVFP4: (1, IntFormat(5, narrow=True)),
    MXFP6_E2M3: (3, IntFormat(7, narrow=True)),
}
"""Fraction bits and integer format of the elements: those that a signed byte holds."""


def block_integers(tensor: BlockScaled) -> Quantized:
    """The tensor as integer codes with one scale per block.

    The scale is ``f32(f32(global_scale * scale) / 2**f)``: exact in MX; in NVFP4 the product is rounded once. A block
    whose scale is 0 holds zeros, and gets the scale 1.

    Args:
        tensor: MXINT8, MXFP4, MXFP6_E2M3 or NVFP4, of finite data.

    Returns:
        Codes of the tensor's shape, symmetric, in groups along its axis and one per index of the others.

    Raises:
        BadInput: a format whose elements do not fit a byte, or a scale that is NaN or infinite.
    """
    require_kind("tensor", tensor, BlockScaled)
    if tensor.format not in _INTEGERS:
        raise BadInput(
            f"elements must be integers of a byte: {', '.join(map(str, _INTEGERS))}",
            got=tensor.format,
            fix="dequantize, and compute in float",
        )
    fraction, format = _INTEGERS[tensor.format]
    others = tuple(axis for axis in range(tensor.codes.ndim) if axis != tensor.axis)
    spec = QuantSpec(format, PerGroup(tensor.axis, tensor.format.size, others), symmetric=True)
    if isinstance(tensor.format.element, FixedPoint):
        codes = tensor.codes.view(np.int8)
    else:
        codes = (decode(tensor.codes, tensor.format.element) * np.float32(2**fraction)).astype(np.int8)
    scale = decode(tensor.scales, tensor.format.scale) * tensor.global_scale / np.float32(2**fraction)
    scale = np.where(scale == 0, np.float32(1), scale).astype(np.float32)
    return Quantized(np.ascontiguousarray(codes), scale, np.zeros(scale.shape, np.int32), spec, tensor.saturated)
