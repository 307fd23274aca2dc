"""A matmul of 16-bit saturated pairs of unsigned-by-signed byte products. Formula in ``simulator.arithmetic``.

The tile is one LLVM loop of generic vector operations on int16 lanes, for any CPU: four codes of k per step, the even
ones and the odd ones in vectors of their own, so that ``llvm.sadd.sat`` of both products is the pair. A column takes
two neighbouring lanes, which the int32 sum adds. Where saturated and wrapped pair differ the pair saturated.
:func:`tile_plain` is the twin of the same bits.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import config, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from simulator.arithmetic.kernels.accelerate import kernel, parallel_kernel

ROWS, VECTORS, LANES, DEPTH = 4, 2, 16, 4
COLUMNS = VECTORS * LANES
CHUNK = 64  # rows packed at once
SPLIT = 32  # column blocks per task


def packed_shape(columns: int, depth: int) -> tuple[int, int, int, int, int]:
    """Shape of the packed right operand: (column blocks, steps, even or odd k, columns, 2)."""
    return -(-columns // COLUMNS), -(-depth // DEPTH), 2, COLUMNS, 2


@kernel
def pack(w, out):
    """(N, K) int8 codes into :func:`packed_shape`, over zeros."""
    outputs, depth = w.shape
    for n in range(outputs):
        block, column = divmod(n, COLUMNS)
        for k in range(depth):
            out[block, k // DEPTH, k % 2, column, k % DEPTH // 2] = w[n, k]


def tile_plain(x, row, w, block, acc, seen):
    """One tile, in numpy. ``x`` (row tiles, steps, ROWS, 2, 2) int16, ``w`` packed.

    Written: ``acc`` (ROWS, COLUMNS) int32, and ``seen`` (ROWS, COLUMNS, 2) int16, not 0 where a pair saturated.
    """
    even, odd = (
        x[row, :, :, None, i].astype(np.int64) * w[block, :, None, i].astype(np.int64) for i in range(2)
    )  # (steps, ROWS, COLUMNS, 2)
    pair = even + odd
    saturated = np.clip(pair, -(1 << 15), (1 << 15) - 1)
    acc[:] = saturated.sum(axis=(0, 3)).astype(np.int32)
    seen[:] = np.bitwise_or.reduce((saturated ^ pair).astype(np.int16), axis=0)


@intrinsic
def _tile_compiled(typingctx, x, row, w, block, acc, seen):
    signature = types.void(x, types.intp, w, types.intp, acc, seen)

    def codegen(context, builder, signature, args):
        i64, i32, i16 = ir.IntType(64), ir.IntType(32), ir.IntType(16)
        sums, pairs = ir.VectorType(i32, LANES), ir.VectorType(i16, 2 * LANES)
        saturating = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(pairs, [pairs, pairs]), f"llvm.sadd.sat.v{2 * LANES}i16"
        )
        half = ir.Constant(sums, [16] * LANES)

        def array(index):
            return context.make_array(signature.args[index])(context, builder, args[index])

        def constant(value):
            return ir.Constant(i64, value)

        def vector(base, word, type_):
            pointer = builder.gep(base, [word])
            return builder.load(builder.bitcast(pointer, type_.as_pointer()), align=2)

        def words(index):
            return builder.bitcast(array(index).data, i32.as_pointer())

        steps = cgutils.unpack_tuple(builder, array(2).shape)[1]
        right = builder.gep(words(2), [builder.mul(builder.mul(args[3], steps), constant(2 * COLUMNS))])
        left = builder.gep(words(0), [builder.mul(builder.mul(args[1], steps), constant(2 * ROWS))])
        before, loop, after = builder.block, builder.append_basic_block("pairs"), builder.append_basic_block("store")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(i64)
        step.add_incoming(constant(0), before)
        none = ir.Constant(sums, None)
        cells = [(r, v) for r in range(ROWS) for v in range(VECTORS)]
        total = {c: builder.phi(sums) for c in cells}
        mark = {c: builder.phi(pairs) for c in cells}
        b_step, a_step = builder.mul(step, constant(2 * COLUMNS)), builder.mul(step, constant(2 * ROWS))
        b = [
            [vector(right, builder.add(b_step, constant(i * COLUMNS + v * LANES)), pairs) for v in range(VECTORS)]
            for i in range(2)
        ]
        totals, marks = {}, {}
        for r in range(ROWS):
            a = []
            for i in range(2):
                word = vector(left, builder.add(a_step, constant(2 * r + i)), i32)
                one = builder.insert_element(none, word, ir.Constant(i32, 0))
                everywhere = builder.shuffle_vector(one, none, ir.Constant(sums, [0] * LANES))
                a.append(builder.bitcast(everywhere, pairs))
            for v in range(VECTORS):
                even, odd = builder.mul(a[0], b[0][v]), builder.mul(a[1], b[1][v])
                pair = builder.call(saturating, [even, odd])
                both = builder.bitcast(pair, sums)
                low = builder.ashr(builder.shl(both, half), half)
                totals[r, v] = builder.add(total[r, v], builder.add(low, builder.ashr(both, half)))
                marks[r, v] = builder.or_(mark[r, v], builder.xor(pair, builder.add(even, odd)))
        for c in cells:
            total[c].add_incoming(none, before)
            total[c].add_incoming(totals[c], loop)
            mark[c].add_incoming(ir.Constant(pairs, None), before)
            mark[c].add_incoming(marks[c], loop)
        following = builder.add(step, constant(1))
        step.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        for index, values in ((4, totals), (5, marks)):
            for (r, v), value in values.items():
                pointer = builder.gep(words(index), [constant(r * COLUMNS + v * LANES)])
                builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=2)
        return context.get_dummy_value()

    return signature, codegen


if config.DISABLE_JIT:
    tile = tile_plain
else:

    @kernel
    def tile(x, row, w, block, acc, seen):
        """Compiled :func:`tile_plain` (at least one step)."""
        _tile_compiled(x, row, w, block, acc, seen)


@kernel
def _rows(begin, end, first_block, last_block, x, w, out):
    """Rows ``begin`` to ``end`` (at most CHUNK) times some column blocks."""
    # zeros: rows past the end are multiplied but never stored, k past the end meets zero weights
    packed = np.zeros(((end - begin + ROWS - 1) // ROWS, w.shape[1], ROWS, 2, 2), np.int16)
    for row in range(begin, end):
        t, r = divmod(row - begin, ROWS)
        source, target = x[row], packed[t]
        for k in range(source.size):
            target[k // DEPTH, r, k % 2, k % DEPTH // 2] = source[k]
    acc = np.empty((ROWS, COLUMNS), np.int32)
    seen = np.empty((ROWS, COLUMNS, 2), np.int16)
    count = 0
    for block in range(first_block, last_block):
        left, right = block * COLUMNS, min((block + 1) * COLUMNS, out.shape[1])
        for t in range(packed.shape[0]):
            tile(packed, t, w, block, acc, seen)
            top = begin + t * ROWS
            for r in range(min(ROWS, end - top)):
                target = out[top + r]
                for n in range(right - left):
                    target[left + n] = acc[r, n]
                    count += np.int64((seen[r, n, 0] | seen[r, n, 1]) != 0)
    return count


@parallel_kernel
def pairs(x, w, out):
    """``out[m, n]`` of uint8 rows and packed weights. Returns how many outputs have a saturated pair."""
    rows, blocks = x.shape[0], w.shape[0]
    splits = (blocks + SPLIT - 1) // SPLIT
    count = 0
    for task in prange((rows + CHUNK - 1) // CHUNK * splits):
        i, j = divmod(np.int64(task), splits)
        count += _rows(i * CHUNK, min((i + 1) * CHUNK, rows), j * SPLIT, min((j + 1) * SPLIT, blocks), x, w, out)
    return count


@kernel
def _pair_by_pair(x, w):
    total, lost = np.int64(0), np.int64(0)
    for k in range(0, x.size, 2):
        pair = np.int64(x[k]) * np.int64(w[k])
        if k + 1 < x.size:
            pair += np.int64(x[k + 1]) * np.int64(w[k + 1])
        saturated = min(max(pair, np.int64(-(1 << 15))), np.int64((1 << 15) - 1))
        total += saturated
        lost += np.int64(saturated != pair)
    return total, lost


@parallel_kernel
def pair_by_pair(x, w, out):
    """As :func:`pairs` with ``w`` (outputs, depth) as it is, in plain loops. Returns how many pairs saturated."""
    count = 0
    for m in prange(x.shape[0]):
        for n in range(w.shape[0]):
            total, lost = _pair_by_pair(x[m], w[n])
            out[m, n] = total
            count += lost
    return count
