"""The 8 x 32 tile of an unsigned-by-signed byte matmul from int16 pair products (``vpmaddwd``), without VNNI.

Same interface and bits as ``tile_vnni``. Both operands are widened to int16, where every product and every pair of
products is exact: the weights once, when they are packed; the left operand in parts, into a scratch of a few kilobytes
on the stack, so that the inner loop consists of broadcasts, products and additions alone.
"""

from __future__ import annotations

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from simulator.arithmetic.kernels import pairs
from simulator.arithmetic.kernels.accelerate import kernel
from simulator.arithmetic.kernels.pairs import AVX2, AVX512, COLUMNS, DEPTH, I16, I32, I64, PAIRS, ROWS, Pairs, element
from simulator.arithmetic.kernels.paths import supported_paths

PART = 64  # steps widened at once: 4 kB of the left operand and 16 kB of weights, half of a first-level cache

pack = pairs.pack
tile_plain = pairs.tile_plain


def packed_shape(columns: int, depth: int) -> tuple[int, int, int, int, int]:
    """Shape of the packed right operand in bytes."""
    return -(-columns // COLUMNS), -(-depth // DEPTH), PAIRS, COLUMNS, 4


def supported() -> bool:
    """Whether this CPU executes a tile of this module."""
    return not {"avx512-maddwd", "avx2-maddwd"}.isdisjoint(supported_paths())


def byte_tile(how: Pairs, a, start, stride, packed, block, first, steps, acc):
    """Signature and code generator of the tile for one CPU's vectors, as numba's ``intrinsic`` wants them."""
    signature = types.void(a, types.intp, types.intp, packed, types.intp, types.intp, types.intp, acc)

    def codegen(context, builder, signature, args):
        a, start, stride, packed, block, first, steps, acc = args

        def array(index, value):
            return context.make_array(signature.args[index])(context, builder, value)

        left = element(builder, builder.bitcast(array(0, a).data, ir.IntType(8).as_pointer()), start)
        right = pairs.right_start(builder, array(3, packed), block, first)
        sums = builder.bitcast(array(7, acc).data, I32.as_pointer())
        pairs.clear(builder, sums)
        with builder.goto_entry_block():  # cgutils.alloca_once would clear it in every call
            scratch = builder.alloca(ir.ArrayType(I16, ROWS * PART * DEPTH))
        scratch.align = 64
        wide = builder.bitcast(scratch, I16.as_pointer())
        wide_stride = ir.Constant(I64, PART * DEPTH)
        with cgutils.for_range_slice(builder, ir.Constant(I64, 0), steps, ir.Constant(I64, PART), I64) as (done, _):
            rest = builder.sub(steps, done)
            part = builder.select(builder.icmp_signed("<", rest, ir.Constant(I64, PART)), rest, ir.Constant(I64, PART))
            from_part = element(builder, left, builder.mul(done, ir.Constant(I64, DEPTH)))
            with cgutils.for_range(builder, ir.Constant(I64, ROWS)) as row:
                source = element(builder, from_part, builder.mul(row.index, stride))
                into = element(builder, wide, builder.mul(row.index, wide_stride))
                with cgutils.for_range(builder, builder.mul(part, ir.Constant(I64, DEPTH))) as k:
                    byte = builder.load(element(builder, source, k.index))
                    builder.store(builder.zext(byte, I16), element(builder, into, k.index))
            right_part = element(builder, right, builder.mul(done, ir.Constant(I64, COLUMNS * DEPTH)))
            pairs.accumulate(builder, how, wide, wide_stride, right_part, part, sums)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _avx512(typingctx, a, start, stride, packed, block, first, steps, acc):
    return byte_tile(AVX512, a, start, stride, packed, block, first, steps, acc)


@intrinsic
def _avx2(typingctx, a, start, stride, packed, block, first, steps, acc):
    return byte_tile(AVX2, a, start, stride, packed, block, first, steps, acc)


if config.DISABLE_JIT:
    tile_avx512 = tile_avx2 = tile_plain
else:

    @kernel
    def tile_avx512(a, start, stride, packed, block, first, steps, acc):
        """Compiled :func:`tile_plain` (``steps >= 1``; ``acc`` is a contiguous (8, 32) int32 array)."""
        _avx512(a, start, stride, packed, block, first, steps, acc)

    @kernel
    def tile_avx2(a, start, stride, packed, block, first, steps, acc):
        """Compiled :func:`tile_plain` (``steps >= 1``; ``acc`` is a contiguous (8, 32) int32 array)."""
        _avx2(a, start, stride, packed, block, first, steps, acc)
