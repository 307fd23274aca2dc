"""Integer matmul and convolution through a stated accumulator: integer codes in, integer sums out.

Which kernel runs changes no bit. A certificate that excludes overflow (``max|x - zx| sum_k |w_nk - zw_n| + |bias_n|``
within the register, from the extremes of the operands as given) leads to exact sums; a saturating register that lanes
may hold (see ``saturating``) to vector lanes; everything else to the general kernel, product by product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Bias, Count, KOrder, Overflow, ZeroPoint
from simulator.arithmetic.kernels import accumulate as kernels
from simulator.arithmetic.saturating import lanes_for, saturating_sums


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
    accumulator: Accumulator,
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
        accumulator: the machine.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``, or one per output.
        bias: integers (outputs,), or None.
        count: what is counted of the register's losses. STEPS runs the general kernel.

    Returns:
        Values (rows, outputs). The EXACT accumulator gives the mathematical integer.

    Raises:
        BadInput: wrong dtypes or shapes, or a sum that could exceed int64.
    """
    outputs = _check_operands(x, w)
    zeros = np.broadcast_to(np.asarray(w_zero, np.int64), (outputs,))
    offset = _check_bias(bias, outputs)
    _require_int64(x, w, x_zero, zeros, offset)
    inside = accumulator.zero_point is ZeroPoint.INSIDE
    entering = (x_zero, zeros) if inside else (0, np.zeros_like(zeros))
    values, lost = _register(np.ascontiguousarray(x), np.ascontiguousarray(w), *entering, offset, accumulator, count)
    if not inside:
        _subtract_zero_points(values, x, w, x_zero, zeros)
    return Accumulated(values, None if count is Count.NONE else lost)


def integer_conv2d(
    x: np.ndarray,
    w: np.ndarray,
    accumulator: Accumulator,
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
        accumulator: the machine.
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
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[1] or min(stride) < 1 or min(padding) < 0:
        raise BadInput(
            "x must be (batch, height, width, channel) and w (outputs, channel, height, width), stride at least 1",
            got=f"{x.shape}, {w.shape}, stride {stride}, padding {padding}",
            fix="permute the operands",
        )
    pad_h, pad_w = padding
    padded = np.pad(x, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0)), constant_values=x_zero)
    if padded.shape[1] < w.shape[2] or padded.shape[2] < w.shape[3]:
        raise BadInput("the padded image must hold the kernel", got=f"{padded.shape[1:3]}", fix="pad it")
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(1, 2))[:, :: stride[0], :: stride[1]]
    # windows: (batch, out height, out width, channel, kernel height, kernel width), channel-row-column as it is
    if accumulator.k_order is KOrder.ROW_COLUMN_CHANNEL:
        windows, w = windows.transpose(0, 1, 2, 4, 5, 3), w.transpose(0, 2, 3, 1)
    rows, columns = windows.reshape(-1, w[0].size), w.reshape(len(w), -1)
    found = integer_matmul(rows, columns, accumulator, x_zero=x_zero, w_zero=w_zero, bias=bias, count=count)
    return Accumulated(found.values.reshape(*windows.shape[:3], len(w)), found.overflowed)


def _register(
    x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray, bias: np.ndarray, accumulator: Accumulator,
    count: Count,
) -> tuple[np.ndarray, int]:  # fmt: skip
    """What the register holds at the end, and what ``count`` asks for (any number for NONE): the choice of a path."""
    overflow, depth = accumulator.overflow, x.shape[1]
    left = _farthest(x, np.asarray(x_zero))
    exact = overflow is Overflow.EXACT
    if exact or _largest_sum(left, w, w_zero, bias, accumulator.largest) <= accumulator.largest:
        return exact_sums(x, w, x_zero, w_zero) + bias, 0
    if overflow is Overflow.WRAP and count is not Count.STEPS:
        sums = exact_sums(x, w, x_zero, w_zero) + bias
        wrapped = _wrap(sums, accumulator.bits)
        return wrapped, int((wrapped != sums).sum())
    if overflow is Overflow.SATURATE and count is not Count.STEPS and depth and len(w):
        largest = max(left, 1) * max(_farthest(w, w_zero[:, None]), 1)
        lanes = lanes_for(accumulator, largest, depth, count)
        if lanes:
            return saturating_sums(x, w, x_zero, w_zero, bias, accumulator, lanes)
    return _step_by_step(x, w, x_zero, w_zero, bias, accumulator, count)


def exact_sums(x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray) -> np.ndarray:
    """``sum_k (x_mk - x_zero)(w_nk - w_zero_n)`` as int64 (rows, outputs), for C-contiguous codes."""
    return _step_by_step(x, w, x_zero, w_zero, np.zeros(len(w), np.int64), Accumulator(), Count.NONE)[0]


def _step_by_step(
    x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray, bias: np.ndarray, accumulator: Accumulator,
    count: Count,
) -> tuple[np.ndarray, int]:  # fmt: skip
    """The general kernel: any accumulator, any operands."""
    nothing = np.zeros_like(bias)
    first = accumulator.bias is Bias.FIRST
    out = np.empty((len(x), len(w)), np.int64)
    lost = kernels.accumulate(
        x, w, x_zero, w_zero.copy(), accumulator.tree, accumulator.overflow.value, accumulator.smallest,
        accumulator.largest, bias if first else nothing, nothing if first else bias, count is Count.STEPS, out,
    )  # fmt: skip
    return out, int(lost)


def _farthest(codes: np.ndarray, zero: np.ndarray) -> int:
    """Largest ``|code - zero|``; ``zero`` a scalar, or (outputs, 1)."""
    if not codes.size:
        return 0
    axis = zero.ndim - 1 if zero.ndim else None
    ends = (codes.max(axis, keepdims=True).astype(np.int64), codes.min(axis, keepdims=True).astype(np.int64))
    return max(int(np.abs(end - zero).max()) for end in ends)


def _largest_sum(left: int, w: np.ndarray, w_zero: np.ndarray, bias: np.ndarray, limit: int) -> int:
    """A bound of every partial sum, bias included: rough where that is within ``limit``, else output by output."""
    rough = left * w.shape[1] * _farthest(w, w_zero[:, None]) + int(np.abs(bias).max(initial=0))
    if rough <= limit:
        return rough
    sums = np.empty(len(w), np.int64)
    kernels.absolute_sums(w, w_zero.copy(), sums)
    return int((left * sums + np.abs(bias)).max(initial=0))


def _subtract_zero_points(values: np.ndarray, x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray) -> None:
    """Add ``K zx zw_n - zx sum_k w_nk - zw_n sum_k x_mk`` in place."""
    values += x.shape[1] * x_zero * w_zero - x_zero * w.sum(axis=1, dtype=np.int64)
    if w_zero.any():
        values -= np.multiply.outer(x.sum(axis=1, dtype=np.int64), w_zero)


def _wrap(values: np.ndarray, bits: int) -> np.ndarray:
    """The low ``bits`` bits of int64, as two's complement."""
    shift = 64 - bits
    return (values << shift) >> shift


def _check_operands(x: np.ndarray, w: np.ndarray) -> int:
    for name, codes in (("x", x), ("w", w)):
        if codes.dtype.kind not in "iu" or codes.dtype.itemsize > 2:
            raise BadInput(f"{name} must hold codes of at most 16 bits", got=codes.dtype, fix="quantize it first")
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1]:
        raise BadInput(
            "x must be (rows, depth) and w (outputs, depth)", got=f"{x.shape} and {w.shape}", fix="transpose w"
        )
    return len(w)


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
