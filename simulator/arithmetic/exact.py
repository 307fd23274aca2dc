"""Exact sums of products of integer codes of up to 16 bits, at the speed of the byte tile.

A 16-bit code is two bytes, ``x - zx = 256 (x_hi - zx_hi) + (x_lo - zx_lo)``, and a contraction is linear in each
operand, so a pair of wide operands is at most four contractions of bytes, added in int64 with their powers of 256. A
depth at which bytes could exceed int32 (above 33 024) is summed in groups, added in int64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic import contract
from simulator.arithmetic.arguments import require_array, require_integer, require_kind
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.operands import Activation, pad
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.arithmetic.weights import pack_matrices, prepare_weight

_PER_OUTPUT = QuantSpec(IntFormat(8), PerAxis((0,)))
_ONE = np.ones((1, 1), np.float32)


@dataclass(frozen=True)
class _Plane:
    """One byte of every code: ``factor * (codes - zero)``. ``zero`` is int32, (1,) or one per output."""

    codes: np.ndarray
    zero: np.ndarray
    factor: int


def exact_matmul(x: np.ndarray, w: np.ndarray, x_zero: int = 0, w_zero: np.ndarray | int = 0) -> np.ndarray:
    """``sum_k (x_mk - x_zero)(w_nk - w_zero_n)``, the mathematical integer.

    Args:
        x: integer codes (batch..., rows, depth), at most 16 bits.
        w: integer codes (outputs, depth), or (batch..., outputs, depth) with the leading axes of ``x``.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``, or one per output.

    Returns:
        (batch..., rows, outputs), int32 where both types have 8 bits and the depth proves that it fits, else int64.

    Raises:
        BadInput: wrong dtypes or shapes, an empty contraction, or a zero point that is no code of its type.
    """
    zeros = require_codes(x, w, x_zero, w_zero, outputs_axis=-2)
    if x.ndim < 2 or x.shape[-1] != w.shape[-1] or w.shape[:-2] not in ((), x.shape[:-2]):
        raise BadInput(
            "x must be (batch..., rows, depth) and w (outputs, depth) or (batch..., outputs, depth)",
            got=f"{x.shape} and {w.shape}",
            fix="transpose w, or broadcast it",
        )
    matrices = w.reshape(-1, *w.shape[-2:])
    shape = (1, len(matrices) * w.shape[-2])

    def terms() -> Iterator[tuple[int, np.ndarray]]:
        for right in _right_planes(matrices, zeros):
            zero = np.broadcast_to(right.zero, matrices.shape[:2]).reshape(shape)
            weight = pack_matrices(right.codes, np.ones(shape, np.float32), zero, 255, group_size=_safe_depth())
            multiply = contract.linear_sums if w.ndim == 2 else contract.batched_sums
            for left in _left_planes(x, x_zero):
                yield left.factor * right.factor, multiply(_activation(left), weight)

    return _added(terms())


def exact_conv(
    x: np.ndarray, w: np.ndarray, geometry: Geometry, x_zero: int = 0, w_zero: np.ndarray | int = 0
) -> np.ndarray:
    """Convolution of codes, the mathematical integer; a padded tap holds ``x_zero``.

    Args:
        x: integer codes (batch, spatial..., channel), at most 16 bits.
        w: integer codes (outputs, channels per group, spatial...), at most 16 bits.
        geometry: stride, padding, dilation, groups.
        x_zero: zero point of ``x``.
        w_zero: zero point of ``w``, or one per output.

    Returns:
        (batch, output size..., outputs), int32 where both types have 8 bits and the depth proves that it fits, else
        int64.

    Raises:
        BadInput: wrong dtypes or shapes, an empty contraction, or a zero point that is no code of its type.
    """
    zeros = require_codes(x, w, x_zero, w_zero, outputs_axis=0)
    require_kind("geometry", geometry, Geometry)
    taps = prod(w.shape[2:])
    if taps > _safe_depth():
        raise BadInput("a kernel must have at most 33024 taps", got=taps, fix="split it")

    def terms() -> Iterator[tuple[int, np.ndarray]]:
        images = [(left.factor, pad(_activation(left), geometry)) for left in _left_planes(x, x_zero)]
        for right in _right_planes(w, zeros):
            zero = np.broadcast_to(right.zero, w.shape[:1]).reshape(-1, *(1,) * (w.ndim - 1))
            quantized = Quantized(right.codes, np.ones(zero.shape, np.float32), zero, _PER_OUTPUT)
            weight = prepare_weight(quantized, parts=geometry.groups, group_size=_safe_depth() // taps)
            for factor, image in images:
                yield factor * right.factor, contract.conv_sums(image, weight, geometry)

    return _added(terms())


def require_codes(
    x: np.ndarray, w: np.ndarray, x_zero: int, w_zero: np.ndarray | int, *, outputs_axis: int
) -> np.ndarray:
    """Check two operands; returns the zero points of ``w`` as int64, () or one per output.

    Raises:
        BadInput: an operand that does not hold codes of at most 16 bits or is empty along ``w`` or the depth, a zero
            point that is no code of its operand's type, or another number of them than outputs.
    """
    for name, codes, least in (("x", x, 1), ("w", w, 2)):
        require_code_array(name, codes)
        if codes.ndim < least:
            raise BadInput(f"{name} must have at least {least} axes", got=codes.shape, fix="reshape it")
    if not isinstance(w_zero, np.ndarray):
        require_integer("w_zero", w_zero)
    require_integer("x_zero", x_zero)
    zeros = np.asarray(w_zero)
    outputs = w.shape[outputs_axis]
    if not w.size or not x.shape[-1] or zeros.dtype.kind not in "iu" or zeros.shape not in ((), (outputs,)):
        raise BadInput(
            f"a contraction must not be empty, and w_zero must be an integer or {outputs} of them",
            got=f"{x.shape}, {w.shape}, w_zero {zeros.dtype} {zeros.shape}",
            fix="give one zero point per output",
        )
    for name, codes, zero in (("x_zero", x, np.asarray(x_zero)), ("w_zero", w, zeros)):
        least, most = limits(codes.dtype)
        if zero.dtype.kind not in "iu" or int(zero.min()) < least or int(zero.max()) > most:
            raise BadInput(f"{name} must be a code of its operand's type {codes.dtype}", got=zero, fix="check it")
    return zeros.astype(np.int64)


@lru_cache
def limits(dtype: np.dtype) -> tuple[int, int]:
    """Smallest and largest integer of a type."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def require_code_array(name: str, codes: np.ndarray) -> None:
    """Raise BadInput unless ``codes`` is an array of codes of at most 16 bits."""
    require_array(f"{name}, codes,", codes)
    if codes.dtype.kind not in "iu" or codes.dtype.itemsize > 2:
        raise BadInput(f"{name} must be an array of codes of at most 16 bits", got=codes.dtype, fix="quantize it first")


def _safe_depth() -> int:
    """Products of bytes, each at most 255 * 255, that int32 holds; a multiple of the tile's step."""
    return (2**31 - 1) // (255 * 255) // 4 * 4


def _activation(plane: _Plane) -> Activation:
    return Activation(np.ascontiguousarray(plane.codes), plane.zero.reshape(1, 1), _ONE, 255)


def _left_planes(x: np.ndarray, zero: np.ndarray | int) -> list[_Plane]:
    """Bytes of codes and zero point, moved together until both are unsigned; the low byte first."""
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    shift = -limits(x.dtype)[0]
    codes, zeros = x.view(unsigned) ^ unsigned.type(shift), np.atleast_1d(zero) + shift
    if unsigned.itemsize == 1:
        return [_Plane(codes, zeros.astype(np.int32), 1)]
    low, high = codes.astype(np.uint8), (codes >> 8).astype(np.uint8)
    return [_Plane(low, (zeros & 255).astype(np.int32), 1), _Plane(high, (zeros >> 8).astype(np.int32), 256)]


def _right_planes(w: np.ndarray, zero: np.ndarray) -> list[_Plane]:
    """Bytes of codes and zero points, moved together until both are signed."""
    planes = _left_planes(w, zero)
    return [_Plane((p.codes ^ np.uint8(128)).view(np.int8), p.zero - np.int32(128), p.factor) for p in planes]


def _added(terms: Iterator[tuple[int, np.ndarray]]) -> np.ndarray:
    """The sum of ``factor * sums`` over terms and over each term's groups (its first axis)."""
    _, first = next(terms)
    second = next(terms, None)
    if second is None and len(first) == 1:
        return first[0]
    total = first.sum(axis=0, dtype=np.int64)
    while second is not None:
        factor, sums = second
        total += factor * sums.sum(axis=0, dtype=np.int64)
        second = next(terms, None)
    return total
