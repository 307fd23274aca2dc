"""Sums of int16 pair products in int32 lanes, as one LLVM loop for each block of registers.

A lane takes two products at once: ``sum += x[k] w[k] + x[k+1] w[k+1]``, int32 modulo 2**32. That is ``vpmaddwd`` and an
addition on x86 (its only overflow, ``2 * (-32768)**2``, wraps to the right residue). The left operand is a pair
broadcast to all lanes, the right one a vector of pairs of adjacent columns. Bytes take this way widened to int16.

:class:`Pairs` states the vectors of one CPU as a value; :func:`accumulate` writes the loop for it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from simulator.arithmetic.kernels.accelerate import kernel

ROWS, COLUMNS, DEPTH = 8, 32, 4
PAIRS = DEPTH // 2

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


Products = Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]
"""Writes ``x[2i] w[2i] + x[2i+1] w[2i+1]`` into int32 lane i, given two vectors of int16."""


def instruction(name: str) -> Products:
    """The pair product as one named LLVM intrinsic."""

    def products(builder: ir.IRBuilder, x: ir.Value, w: ir.Value) -> ir.Value:
        signature = ir.FunctionType(ir.VectorType(I32, x.type.count // 2), [x.type, w.type])
        return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [x, w])

    return products


def neighbours_added(builder: ir.IRBuilder, x: ir.Value, w: ir.Value) -> ir.Value:
    """Widen, multiply, add neighbours: the form in which LLVM finds ``pmaddwd`` on any x86."""
    wide = ir.VectorType(I32, x.type.count)
    products = builder.mul(builder.sext(x, wide), builder.sext(w, wide))
    return builder.add(_every_second(builder, products, 0), _every_second(builder, products, 1))


def halves_multiplied(builder: ir.IRBuilder, x: ir.Value, w: ir.Value) -> ir.Value:
    """Separate even from odd words, widen, multiply, add: the form in which LLVM finds Arm's ``smlal``."""
    lanes = ir.VectorType(I32, x.type.count // 2)
    even, odd = (
        builder.mul(*(builder.sext(_every_second(builder, words, first), lanes) for words in (x, w)))
        for first in (0, 1)
    )
    return builder.add(even, odd)


def _every_second(builder: ir.IRBuilder, vector: ir.Value, first: int) -> ir.Value:
    places = list(range(first, vector.type.count, 2))
    chosen = ir.Constant(ir.VectorType(I32, len(places)), places)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), chosen)


@dataclass(frozen=True)
class Pairs:
    """How a CPU adds pair products.

    Attributes:
        lanes: int32 lanes of a vector.
        rows, vectors: the block of ``rows * vectors`` sums that stays in registers; both divide the tile.
        products: writes the pair product.
    """

    lanes: int
    rows: int
    vectors: int
    products: Products


X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")

AVX512 = Pairs(16, 8, 2, instruction("llvm.x86.avx512.pmaddw.d.512"))
AVX2 = Pairs(8, 4, 2, instruction("llvm.x86.avx2.pmadd.wd"))
GENERIC = Pairs(8, 4, 2, neighbours_added if X86 else halves_multiplied)


@kernel
def pack(codes, out):
    """(N, K) codes into (column blocks, K/4 steps, 2 pairs, 32 columns, 2) int16 order, zero padded.

    ``out`` may have any integer dtype; its bytes are taken as int16.
    """
    columns, depth = codes.shape
    words = out.reshape(-1).view(np.int16)
    words[:] = 0
    steps = -(-depth // DEPTH)
    for n in range(columns):
        first = n // COLUMNS * steps * DEPTH * COLUMNS + n % COLUMNS * 2
        for k in range(depth):
            words[first + k // 2 * (2 * COLUMNS) + k % 2] = codes[n, k]


def tile_plain(a, start, stride, packed, block, first, steps, acc):
    """``acc[r, n] = sum_k a[start + r*stride + k] * packed[block, step, pair, n, k%2]`` modulo 2**32, k < 4*steps.

    ``step = first + k//4``, ``pair = k%4//2``; ``start`` and ``stride`` in elements of ``a``.
    """
    flat = a.reshape(-1)
    right = packed[block, first : first + steps].reshape(-1).view(np.int16).reshape(PAIRS * steps, COLUMNS, 2)
    for r in range(ROWS):
        x = flat[start + r * stride : start + r * stride + DEPTH * steps].astype(np.int64)
        sums = np.zeros(COLUMNS, np.int64)
        for k in range(DEPTH * steps):
            sums += x[k] * right[k // 2, :, k % 2]
        acc[r] = sums.astype(np.int32)


def element(builder: ir.IRBuilder, pointer: ir.Value, *offset: ir.Value | int) -> ir.Value:
    """Address of an element; integers become 64-bit constants."""
    for part in offset:
        pointer = builder.gep(pointer, [ir.Constant(I64, part) if isinstance(part, int) else part])
    return pointer


def load(builder: ir.IRBuilder, pointer: ir.Value, kind: ir.Type, align: int) -> ir.Value:
    """Load a value of another type than the pointer's."""
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=align)


def right_start(builder: ir.IRBuilder, packed: ir.Value, block: ir.Value, first: ir.Value) -> ir.Value:
    """Address of the packed operand's first word at a column block and tile step."""
    blocks_stride = cgutils.unpack_tuple(builder, packed.shape)[1]
    step = builder.add(builder.mul(block, blocks_stride), first)
    words = builder.bitcast(packed.data, I16.as_pointer())
    return element(builder, words, builder.mul(step, ir.Constant(I64, COLUMNS * DEPTH)))


def clear(builder: ir.IRBuilder, sums: ir.Value) -> None:
    """Set the tile of sums to 0."""
    cgutils.memset(builder, sums, ir.Constant(I64, ROWS * COLUMNS * 4), 0)


def accumulate(
    builder: ir.IRBuilder,
    how: Pairs,
    left: ir.Value,
    stride: ir.Value,
    right: ir.Value,
    steps: ir.Value,
    sums: ir.Value,
) -> None:
    """Add ``steps >= 1`` tile steps to the tile of sums at ``sums`` (int32, row after row).

    ``left`` is the address of the first row's int16 words, ``stride`` the words between rows, ``right``
    the packed words.
    """
    for row in range(0, ROWS, how.rows):
        for column in range(0, COLUMNS, how.lanes * how.vectors):
            rows = [element(builder, left, builder.mul(stride, ir.Constant(I64, row + r))) for r in range(how.rows)]
            _block(
                builder,
                how,
                rows,
                element(builder, right, 2 * column),
                steps,
                element(builder, sums, row * COLUMNS + column),
            )


def _block(
    builder: ir.IRBuilder, how: Pairs, rows: list[ir.Value], right: ir.Value, steps: ir.Value, sums: ir.Value
) -> None:
    lanes, vectors = ir.VectorType(I32, how.lanes), range(how.vectors)
    words = ir.VectorType(I16, 2 * how.lanes)
    zeros = ir.Constant(lanes, [0] * how.lanes)
    places = [[element(builder, sums, r * COLUMNS + v * how.lanes) for v in vectors] for r in range(how.rows)]
    before = [[load(builder, place, lanes, 4) for place in row] for row in places]
    entry, loop, after = builder.block, builder.append_basic_block("pairs"), builder.append_basic_block("stored")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(I64)
    step.add_incoming(ir.Constant(I64, 0), entry)
    totals = [[builder.phi(lanes) for _ in vectors] for _ in rows]
    added = [list(row) for row in totals]
    right_step = element(builder, right, builder.mul(step, ir.Constant(I64, COLUMNS * DEPTH)))
    left_step = builder.mul(step, ir.Constant(I64, DEPTH))
    for pair in range(PAIRS):
        w = [
            load(builder, element(builder, right_step, 2 * (pair * COLUMNS + v * how.lanes)), words, 2) for v in vectors
        ]
        for r, row in enumerate(rows):
            one = load(builder, element(builder, row, left_step, 2 * pair), I32, 2)
            first = builder.insert_element(zeros, one, ir.Constant(I32, 0))
            x = builder.bitcast(builder.shuffle_vector(first, zeros, zeros), words)
            for v in vectors:
                added[r][v] = builder.add(added[r][v], how.products(builder, x, w[v]))
    following = builder.add(step, ir.Constant(I64, 1))
    step.add_incoming(following, loop)
    for r in range(how.rows):
        for v in vectors:
            totals[r][v].add_incoming(before[r][v], entry)
            totals[r][v].add_incoming(added[r][v], loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
    builder.position_at_end(after)
    for r in range(how.rows):
        for v in vectors:
            builder.store(added[r][v], builder.bitcast(places[r][v], lanes.as_pointer()), align=4)
