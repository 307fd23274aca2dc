"""Block formats: small elements that share a scale (OCP microscaling and NVFP4).

MX (block of 32, E8M0 scale ``2**k``): ``k = clamp(e(amax) - emax, -127, 127)`` with ``emax`` the exponent of the
element format's largest value, ``e`` one of :class:`ScaleMode`; element = ``round(x / 2**k)`` in the element format,
from the exact quotient, saturating.

NVFP4 (block of 16, E2M1 elements, E4M3 scale, one float32 scale ``g`` for the whole tensor): with every operation
rounded to float32 once and in this order, ``s = E4M3(clamp((amax / 6) / g, 2**-6, 448))`` and element =
``E2M1(x * ((1 / g) / s))``, saturating. ``g`` defaults to ``max(amax of the tensor / 2688, 2**-118)`` so that block
scales use all of E4M3 (2688 = 448 * 6); ``g = 1`` is the one-level format.

Special values. A block with a NaN or an infinity has the scale NaN (code 255 of E8M0, 0x7F of E4M3) and element codes
0, so that all of it dequantizes to NaN; the tensor's default ``g`` ignores such values. A block of zeros has the
smallest scale (code 0 of E8M0, 2**-6 of E4M3) and signed zeros; MXINT8 has no negative zero. A tensor without a finite
nonzero value has ``g = 1``. MXINT8 codes are -127..127: -128 is decoded (to -2) and never produced. Only MXINT8 in
modes other than FLOOR can ask for ``k = 128``: it gets 127 and elements saturate.

Dequantizing MX is exact in float32 for finite results. Float32 cannot hold a value of 2**128 or more: it gives an
infinity. From finite float32 input that needs CEIL, EVEN or RCEIL and an element that rounds up to 2**128 (a block
whose largest value lies within rounding of float32's own). Float64 holds every value. An NVFP4 value has up to 30
significant bits: float32 gives ``f32(element * f32(g * s))``, float64 is exact.

Sources: OCP Microscaling Formats (MX) Specification 1.0, sections 5 and 6.3 (FLOOR); torchao 0.18 for the other modes
and the order of NVFP4's operations. Differences: microxcaling's default rounding "nearest" is half away from zero
(here ``Rounding.HALF_AWAY``), and it gives NaN where ``k`` exceeds 127; RCEIL here is the exact ceiling, torchao 0.18
rounds log2 to float32 first and can lie one exponent lower just above a power of two; it also divides by 2**-126 where
the scale is 2**-127.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import is_integer, require_array, require_integer, require_kind, require_shape
from simulator.arithmetic.block_formats import BlockFormat, FixedPoint, ScaleMode
from simulator.arithmetic.float_codes import decode, encode, require_float32
from simulator.arithmetic.float_formats import E4M3, FloatFormat, require_rounding
from simulator.arithmetic.granularity import PerGroup
from simulator.arithmetic.kernels import blockscale as kernels
from simulator.arithmetic.rounding import Rounding

SMALLEST_BLOCK_SCALE = np.float32(2.0**-6)
# inside these bounds 1 / g, (1 / g) / s and g * s are normal float32 numbers for every E4M3 scale s from 2**-6
GLOBAL_SCALE_RANGE = (np.float32(2.0**-118), np.float32(2.0**117))


@dataclass(frozen=True)
class BlockScaled:
    """A tensor in a block format: real value = ``global_scale * scale * element``.

    Attributes:
        codes: element codes, uint8 (one per byte, not packed), the tensor's shape.
        scales: scale codes, uint8, the tensor's shape with ``axis`` counting blocks.
        format: what the codes mean.
        axis: the axis that is cut into blocks (not negative).
        global_scale: float32, 1 in MX.
        saturated: how many elements rounded beyond the element format's largest value.

    Raises:
        BadInput: another type, dtype or shape in a field.
    """

    codes: np.ndarray
    scales: np.ndarray
    format: BlockFormat
    axis: int
    global_scale: np.float32 = np.float32(1)  # noqa: RUF009 - an immutable value
    saturated: int = 0

    def __post_init__(self) -> None:
        require_kind("format", self.format, BlockFormat)
        require_array("codes", self.codes, np.uint8)
        require_array("scales", self.scales, np.uint8)
        require_integer("axis", self.axis, 0, self.codes.ndim - 1)
        if not isinstance(self.global_scale, np.float32):
            raise BadInput("global_scale must be a float32", got=type(self.global_scale).__name__, fix="convert it")
        require_shape(
            "scales", self.scales, _groups(self.codes.ndim, self.axis, self.format).parameter_shape(self.codes.shape)
        )


def quantize(
    x: np.ndarray,
    format: BlockFormat,
    axis: int = -1,
    mode: ScaleMode | None = None,
    rounding: Rounding = Rounding.HALF_EVEN,
    global_scale: float | None = None,
) -> BlockScaled:
    """Quantize ``x`` in blocks along ``axis`` (rules and special values in the module's docstring).

    Args:
        x: float32, at least one element; the last block may be shorter.
        format: one of the named block formats.
        axis: the axis to cut; negative counts from the end.
        mode: shared exponent of MX, FLOOR by default; NVFP4 takes none.
        rounding: of elements, half to even or half away; NVFP4's scales round half to even.
        global_scale: NVFP4's scale of the whole tensor, from 2**-118 to 2**117; by default from its largest value.

    Returns:
        Element codes, scale codes and the count of saturated elements.

    Raises:
        BadInput: wrong dtype, no element, no such axis, a mode or global scale that the format does not take.
    """
    require_float32(x)
    require_rounding(rounding)
    require_kind("format", format, BlockFormat)
    axis = require_integer("axis", axis)
    if mode is not None:
        require_kind("mode", mode, ScaleMode)
    if x.size == 0 or not -x.ndim <= axis < x.ndim:
        raise BadInput(
            "x must have an element, and axis must be one of its axes",
            got=f"shape {x.shape}, axis {axis}",
            fix="choose an existing axis of a tensor that is not empty",
        )
    axis %= x.ndim
    if format.two_level:
        if mode is not None:
            raise BadInput(f"{format} has no shared exponent mode", got=mode, fix="leave mode out")
        return _quantize_two_level(x, format, axis, rounding, global_scale)
    if global_scale is not None:
        raise BadInput(f"{format} has no global scale", got=global_scale, fix="leave it out, or use NVFP4")
    mode = ScaleMode.FLOOR if mode is None else mode
    moved = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    rows = moved.reshape(-1, x.shape[axis])
    codes = np.empty(rows.shape, np.uint8)
    scales = np.empty((rows.shape[0], -(-rows.shape[1] // format.size)), np.uint8)
    form, emax = format.element.kernel_form(), format.element.emax
    saturated = kernels.encode_blocks(
        rows.view(np.int32),
        format.size,
        form,
        emax,
        _carry(format.element, mode),
        rounding is Rounding.HALF_EVEN,
        codes,
        scales,
    )

    def back(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(array.reshape(*moved.shape[:-1], -1), -1, axis))

    return BlockScaled(back(codes), back(scales), format, axis, np.float32(1), int(saturated))


def dequantize(quantized: BlockScaled, dtype: type[np.float32] | type[np.float64] = np.float32) -> np.ndarray:
    """Real values of a block-scaled tensor; where float32 is not exact, the module's docstring says.

    Args:
        quantized: codes and scales.
        dtype: float32, or float64 for the exact value always.

    Raises:
        BadInput: another type or dtype.
    """
    if not isinstance(dtype, type) or dtype not in (np.float32, np.float64):
        raise BadInput("dtype must be float32 or float64", got=dtype, fix="convert the result yourself")
    require_kind("quantized", quantized, BlockScaled)
    groups = _groups(quantized.codes.ndim, quantized.axis, quantized.format)
    scale = decode(quantized.scales, quantized.format.scale).astype(dtype) * np.asarray(quantized.global_scale, dtype)
    element = quantized.format.element
    if isinstance(element, FixedPoint):
        value = np.asarray(quantized.codes.view(np.int8) / np.float32(64), dtype)
    else:
        value = decode(quantized.codes, element).astype(dtype)
    with np.errstate(over="ignore"):  # an infinity where float32 ends is the stated result
        return np.asarray(value * groups.expand(scale, quantized.codes.shape))


def _quantize_two_level(
    x: np.ndarray, format: BlockFormat, axis: int, rounding: Rounding, global_scale: float | None
) -> BlockScaled:
    magnitude = np.abs(x)
    if global_scale is None:
        finite = np.max(magnitude, where=np.isfinite(magnitude), initial=0)
        g = max(finite / np.float32(2688), GLOBAL_SCALE_RANGE[0]) if finite > 0 else np.float32(1)
    else:
        if not (is_integer(global_scale) or isinstance(global_scale, float | np.floating)):
            raise BadInput("global_scale must be one number", got=repr(global_scale)[:60], fix="give a float32")
        with np.errstate(over="ignore", under="ignore"):
            g = np.float32(global_scale if abs(global_scale) < 2**128 else np.inf)
        if not GLOBAL_SCALE_RANGE[0] <= g <= GLOBAL_SCALE_RANGE[1]:
            raise BadInput("global_scale must lie in 2**-118..2**117", got=global_scale, fix="rescale the data")
    groups = _groups(x.ndim, axis, format)
    amax = groups.reduce(magnitude, np.maximum)
    broken = ~np.isfinite(amax)
    with np.errstate(over="ignore"):  # a block scale beyond float32 is clamped like any beyond 448
        wanted = np.where(broken, np.float32(0), amax) / np.float32(6) / g
    scales = encode(np.clip(wanted, SMALLEST_BLOCK_SCALE, np.float32(E4M3.max)), E4M3)
    reciprocal = (np.float32(1) / g) / decode(scales, E4M3)
    blank = groups.expand(broken, x.shape)
    # a product beyond float32 saturates as any large one does
    with np.errstate(over="ignore"):
        scaled = np.where(blank, np.float32(0), x) * groups.expand(reciprocal, x.shape)
    codes = np.empty(x.shape, np.uint8)
    saturated = kernels.encode_elementwise(
        np.ascontiguousarray(scaled).reshape(-1).view(np.int32),
        format.element.kernel_form(),
        rounding is Rounding.HALF_EVEN,
        codes.reshape(-1),
    )
    scales = np.where(broken, np.uint8(E4M3.nan_code), scales)
    return BlockScaled(codes, scales, format, axis, np.float32(g), int(saturated))


def _groups(rank: int, axis: int, format: BlockFormat) -> PerGroup:
    return PerGroup(axis, format.size, tuple(i for i in range(rank) if i != axis))


def _carry(element: FloatFormat | FixedPoint, mode: ScaleMode) -> int:
    """Smallest 23-bit mantissa of ``amax`` that raises the exponent by one: all that the modes differ in."""
    if mode is ScaleMode.CEIL:
        return 1
    if mode is ScaleMode.EVEN:
        return 2**23 - 2 ** (22 - element.mantissa_bits)
    if mode is ScaleMode.RCEIL:
        return int((element.max / 2.0**element.emax - 1) * 2**23) + 1
    return 2**23
