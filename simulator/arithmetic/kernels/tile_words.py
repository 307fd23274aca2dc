"""The 8 x 32 tile of a matmul of signed 16-bit words: operands of 9 to 16 bits, or of any narrower format.

Same interface as the byte tiles, with ``a`` int16 and ``start``, ``stride`` in elements; ``packed`` is int16. Sums are
exact modulo 2**32, also at ``(-32768)**2`` twice. Every path of :mod:`~simulator.arithmetic.kernels.paths` gives the
same bits. With AVX512-VNNI, LLVM joins each pair product and its addition into one ``vpdpwssd``.
"""

from __future__ import annotations

from numba import config, types
from numba.extending import intrinsic

from simulator.arithmetic.kernels import pairs
from simulator.arithmetic.kernels.accelerate import kernel
from simulator.arithmetic.kernels.pairs import AVX2, AVX512, COLUMNS, DEPTH, GENERIC, I16, I32, PAIRS, Pairs, element
from simulator.arithmetic.kernels.paths import PATH

pack = pairs.pack
tile_plain = pairs.tile_plain


def packed_shape(columns: int, depth: int) -> tuple[int, int, int, int, int]:
    """Shape of the packed right operand in int16 words."""
    return -(-columns // COLUMNS), -(-depth // DEPTH), PAIRS, COLUMNS, 2


def supported() -> bool:
    """Every CPU has a form of this tile."""
    return True


def word_tile(how: Pairs, a, start, stride, packed, block, first, steps, acc):
    """Signature and code generator of the tile for one CPU's vectors, as numba's ``intrinsic`` wants them."""
    signature = types.void(a, types.intp, types.intp, packed, types.intp, types.intp, types.intp, acc)

    def codegen(context, builder, signature, args):
        a, start, stride, packed, block, first, steps, acc = args

        def array(index, value):
            return context.make_array(signature.args[index])(context, builder, value)

        left = element(builder, builder.bitcast(array(0, a).data, I16.as_pointer()), start)
        right = pairs.right_start(builder, array(3, packed), block, first)
        sums = builder.bitcast(array(7, acc).data, I32.as_pointer())
        pairs.clear(builder, sums)
        pairs.accumulate(builder, how, left, stride, right, steps, sums)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _avx512(typingctx, a, start, stride, packed, block, first, steps, acc):
    return word_tile(AVX512, a, start, stride, packed, block, first, steps, acc)


@intrinsic
def _avx2(typingctx, a, start, stride, packed, block, first, steps, acc):
    return word_tile(AVX2, a, start, stride, packed, block, first, steps, acc)


@intrinsic
def _portable(typingctx, a, start, stride, packed, block, first, steps, acc):
    return word_tile(GENERIC, a, start, stride, packed, block, first, steps, acc)


if config.DISABLE_JIT:
    tile_avx512 = tile_avx2 = tile_portable = tile_plain
else:

    @kernel
    def tile_avx512(a, start, stride, packed, block, first, steps, acc):
        """Compiled :func:`tile_plain` (``steps >= 1``; ``acc`` is a contiguous (8, 32) int32 array)."""
        _avx512(a, start, stride, packed, block, first, steps, acc)

    @kernel
    def tile_avx2(a, start, stride, packed, block, first, steps, acc):
        """Compiled :func:`tile_plain` (``steps >= 1``; ``acc`` is a contiguous (8, 32) int32 array)."""
        _avx2(a, start, stride, packed, block, first, steps, acc)

    @kernel
    def tile_portable(a, start, stride, packed, block, first, steps, acc):
        """Compiled :func:`tile_plain` (``steps >= 1``; ``acc`` is a contiguous (8, 32) int32 array)."""
        _portable(a, start, stride, packed, block, first, steps, acc)


TILES = {
    "avx512-vnni": tile_avx512,
    "avx512-maddwd": tile_avx512,
    "avx2-maddwd": tile_avx2,
    "portable": tile_portable,
}
"""The word tile of each path."""

tile = TILES[PATH]
