"""The 8 x 32 tile of an unsigned-by-signed byte matmul on AVX512-VNNI, emitted as one LLVM loop.

``vpdpbusd`` adds four exact u8*s8 products to each of 16 int32 lanes without saturation, so the tile is exact modulo
2**32. LLVM does not form it from a plain loop; the intrinsic below does. :func:`tile_plain` is its twin of the same
bits, used when numba's compiler is switched off.
"""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from simulator.arithmetic.kernels.accelerate import kernel
from simulator.arithmetic.kernels.paths import supported_paths

ROWS, COLUMNS, DEPTH = 8, 32, 4
LANES = 16
VECTORS = COLUMNS // LANES


def supported() -> bool:
    """Whether this CPU executes the tile."""
    return "avx512-vnni" in supported_paths()


@kernel
def pack(codes, out):
    """(N, K) int8 codes into (column blocks, K/4 steps, 32 columns, 4) order, zero padded."""
    columns, depth = codes.shape
    out[:] = 0
    for n in range(columns):
        for k in range(depth):
            out[n // COLUMNS, k // DEPTH, n % COLUMNS, k % DEPTH] = codes[n, k]


def packed_shape(columns: int, depth: int) -> tuple[int, int, int, int]:
    """Shape of the packed right operand."""
    return -(-columns // COLUMNS), -(-depth // DEPTH), COLUMNS, DEPTH


def tile_plain(a, start, stride, packed, block, first, steps, acc):
    """``acc[r, n] = sum_k a[start + r*stride + k] * packed[block, first + k/4, n, k%4]`` over ``4*steps`` bytes."""
    flat = a.reshape(-1)
    for r in range(ROWS):
        row = flat[start + r * stride : start + r * stride + DEPTH * steps].astype(np.int64).reshape(steps, 1, DEPTH)
        sums = (row * packed[block, first : first + steps].astype(np.int64)).sum(axis=(0, 2))
        acc[r] = sums.astype(np.int32)


def _dot_instruction(builder: ir.IRBuilder) -> tuple[ir.Function, ir.Type]:
    sums = ir.VectorType(ir.IntType(32), LANES)
    # LLVM 22 changed the operand type from <16 x i32> to <64 x i8>
    operand = ir.VectorType(ir.IntType(8), 64) if llvm.llvm_version_info >= (22,) else sums
    signature = ir.FunctionType(sums, [sums, operand, operand])
    return cgutils.get_or_insert_function(builder.module, signature, "llvm.x86.avx512.vpdpbusd.512"), operand


@intrinsic
def _tile_compiled(typingctx, a, start, stride, packed, block, first, steps, acc):
    signature = types.void(a, types.intp, types.intp, packed, types.intp, types.intp, types.intp, acc)

    def codegen(context, builder, signature, args):
        a, start, stride, packed, block, first, steps, acc = args
        i64, i32, i8 = ir.IntType(64), ir.IntType(32), ir.IntType(8)
        sums = ir.VectorType(i32, LANES)
        zeros = ir.Constant(sums, [0] * LANES)
        dot, operand = _dot_instruction(builder)

        def array(index, value):
            return context.make_array(signature.args[index])(context, builder, value)

        def byte_pointer(index, value):
            return builder.bitcast(array(index, value).data, i8.as_pointer())

        step_bytes = ir.Constant(i64, COLUMNS * DEPTH)
        blocks_stride = builder.mul(cgutils.unpack_tuple(builder, array(3, packed).shape)[1], step_bytes)
        b_offset = builder.add(builder.mul(block, blocks_stride), builder.mul(first, step_bytes))
        b_start = builder.gep(byte_pointer(3, packed), [b_offset])
        a_rows = [
            builder.gep(byte_pointer(0, a), [builder.add(start, builder.mul(stride, ir.Constant(i64, r)))])
            for r in range(ROWS)
        ]
        before, loop, after = builder.block, builder.append_basic_block("dot"), builder.append_basic_block("store")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(i64)
        step.add_incoming(ir.Constant(i64, 0), before)
        totals = [[builder.phi(sums) for _ in range(VECTORS)] for _ in range(ROWS)]
        b_step = builder.gep(b_start, [builder.mul(step, step_bytes)])
        b = []
        for v in range(VECTORS):
            pointer = builder.gep(b_step, [ir.Constant(i64, v * LANES * DEPTH)])
            b.append(builder.load(builder.bitcast(pointer, operand.as_pointer()), align=1))
        for r in range(ROWS):
            pointer = builder.gep(a_rows[r], [builder.mul(step, ir.Constant(i64, DEPTH))])
            word = builder.load(builder.bitcast(pointer, i32.as_pointer()), align=1)
            one = builder.insert_element(zeros, word, ir.Constant(i32, 0))
            everywhere = builder.shuffle_vector(one, zeros, ir.Constant(ir.VectorType(i32, LANES), [0] * LANES))
            left = builder.bitcast(everywhere, operand)
            for v in range(VECTORS):
                total = totals[r][v]
                total.add_incoming(zeros, before)
                total.add_incoming(builder.call(dot, [total, left, b[v]]), loop)
        following = builder.add(step, ir.Constant(i64, 1))
        step.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        c = builder.bitcast(array(7, acc).data, i32.as_pointer())
        for r in range(ROWS):
            for v in range(VECTORS):
                pointer = builder.gep(c, [ir.Constant(i64, r * COLUMNS + v * LANES)])
                value = totals[r][v].incomings[1][0]
                builder.store(value, builder.bitcast(pointer, sums.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, codegen


if config.DISABLE_JIT:
    tile = tile_plain
else:

    @kernel
    def tile(a, start, stride, packed, block, first, steps, acc):
        """Compiled :func:`tile_plain` (``steps >= 1``; ``acc`` is a contiguous (8, 32) int32 array)."""
        _tile_compiled(a, start, stride, packed, block, first, steps, acc)
