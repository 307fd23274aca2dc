"""Codes of up to 8 bits as bytes: what moves them there, and what must hold of them."""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_kind
from simulator.arithmetic.quantizer import Quantized, QuantSpec

SHIFT = 128


def left_shift(spec: QuantSpec) -> int:
    """What is added to a code to make it an unsigned byte."""
    return SHIFT if spec.format.signed else 0


def right_shift(spec: QuantSpec) -> int:
    """What is added to a code to make it a signed byte."""
    return 0 if spec.format.signed else -SHIFT


def largest_step(quantized: Quantized) -> int:
    """Largest ``|code - zero_point|`` of the format under the tensor's zero points."""
    low, high = int(quantized.zero_point.min()), int(quantized.zero_point.max())
    return max(quantized.spec.format.qmax - low, high - quantized.spec.format.qmin)


def require_byte_format(spec: QuantSpec) -> None:
    """Raise BadInput for codes of more than 8 bits."""
    if spec.format.bits > 8:
        raise BadInput(
            "these contractions take codes of up to 8 bits",
            got=spec.format,
            fix="use 8 bits or fewer, or integer_matmul",
        )


def require_byte_codes(quantized: Quantized) -> None:
    """Raise BadInput unless the tensor holds codes of its format, of at most 8 bits: certificates rest on it."""
    require_kind("quantized", quantized, Quantized)
    require_byte_format(quantized.spec)
    codes, format = quantized.codes, quantized.spec.format
    whole = (format.qmin, format.qmax) == (np.iinfo(format.dtype).min, np.iinfo(format.dtype).max)
    if not whole and codes.size and not format.qmin <= int(codes.min()) <= int(codes.max()) <= format.qmax:
        raise BadInput(
            f"codes of {format} must lie in [{format.qmin}, {format.qmax}]",
            got=f"{codes.min()} to {codes.max()}",
            fix="saturate them first, or name their format",
        )
