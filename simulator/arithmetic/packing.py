"""Packing of int4 and int2 codes into stored bytes or words, and back.

``stored = (code + offset) mod 2**bits``, placed in the slot that the layout gives it; offset is 0 (two's complement for
signed codes), ``2**(bits-1)`` for signed codes of a biased layout, -1 for GPTQ's zero points. The layouts, with a
diagram each, are in :mod:`simulator.arithmetic.packed_layouts`. Both directions are exact inverses, use numpy alone and
pass over the codes once per slot. Words are in the machine's byte order (their meaning is that of the 32-bit value).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import is_integer, require_array, require_kind
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.packed_layouts import PackedLayout


def pack(codes: np.ndarray, layout: PackedLayout, fmt: IntFormat) -> np.ndarray:
    """Store codes in a layout.

    Args:
        codes: integer codes in ``fmt.dtype`` (int8 or uint8), one per element, any strides; the shape that ``layout``
            asks for. For :data:`~simulator.arithmetic.packed_layouts.GPTQ_ZEROS` the zero points, 1 to ``2**bits``.
        layout: one of :data:`~simulator.arithmetic.packed_layouts.LAYOUTS`.
        fmt: the codes' format; the layout must define it.

    Returns:
        uint8 or int32, C-contiguous, of the shape that the layout's docstring states.

    Raises:
        BadInput: a format that the layout does not define, another dtype, a code outside the format's range, a rank or
            length that does not fit.
    """
    require_kind("layout", layout, PackedLayout)
    require_kind("fmt", fmt, IntFormat)
    layout.check_format(fmt)
    require_array("codes", codes)
    if codes.dtype != fmt.dtype:
        raise BadInput(f"codes of {fmt} must be {fmt.dtype}", got=codes.dtype, fix=f"pass codes.astype({fmt.dtype})")
    plan = _plan(codes.shape, layout, fmt)
    low, high = _range(layout, fmt)
    if codes.size and not (low <= codes.min() and codes.max() <= high):
        raise BadInput(
            f"{layout.name} stores values from {low} to {high} for {fmt}",
            got=f"{codes.min()} to {codes.max()}",
            fix="saturate the codes first, or name their format",
        )
    if plan.padding:
        codes = np.append(codes.reshape(-1), np.zeros(plan.padding, codes.dtype))
    # one byte per code: adding the offset modulo 256 and masking is the same as modulo 2**bits
    fields = codes.reshape(plan.digits).view(np.uint8) + np.uint8(_offset(layout, fmt) % 256)
    fields &= np.uint8((1 << fmt.bits) - 1)
    fields = fields.transpose(plan.order)
    words = np.zeros(plan.digits_of_words, np.dtype(f"uint{layout.word_bits}"))
    for slot, shift in plan.shifts:
        words |= fields[slot].astype(words.dtype) << words.dtype.type(shift)
    words = words.reshape(plan.words)
    return words if layout.word_bits == 8 else words.view(np.int32)


def unpack(packed: np.ndarray, layout: PackedLayout, shape: tuple[int, ...], fmt: IntFormat) -> np.ndarray:
    """Codes of a stored array: the inverse of :func:`pack`.

    Args:
        packed: uint8 or int32, as :func:`pack` returns it.
        layout: the layout it was stored in.
        shape: the shape of the codes. Bits that pad the last word are ignored.
        fmt: the codes' format.

    Returns:
        Codes in ``fmt.dtype``, C-contiguous, of ``shape``.

    Raises:
        BadInput: a format that the layout does not define, another dtype, a stored shape that is not the one ``shape``
            packs to, a stored code that a narrow format lacks.
    """
    require_kind("layout", layout, PackedLayout)
    require_kind("fmt", fmt, IntFormat)
    layout.check_format(fmt)
    require_array("packed", packed)
    word = np.dtype(np.uint8 if layout.word_bits == 8 else np.int32)
    if packed.dtype != word:
        raise BadInput(f"{layout.name} is stored as {word}", got=packed.dtype, fix="pass the stored array unconverted")
    if not isinstance(shape, tuple) or not all(is_integer(n) and n >= 0 for n in shape):
        raise BadInput("a shape holds lengths of at least 0", got=shape, fix="pass the shape of the packed codes")
    plan = _plan(tuple(shape), layout, fmt)
    if packed.shape != plan.words:
        raise BadInput(
            f"codes of shape {tuple(shape)} in {fmt} are stored as {layout.name} in shape {plan.words}",
            got=packed.shape,
            fix="pass the shape of the codes that were packed",
        )
    words = packed.view(f"uint{layout.word_bits}").reshape(plan.digits_of_words)
    stored = np.empty(plan.digits, np.uint8)
    fields = stored.transpose(plan.order)
    mask = words.dtype.type((1 << fmt.bits) - 1)
    for slot, shift in plan.shifts:
        fields[slot] = (words >> words.dtype.type(shift)) & mask
    offset = _offset(layout, fmt)
    if fmt.signed and not offset:
        half = np.uint8(1 << (fmt.bits - 1))
        stored ^= half  # two's complement to biased, so that one subtraction serves both
        offset = int(half)
    stored -= np.uint8(offset % 256)
    codes = stored.view(fmt.dtype).reshape(-1)[: math.prod(shape)].reshape(shape)
    if fmt.narrow and codes.size and codes.min() < fmt.qmin:
        raise BadInput(f"{fmt} has no code below {fmt.qmin}", got=codes.min(), fix="unpack without narrow")
    return codes


def _offset(layout: PackedLayout, fmt: IntFormat) -> int:
    """What is added to a code before it is stored."""
    return (1 << (fmt.bits - 1)) * (layout.biased and fmt.signed) - int(layout.minus_one)


def _range(layout: PackedLayout, fmt: IntFormat) -> tuple[int, int]:
    """Smallest and largest value that can be stored."""
    return fmt.qmin + int(layout.minus_one), fmt.qmax + int(layout.minus_one)


@dataclass(frozen=True)
class _Plan:
    """A layout applied to one shape."""

    digits: tuple[int, ...]
    """Shape of the codes with every axis split into its digits (padding included)."""
    order: tuple[int, ...]
    """Transposition of ``digits`` that puts the digits of words first and those of slots last."""
    digits_of_words: tuple[int, ...]
    words: tuple[int, ...]
    shifts: list[tuple[tuple[Any, ...], int]]
    """For each slot its index into the transposed digits and the position of its lowest bit."""
    padding: int


def _plan(shape: tuple[int, ...], layout: PackedLayout, fmt: IntFormat) -> _Plan:
    rank = len(shape)
    flat = len(layout.codes) == 1
    if not flat and (rank == 0 or (not layout.leading and rank != len(layout.codes))):
        wanted = "at least 1" if layout.leading else str(len(layout.codes))
        raise BadInput(f"{layout.name} packs codes of rank {wanted}", got=f"shape {shape}", fix="reshape the codes")
    merged = (math.prod(shape),) if flat else (math.prod(shape[:-1]), shape[-1]) if layout.leading else shape
    size = layout.digit_sizes(fmt.bits)
    padding = 0
    for at, (axis, length) in enumerate(zip(layout.codes, merged, strict=True)):
        unit = math.prod(size[digit] for digit in axis[1:])
        if layout.pads:
            padding = -length % unit
        elif length % unit:
            raise BadInput(
                f"{layout.name} packs {fmt} in units of {unit} along axis {rank - len(merged) + at}",
                got=f"length {length} in shape {shape}",
                fix="pad the codes, and cut them after unpacking",
            )
        size[axis[0]] = (length + padding) // unit
    given, stored = "".join(layout.codes), "".join((*layout.words, layout.slot))
    words = tuple(math.prod(size[digit] for digit in axis) for axis in layout.words)
    slots = list(np.ndindex(*(size[digit] for digit in layout.slot)))
    return _Plan(
        digits=tuple(size[digit] for digit in given),
        order=tuple(given.index(digit) for digit in stored),
        digits_of_words=tuple(size[digit] for digit in "".join(layout.words)),
        words=(*shape[:-1], words[-1]) if layout.leading else words,
        shifts=[((..., *slot), fmt.bits * i) for i, slot in enumerate(slots[::-1] if layout.high_first else slots)],
        padding=padding,
    )
