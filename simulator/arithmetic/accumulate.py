"""Integer matmul and convolution through a stated accumulator: integer codes in, integer sums out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Count, KOrder, ZeroPoint
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing, pair_sums, require_pairs
from simulator.arithmetic.register import register_sums


@dataclass(frozen=True)
class Accumulated:
    """Integer sums and what the register did to them.

    Attributes:
        values: int64.
        overflowed: what ``count`` asked for, None for Count.NONE.
    """

    values: np.ndarray
    overflowed: int | None


def integer_matmul(
    x: np.ndarray,
    w: np.ndarray,
    accumulator: Accumulator | PairAccumulator,
    *,
    x_zero: int = 0,
    w_zero: np.ndarray | int = 0,
    bias: np.ndarray | None = None,
    count: Count = Count.OUTPUTS,
) -> Accumulated:
    """``sum_k (x_mk - x_zero)(w_nk - w_zero_n) + bias_n`` in the accumulator.

    Args:
        x: integer codes (rows, depth), at most 16 bits.
        w: integer codes (outputs, depth), at most 16 bits.
        accumulator: the machine; a PairAccumulator takes uint8 ``x`` and int8 ``w`` only.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``, or one per output.
        bias: integers (outputs,), or None.
        count: what is counted of the register's losses. STEPS runs the general kernel.

    Returns:
        Values (rows, outputs). The EXACT accumulator gives the mathematical integer.

    Raises:
        BadInput: wrong dtypes or shapes, or a sum that could exceed int64.
    """
    _check_operands(x, w)
    return _matmul(x, w, accumulator, x_zero, w_zero, bias, count, x.shape[1])


def integer_conv2d(
    x: np.ndarray,
    w: np.ndarray,
    accumulator: Accumulator | PairAccumulator,
    *,
    x_zero: int = 0,
    w_zero: np.ndarray | int = 0,
    bias: np.ndarray | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    count: Count = Count.OUTPUTS,
) -> Accumulated:
    """Convolution through the accumulator; products in the order ``accumulator.k_order``, a padded tap holds x_zero.

    Args:
        x: integer codes (batch, height, width, channel).
        w: integer codes (outputs, channel, kernel height, kernel width).
        accumulator: the machine; a PairAccumulator takes uint8 ``x`` and int8 ``w`` only.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``, or one per output.
        bias: integers (outputs,), or None.
        stride: (height, width).
        padding: (height, width), on both sides.
        count: what is counted of the register's losses.

    Returns:
        Values (batch, out height, out width, outputs).

    Raises:
        BadInput: as :func:`integer_matmul`; ranks, channels, stride or padding that do not fit.
    """
    _check_codes(x, w)
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[1] or min(stride) < 1 or min(padding) < 0:
        raise BadInput(
            "x must be (batch, height, width, channel) and w (outputs, channel, height, width), stride at least 1",
            got=f"{x.shape}, {w.shape}, stride {stride}, padding {padding}",
            fix="permute the operands",
        )
    pad_h, pad_w = padding
    if max(padding) and not np.iinfo(x.dtype).min <= x_zero <= np.iinfo(x.dtype).max:
        raise BadInput("a padded tap must hold x_zero as a code of x", got=f"{x_zero} in {x.dtype}", fix="widen x")
    padded = np.pad(x, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0)), constant_values=x_zero)
    if padded.shape[1] < w.shape[2] or padded.shape[2] < w.shape[3]:
        raise BadInput("the padded image must hold the kernel", got=f"{padded.shape[1:3]}", fix="pad it")
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(1, 2))[:, :: stride[0], :: stride[1]]
    # windows: (batch, out height, out width, channel, kernel height, kernel width), channel-row-column as it is
    depth = w[0].size
    if isinstance(accumulator, PairAccumulator):
        channels_last = accumulator.pairing is Pairing.CHANNELS
    else:
        channels_last = accumulator.k_order is KOrder.ROW_COLUMN_CHANNEL
    if channels_last:
        windows, w = windows.transpose(0, 1, 2, 4, 5, 3), w.transpose(0, 2, 3, 1)
    shape = (*windows.shape[:3], len(w))
    if isinstance(accumulator, PairAccumulator):
        windows, w = _whole_pairs(windows, channels_last), _whole_pairs(w, channels_last)
    rows, columns = windows.reshape(int(np.prod(shape[:3])), -1), w.reshape(len(w), -1)
    _check_operands(rows, columns)
    found = _matmul(rows, columns, accumulator, x_zero, w_zero, bias, count, depth)
    return Accumulated(found.values.reshape(shape), found.overflowed)


def _whole_pairs(codes: np.ndarray, channels_last: bool) -> np.ndarray:
    """Pad the channels of every tap, or the taps of every channel, with a zero to an even number."""
    if not channels_last:
        codes = codes.reshape(*codes.shape[:-2], -1)
    return np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)])


def _matmul(
    x: np.ndarray, w: np.ndarray, accumulator: Accumulator | PairAccumulator, x_zero: int,
    w_zero: np.ndarray | int, bias: np.ndarray | None, count: Count, depth: int,
) -> Accumulated:  # fmt: skip
    """Checked operands (rows, k) and (outputs, k) with ``depth`` products; the rest of k is padded with zeros."""
    zeros = np.broadcast_to(np.asarray(w_zero, np.int64), (len(w),))
    offset = _check_bias(bias, len(w))
    _require_int64(x, w, x_zero, zeros, offset)
    if isinstance(accumulator, PairAccumulator):
        require_pairs(x, w)
        values, lost = pair_sums(x, w, count)
        values += offset
        inside = False
    else:
        inside = accumulator.zero_point is ZeroPoint.INSIDE
        entering = (x_zero, zeros) if inside else (0, np.zeros_like(zeros))
        left, right = np.ascontiguousarray(x), np.ascontiguousarray(w)
        values, lost = register_sums(left, right, *entering, offset, accumulator, count)
    if not inside:
        _subtract_zero_points(values, x, w, x_zero, zeros, depth)
    return Accumulated(values, None if count is Count.NONE else lost)


def _subtract_zero_points(
    values: np.ndarray, x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray, depth: int
) -> None:
    """Add ``depth zx zw_n - zx sum_k w_nk - zw_n sum_k x_mk`` in place."""
    values += depth * x_zero * w_zero - x_zero * w.sum(axis=1, dtype=np.int64)
    if w_zero.any():
        values -= np.multiply.outer(x.sum(axis=1, dtype=np.int64), w_zero)


def _check_codes(x: np.ndarray, w: np.ndarray) -> None:
    for name, codes in (("x", x), ("w", w)):
        if codes.dtype.kind not in "iu" or codes.dtype.itemsize > 2:
            raise BadInput(f"{name} must hold codes of at most 16 bits", got=codes.dtype, fix="quantize it first")


def _check_operands(x: np.ndarray, w: np.ndarray) -> None:
    _check_codes(x, w)
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise BadInput(
            "x must be (rows, depth) and w (outputs, depth)", got=f"{x.shape} and {w.shape}", fix="transpose w"
        )


def _check_bias(bias: np.ndarray | None, outputs: int) -> np.ndarray:
    if bias is None:
        return np.zeros(outputs, np.int64)
    if bias.dtype.kind not in "iu" or bias.shape != (outputs,):
        raise BadInput(
            f"bias must be integers of shape ({outputs},)", got=f"{bias.dtype} {bias.shape}", fix="quantize it first"
        )
    return bias.astype(np.int64)


def _require_int64(x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray, bias: np.ndarray) -> None:
    """Every partial sum of either form fits int64: from the dtypes' ranges, not from the data."""

    def largest(codes: np.ndarray, zero: int) -> int:
        info = np.iinfo(codes.dtype)
        return max(abs(int(info.max)), abs(int(info.min))) + abs(int(zero))

    zero = max((abs(int(z)) for z in w_zero), default=0)
    bound = x.shape[1] * largest(x, x_zero) * largest(w, zero) + max((abs(int(b)) for b in bias), default=0)
    if bound >= 2**62:
        raise BadInput("a sum must provably fit int64", got=f"up to {bound}", fix="split the contraction")
