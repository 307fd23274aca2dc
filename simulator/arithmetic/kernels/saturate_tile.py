"""The tile of a saturating matmul: every product passes through the register, ROWS x two vectors of columns at a time.

Emitted as one LLVM loop nest of generic vector operations (``llvm.sadd.sat``, ``llvm.smin``, ``llvm.smax``), so it
runs on any CPU; lanes are int16 or int32. LLVM forms saturating vector adds from no plain loop, hence the intrinsic;
:func:`tile_plain` is its twin of the same bits.

With ``s`` the register in a lane, ``t`` the exact running sum modulo the lane's size and ``p`` a product::

    narrow(v) = clip(v, low, high)
    run by run of the products, each of ``run`` (the last may be shorter):
        SINGLE:  for p of the run:  s = narrow(s + p), t = t + p
        TREE:    s = narrow(s + sum p), t = t + sum p
        seen |= s xor t

int16 lanes add with int16 saturation, so a register that fills its lane needs no clip. ``t`` and ``seen`` are kept by
the WATCHED tiles only. The caller proves that no other operation leaves its lane.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from simulator.arithmetic.kernels.accelerate import kernel

ROWS, VECTORS = 4, 2
VECTOR_BITS = 512  # where a CPU's vectors are shorter LLVM splits them


def columns_of(lane: np.dtype) -> int:
    """Columns of one tile."""
    return VECTORS * VECTOR_BITS // (8 * np.dtype(lane).itemsize)


def tile_plain(tree, watched, x, row, w, block, run, low, high, start, acc, seen):
    """One tile, in numpy. ``x`` (row tiles, depth, ROWS) int32, ``w`` (column blocks, depth, columns) in lanes.

    ``start`` (column blocks, columns): what the registers hold first. Written: ``acc`` and ``seen`` (ROWS, columns);
    ``seen`` only if watched.
    """
    lane = acc.dtype.type
    depth = w.shape[1]
    # an int16 operand stands twice in its int32
    left = x[row].astype(np.int16).astype(np.int64) if lane is np.int16 else x[row].astype(np.int64)
    ends = np.iinfo(lane)
    low, high = max(int(low), ends.min), min(int(high), ends.max)
    s = np.repeat(start[block][None].astype(np.int64), ROWS, axis=0)
    t, lost = s.copy(), np.zeros_like(s)
    for first in range(0, depth, run):
        last = min(first + run, depth)
        products = [left[k][:, None] * w[block, k].astype(np.int64) for k in range(first, last)]
        for p in [sum(products)] if tree else products:
            s, t = np.clip(s + p, low, high), t + p
        lost |= (s ^ t).astype(lane)
    acc[:] = s
    if watched:
        seen[:] = lost


def _make_tile(tree, watched, clipped):
    @intrinsic
    def tile(typingctx, x, row, w, block, run, low, high, start, acc, seen):
        signature = types.void(x, types.intp, w, types.intp, types.intp, types.intp, types.intp, start, acc, seen)
        width = acc.dtype.bitwidth
        lanes = VECTOR_BITS // width
        columns = VECTORS * lanes

        def codegen(context, builder, signature, args):
            i64, i32, lane = ir.IntType(64), ir.IntType(32), ir.IntType(width)
            vector, words = ir.VectorType(lane, lanes), ir.VectorType(i32, 16)
            zeros = ir.Constant(vector, None)

            def array(index):
                return context.make_array(signature.args[index])(context, builder, args[index])

            def constant(value):
                return ir.Constant(i64, value)

            def address(index, offset, element):
                data = builder.bitcast(array(index).data, element.as_pointer())
                return builder.gep(data, [offset])

            def load(pointer, type_, align):
                return builder.load(builder.bitcast(pointer, type_.as_pointer()), align=align)

            def everywhere(value, type_):
                none = ir.Constant(type_, None)
                one = builder.insert_element(none, value, ir.Constant(i32, 0))
                return builder.shuffle_vector(
                    one, none, ir.Constant(ir.VectorType(i32, type_.count), [0] * type_.count)
                )

            def call(name, a, b):
                full = f"llvm.{name}.v{lanes}i{width}"
                function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 2), full)
                return builder.call(function, [a, b])

            depth = cgutils.unpack_tuple(builder, array(2).shape)[1]
            block_words, row_words = builder.mul(depth, constant(columns)), builder.mul(depth, constant(ROWS))
            right = address(2, builder.mul(args[3], block_words), lane)
            left = address(0, builder.mul(args[1], row_words), i32)
            first = address(7, builder.mul(args[3], constant(columns)), lane)
            low, high = (everywhere(builder.trunc(args[i], lane), vector) for i in (5, 6))

            def narrow(total, step):
                total = call("sadd.sat", total, step) if width == 16 else builder.add(total, step)
                return call("smax", call("smin", total, high), low) if clipped else total

            cells = [(r, v) for r in range(ROWS) for v in range(VECTORS)]
            starts = [load(builder.gep(first, [constant(v * lanes)]), vector, width // 8) for v in range(VECTORS)]
            before = builder.block
            outer, inner = builder.append_basic_block("run"), builder.append_basic_block("product")
            latch, after = builder.append_basic_block("narrow"), builder.append_basic_block("store")
            builder.branch(outer)

            builder.position_at_end(outer)
            begin = builder.phi(i64)
            begin.add_incoming(constant(0), before)
            s_outer = {c: builder.phi(vector) for c in cells}
            t_outer = {c: builder.phi(vector) for c in cells} if watched else {}
            seen_outer = {c: builder.phi(vector) for c in cells} if watched else {}
            wanted = builder.add(begin, args[4])
            end = builder.select(builder.icmp_signed("<", wanted, depth), wanted, depth)
            builder.branch(inner)

            builder.position_at_end(inner)
            k = builder.phi(i64)
            k.add_incoming(begin, outer)
            # SINGLE carries the register and the exact sum through the products, TREE the run's sum
            s_inner = {c: builder.phi(vector) for c in cells}
            t_inner = {c: builder.phi(vector) for c in cells} if watched and not tree else {}
            column = builder.gep(right, [builder.mul(k, constant(columns))])
            b = [load(builder.gep(column, [constant(v * lanes)]), vector, width // 8) for v in range(VECTORS)]
            s_next, t_next = {}, {}
            for r in range(ROWS):
                word = load(builder.gep(left, [builder.add(builder.mul(k, constant(ROWS)), constant(r))]), i32, 4)
                a = builder.bitcast(everywhere(word, words), vector)
                for v in range(VECTORS):
                    c = r, v
                    p = builder.mul(a, b[v])
                    s_next[c] = builder.add(s_inner[c], p) if tree else narrow(s_inner[c], p)
                    if t_inner:
                        t_next[c] = builder.add(t_inner[c], p)
            following = builder.add(k, constant(1))
            k.add_incoming(following, inner)
            for c in cells:
                s_inner[c].add_incoming(zeros if tree else s_outer[c], outer)
                s_inner[c].add_incoming(s_next[c], inner)
                if t_inner:
                    t_inner[c].add_incoming(t_outer[c], outer)
                    t_inner[c].add_incoming(t_next[c], inner)
            builder.cbranch(builder.icmp_signed("<", following, end), inner, latch)

            builder.position_at_end(latch)
            s_after, t_after, seen_after = {}, {}, {}
            for c in cells:
                s_after[c] = narrow(s_outer[c], s_next[c]) if tree else s_next[c]
                if watched:
                    t_after[c] = builder.add(t_outer[c], s_next[c]) if tree else t_next[c]
                    seen_after[c] = builder.or_(seen_outer[c], builder.xor(s_after[c], t_after[c]))
            begin.add_incoming(following, latch)
            for c in cells:
                s_outer[c].add_incoming(starts[c[1]], before)
                s_outer[c].add_incoming(s_after[c], latch)
                if watched:
                    t_outer[c].add_incoming(starts[c[1]], before)
                    t_outer[c].add_incoming(t_after[c], latch)
                    seen_outer[c].add_incoming(zeros, before)
                    seen_outer[c].add_incoming(seen_after[c], latch)
            builder.cbranch(builder.icmp_signed("<", following, depth), outer, after)

            builder.position_at_end(after)
            for index, values in ((8, s_after), (9, seen_after)):
                for (r, v), value in values.items():
                    pointer = address(index, constant(r * columns + v * lanes), lane)
                    builder.store(value, builder.bitcast(pointer, vector.as_pointer()), align=width // 8)
            return context.get_dummy_value()

        return signature, codegen

    return tile


if config.DISABLE_JIT:

    def tile(tree, watched, clipped, *rest):
        """:func:`tile_plain`, with the choice of the compiled tiles before its arguments."""
        tile_plain(tree, watched, *rest)
else:
    _single, _single_clipped = _make_tile(False, False, False), _make_tile(False, False, True)
    _watched, _watched_clipped = _make_tile(False, True, False), _make_tile(False, True, True)
    _tree, _tree_watched = _make_tile(True, False, True), _make_tile(True, True, True)

    @kernel
    def tile(tree, watched, clipped, x, row, w, block, run, low, high, start, acc, seen):
        """Compiled :func:`tile_plain` (depth >= 1, run >= 1); without ``clipped`` the lane's ends are the limits."""
        if tree and watched:
            _tree_watched(x, row, w, block, run, low, high, start, acc, seen)
        elif tree:
            _tree(x, row, w, block, run, low, high, start, acc, seen)
        elif watched and clipped:
            _watched_clipped(x, row, w, block, run, low, high, start, acc, seen)
        elif watched:
            _watched(x, row, w, block, run, low, high, start, acc, seen)
        elif clipped:
            _single_clipped(x, row, w, block, run, low, high, start, acc, seen)
        else:
            _single(x, row, w, block, run, low, high, start, acc, seen)
