"""Arrays of float32 to codes of small float formats and back: the fast twins of ``FloatFormat``'s scalar forms.

Rules and special values are those of ``simulator.arithmetic.float_formats``.
"""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_array, require_kind
from simulator.arithmetic.float_formats import FloatFormat, require_rounding
from simulator.arithmetic.kernels import blockscale as kernels
from simulator.arithmetic.rounding import Rounding


def encode(x: np.ndarray, format: FloatFormat, rounding: Rounding = Rounding.HALF_EVEN) -> np.ndarray:
    """Codes of a float32 array, each equal to ``format.encode_exact``.

    Args:
        x: float32 array of any shape.
        format: target of at most 16 bits.
        rounding: ties to even or away from zero.

    Returns:
        ``format.dtype`` codes in the shape of ``x``.

    Raises:
        BadInput: wrong dtype, format or rounding, or a NaN for a format that has none.
    """
    require_float32(x)
    require_rounding(rounding)
    _require_narrow(format)
    if not format.nans and np.any(np.isnan(x)):
        raise BadInput(f"{format} has no NaN", got="NaN", fix="handle NaN before the conversion")
    codes = np.empty(x.shape, format.dtype)
    patterns = np.ascontiguousarray(x).reshape(-1).view(np.int32)
    kernels.encode_elementwise(patterns, format.kernel_form(), rounding is Rounding.HALF_EVEN, codes.reshape(-1))
    return codes


def decode(codes: np.ndarray, format: FloatFormat) -> np.ndarray:
    """Float32 values of codes, each equal to ``format.decode_exact``; no format here needs more than float32.

    Args:
        codes: ``format.dtype`` array of any shape.
        format: their format, of at most 16 bits.

    Raises:
        BadInput: wrong dtype or format, or a code wider than the format.
    """
    _require_narrow(format)
    require_array("codes", codes)
    if codes.dtype != format.dtype:
        raise BadInput(f"codes of {format} must be {format.dtype}", got=codes.dtype, fix="view or convert them")
    if codes.size and int(codes.max()) >> format.bits:
        raise BadInput(f"codes of {format} have {format.bits} bits", got=int(codes.max()), fix="mask or unpack them")
    m, top = format.mantissa_bits, (1 << (format.exponent_bits + format.mantissa_bits)) - 1
    wide = codes.astype(np.int32)
    magnitude = wide & top
    finite = np.minimum(magnitude, format.largest_code)
    field, mantissa = finite >> m, finite & ((1 << m) - 1)
    normal = field > 0 if format.subnormals else np.ones(field.shape, bool)
    significand = (mantissa + (normal << m)).astype(np.float32)
    # at most 15 significant bits above float32's smallest step: ldexp is exact
    value = np.ldexp(significand, np.where(normal, field, 1) - (format.bias + m))
    value = np.where(magnitude > format.largest_code, np.float32(np.nan), value)
    if format.infinities:
        value = np.where(magnitude == format.largest_code + 1, np.float32(np.inf), value)
    return np.asarray(np.where(wide > top, -value, value), np.float32)


def require_float32(x: np.ndarray) -> None:
    """Raise BadInput unless ``x`` is float32."""
    require_array("x", x, np.float32)


def _require_narrow(format: FloatFormat) -> None:
    require_kind("format", format, FloatFormat)
    if format.bits > 16:
        raise BadInput("arrays hold formats of at most 16 bits", got=format, fix="use numpy's own float32")
