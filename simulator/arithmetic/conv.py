"""Convolutions of integer codes through a stated accumulator: every window becomes a row of a matmul."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Count, KOrder, Overflow
from simulator.arithmetic.arguments import require_integer, require_kind
from simulator.arithmetic.exact import exact_conv, require_code_array, require_codes
from simulator.arithmetic.geometry import Geometry, require_geometry
from simulator.arithmetic.matmul import Accumulated, check_bias, multiply_rows, require_int64, require_machine
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing
from simulator.arithmetic.transposed import Stretched, flipped_kernel

WINDOW_CODES = 1 << 24
"""Codes of windows held in memory at once."""


def integer_conv(
    x: np.ndarray,
    w: np.ndarray,
    accumulator: Accumulator | PairAccumulator,
    geometry: Geometry | None = None,
    *,
    x_zero: int = 0,
    w_zero: np.ndarray | int = 0,
    bias: np.ndarray | None = None,
    count: Count = Count.OUTPUTS,
) -> Accumulated:
    """A 1-D, 2-D or 3-D convolution; products in the order ``accumulator.k_order``, a padded tap holds ``x_zero``.

    Args:
        x: integer codes (batch, spatial..., channel), at most 16 bits.
        w: integer codes (outputs, channels per group, spatial...), at most 16 bits.
        accumulator: the machine; a PairAccumulator takes uint8 ``x`` and int8 ``w`` only.
        geometry: stride, padding, dilation, groups; none of them by default.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``, or one per output.
        bias: integers (outputs,), or None.
        count: what is counted of the register's losses.

    Returns:
        Values (batch, output size..., outputs).

    Raises:
        BadInput: wrong dtypes or shapes, operands that do not fit the geometry, or a sum that could exceed int64.
    """
    require_machine(accumulator, count)
    zeros = require_codes(x, w, x_zero, w_zero, outputs_axis=0)
    geometry = require_geometry(geometry, x.ndim)
    _require_fit(x, w, geometry)
    offset = check_bias(bias, len(w))
    plain = isinstance(accumulator, Accumulator) and accumulator.overflow is Overflow.EXACT
    if plain:
        require_int64(x, w, int(x_zero), zeros, offset, w[0].size)
        values = exact_conv(x, w, geometry, x_zero, w_zero)
        return Accumulated(values + offset, None if count is Count.NONE else 0)
    outputs, share = len(w), len(w) // geometry.groups
    zeros = np.broadcast_to(zeros, (outputs,))
    size = geometry.output_size(x.shape[1:-1], w.shape[2:])
    out: np.ndarray = np.empty((len(x) * prod(size), outputs), np.int64)
    overflowed = 0
    for group in range(geometry.groups):
        part = slice(group * share, (group + 1) * share)
        weight = _in_order(w[part], accumulator, leading=1)
        for rows, window in _windows(x, w.shape[1:], geometry, group, x_zero):
            found = multiply_rows(
                _in_order(window, accumulator, leading=geometry.axes + 1), weight, accumulator, x_zero, zeros[part],
                offset[part], count, w[0].size,
            )  # fmt: skip
            out[rows, part], overflowed = found.values, overflowed + (found.overflowed or 0)
    return Accumulated(out.reshape(len(x), *size, outputs), None if count is Count.NONE else overflowed)


def integer_conv_transpose(
    x: np.ndarray,
    w: np.ndarray,
    accumulator: Accumulator | PairAccumulator,
    geometry: Geometry | None = None,
    *,
    output_padding: tuple[int, ...] | int = 0,
    x_zero: int = 0,
    w_zero: np.ndarray | int = 0,
    bias: np.ndarray | None = None,
    count: Count = Count.OUTPUTS,
) -> Accumulated:
    """A transposed convolution: the convolution of the zero-inserted image with the flipped kernel.

    ``stride - 1`` taps between pixels and those beyond the border hold ``x_zero``; they take their place in the order
    of summation like any other, so a saturating accumulator with a tree counts them.

    Args:
        x: integer codes (batch, spatial..., channel), at most 16 bits.
        w: integer codes (channels, outputs per group, spatial...), at most 16 bits: torch's layout.
        accumulator: the machine.
        geometry: that of the convolution whose gradient this is, as in ``torch.nn.ConvTranspose2d``.
        output_padding: elements added after each spatial axis of the output, fewer than stride or dilation.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``, or one per output.
        bias: integers (outputs,), or None.
        count: what is counted of the register's losses.

    Returns:
        Values (batch, output size..., outputs), output size ``(n - 1) stride - padding + dilation (kernel - 1) +
        output_padding + 1``.

    Raises:
        BadInput: as :func:`integer_conv`; an output of no element, or an output padding out of range.
    """
    for name, codes in (("x", x), ("w", w)):
        require_code_array(name, codes)
    geometry = require_geometry(geometry, x.ndim)
    require_integer("x_zero", x_zero, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    require_kind("output_padding", output_padding, (int, tuple))
    extra = (output_padding,) * geometry.axes if isinstance(output_padding, int) else output_padding
    for n in extra:
        require_integer("output_padding", n)
    if w.ndim < 3 or len(extra) != geometry.axes or len(w) % geometry.groups or x.ndim != geometry.axes + 2:
        raise BadInput(
            "x must be (batch, spatial..., channel) and w (channels, outputs per group, spatial...)",
            got=f"{x.shape}, {w.shape}, groups={geometry.groups}, output_padding={extra}",
            fix="permute the operands",
        )
    stretched = Stretched.of(x.shape[1:-1], w.shape[2:], geometry, extra)
    return integer_conv(
        stretched.image(x, x_zero), flipped_kernel(w, geometry.groups), accumulator, stretched.plain,
        x_zero=x_zero, w_zero=w_zero, bias=bias, count=count,
    )  # fmt: skip


def _require_fit(x: np.ndarray, w: np.ndarray, geometry: Geometry) -> None:
    groups = geometry.groups
    if x.ndim != geometry.axes + 2 or w.ndim != x.ndim or x.shape[-1] != w.shape[1] * groups or len(w) % groups:
        raise BadInput(
            f"x must be (batch, {geometry.axes} spatial axes, channel) and w (outputs, channels per group, spatial...)",
            got=f"{x.shape}, {w.shape}, groups={groups}",
            fix="permute the operands, or check groups",
        )


def _windows(
    x: np.ndarray, weight_shape: tuple[int, ...], geometry: Geometry, group: int, fill: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of the output and their windows (batch, output size..., channel, kernel...), a few at a time."""
    channels, *kernel = weight_shape
    spatial = tuple(range(1, geometry.axes + 1))
    part = x[..., group * channels : (group + 1) * channels]
    padded = np.pad(part, ((0, 0), *geometry.padding, (0, 0)), constant_values=fill)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(geometry.dilation, kernel, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=spatial)
    strides, dilations = ((slice(None, None, n) for n in numbers) for numbers in (geometry.stride, geometry.dilation))
    windows = windows[(slice(None), *strides, slice(None), *dilations)]
    pixels = prod(windows.shape[1 : geometry.axes + 1])
    batches = max(1, WINDOW_CODES // max(1, pixels * prod(weight_shape)))
    for first in range(0, len(x), batches):
        last = min(first + batches, len(x))
        yield slice(first * pixels, last * pixels), windows[first:last]


def _in_order(array: np.ndarray, accumulator: Accumulator | PairAccumulator, *, leading: int) -> np.ndarray:
    """(leading..., channel, kernel...) as rows of products in the accumulator's order.

    Pairs never straddle taps (or channels): an odd number of them is padded with a zero, which adds nothing.
    """
    if isinstance(accumulator, PairAccumulator):
        channels_last = accumulator.pairing is Pairing.CHANNELS
    else:
        channels_last = accumulator.k_order is KOrder.ROW_COLUMN_CHANNEL
    array = array.reshape(*array.shape[: leading + 1], -1)
    if channels_last:
        array = array.swapaxes(-1, -2)
    if isinstance(accumulator, PairAccumulator) and array.shape[-1] % 2:
        array = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, 1)])
    return array.reshape(prod(array.shape[:leading]), -1)
