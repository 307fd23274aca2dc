"""One block at a time, in exact rationals: the normative form of ``simulator.arithmetic.blockscale``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from simulator.arithmetic.block_formats import BlockFormat, FixedPoint, ScaleMode
from simulator.arithmetic.float_formats import E4M3, FLOAT32, TWO, FloatFormat, floor_log2
from simulator.arithmetic.rounding import Rounding, round_exact


def shared_exponent_exact(
    amax: float | Fraction, element: FloatFormat | FixedPoint, mode: ScaleMode = ScaleMode.FLOOR
) -> int:
    """Exponent ``k`` of an MX block whose largest magnitude is ``amax``: the normative form.

    >>> [shared_exponent_exact(7.0, E2M1, mode) for mode in ScaleMode]
    [0, 1, 1, 1]
    """
    magnitude = Fraction(amax)
    if magnitude == 0:
        return -127
    floor = floor_log2(magnitude)
    if mode is ScaleMode.RCEIL:
        ratio = magnitude / Fraction(element.max)
        k = floor_log2(ratio)
        k += int(ratio > TWO**k)
    elif mode is ScaleMode.CEIL:
        k = floor + int(magnitude > TWO**floor) - element.emax
    elif mode is ScaleMode.EVEN:
        step = TWO ** (floor - element.mantissa_bits)
        k = floor_log2(round_exact(magnitude / step, Rounding.HALF_EVEN) * step) - element.emax
    else:
        k = floor - element.emax
    return min(max(k, -127), 127)


def quantize_block_exact(
    block: Sequence[float],
    format: BlockFormat,
    mode: ScaleMode = ScaleMode.FLOOR,
    rounding: Rounding = Rounding.HALF_EVEN,
    global_scale: float = 1.0,
) -> tuple[int, list[int]]:
    """Scale code and element codes of one block: the normative form of ``blockscale.quantize``.

    >>> quantize_block_exact([6.0, 1.25, -0.3, 7.0], MXFP4)
    (127, [7, 2, 9, 7])
    """
    values = [float(v) for v in block]
    if not np.all(np.isfinite(values)):
        return format.scale.nan_code, [0] * len(values)
    amax = max(Fraction(abs(v)) for v in values)
    if not format.two_level:
        k = shared_exponent_exact(amax, format.element, mode)
        scaled = [_scaled(v, TWO**-k, as_float32=False) for v in values]
        return k + 127, [format.element.encode_exact(v, rounding) for v in scaled]
    g = Fraction(global_scale)
    wanted = _to_float32(_to_float32(amax / 6) / g)
    scale_code = E4M3.encode_exact(min(max(wanted, Fraction(1, 64)), Fraction(448)))
    reciprocal = _to_float32(_to_float32(1 / g) / Fraction(E4M3.decode_exact(scale_code)))
    scaled = [_scaled(v, reciprocal, as_float32=True) for v in values]
    return scale_code, [format.element.encode_exact(v, rounding) for v in scaled]


def _to_float32(value: Fraction) -> Fraction:
    """Nearest float32, ties to even. A block's scale and its elements never need an infinity before they are clamped.

    Values beyond float32 stay as they are: the clamp or the saturation that follows gives the same code.
    """
    code = FLOAT32.encode_exact(value)
    rounded = FLOAT32.decode_exact(code)
    return Fraction(rounded) if math.isfinite(rounded) else value


def _scaled(value: float, factor: Fraction, *, as_float32: bool) -> float | Fraction:
    """``value * factor``; a zero keeps its sign, which a Fraction has not."""
    if value == 0:
        return value
    product = Fraction(value) * factor
    if not as_float32:
        return product
    rounded = _to_float32(product)
    return rounded if rounded else math.copysign(0.0, value)
