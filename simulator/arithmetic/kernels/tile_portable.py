"""The 8 x 32 tile of an unsigned-by-signed byte matmul for any CPU: no named instruction, only LLVM vectors.

Same interface, packing and bits as ``tile_maddwd``; the pair product is written as widening multiplications and
additions, which LLVM turns into the CPU's own instructions (``pmaddwd`` on any x86, ``smlal`` on Arm).
"""

from __future__ import annotations

from numba import config
from numba.extending import intrinsic

from simulator.arithmetic.kernels import tile_maddwd
from simulator.arithmetic.kernels.accelerate import kernel
from simulator.arithmetic.kernels.pairs import COLUMNS, DEPTH, GENERIC, ROWS

__all__ = ["COLUMNS", "DEPTH", "ROWS", "pack", "packed_shape", "supported", "tile", "tile_plain"]

pack, packed_shape, tile_plain = tile_maddwd.pack, tile_maddwd.packed_shape, tile_maddwd.tile_plain


def supported() -> bool:
    """Every CPU executes the tile."""
    return True


@intrinsic
def _portable(typingctx, a, start, stride, packed, block, first, steps, acc):
    return tile_maddwd.byte_tile(GENERIC, a, start, stride, packed, block, first, steps, acc)


if config.DISABLE_JIT:
    tile = tile_plain
else:

    @kernel
    def tile(a, start, stride, packed, block, first, steps, acc):
        """Compiled :func:`tile_plain` (``steps >= 1``; ``acc`` is a contiguous (8, 32) int32 array)."""
        _portable(a, start, stride, packed, block, first, steps, acc)
