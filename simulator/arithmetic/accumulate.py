"""Integer matmul and convolution through a stated accumulator: integer codes in, integer sums out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Bias, KOrder, Overflow, ZeroPoint
from simulator.arithmetic.kernels import accumulate as kernels


@dataclass(frozen=True)
class Accumulated:
    """Integer sums and what the register did to them.

    Attributes:
        values: int64.
        overflowed: outputs that wrapped (their exact sum does not fit) or saturated at least once.
    """

    values: np.ndarray
    overflowed: int


def integer_matmul(
    x: np.ndarray,
    w: np.ndarray,
    accumulator: Accumulator,
    *,
    x_zero: int = 0,
    w_zero: np.ndarray | int = 0,
    bias: np.ndarray | None = None,
) -> Accumulated:
    """``sum_k (x_mk - x_zero)(w_nk - w_zero_n) + bias_n`` in the accumulator.

    Args:
        x: integer codes (rows, depth), at most 16 bits.
        w: integer codes (outputs, depth), at most 16 bits.
        accumulator: the machine.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``, or one per output.
        bias: integers (outputs,), or None.

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
    nothing = np.zeros(outputs, np.int64)
    out = np.empty((len(x), outputs), np.int64)
    count = kernels.accumulate(
        np.ascontiguousarray(x),
        np.ascontiguousarray(w),
        x_zero if inside else 0,
        zeros.copy() if inside else nothing,
        accumulator.tree,
        accumulator.overflow.value,
        accumulator.smallest,
        accumulator.largest,
        offset if accumulator.bias is Bias.FIRST else nothing,
        offset if accumulator.bias is Bias.LAST else nothing,
        out,
    )
    if accumulator.overflow is Overflow.WRAP:
        wrapped = _wrap(out, accumulator.bits)
        count, out = int((wrapped != out).sum()), wrapped
    if not inside:
        x_sum, w_sum = x.sum(axis=1, dtype=np.int64), w.sum(axis=1, dtype=np.int64)
        out += x.shape[1] * x_zero * zeros - x_zero * w_sum - np.multiply.outer(x_sum, zeros)
    return Accumulated(out, int(count))


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
    found = integer_matmul(rows, columns, accumulator, x_zero=x_zero, w_zero=w_zero, bias=bias)
    return Accumulated(found.values.reshape(*windows.shape[:3], len(w)), found.overflowed)


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
