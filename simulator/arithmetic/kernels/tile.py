"""The byte tile of this process's path, and the packing it wants. Every path gives the same bits, by test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.arithmetic.kernels import pairs, tile_maddwd, tile_portable, tile_vnni
from simulator.arithmetic.kernels.paths import PATH

ROWS, COLUMNS, DEPTH = pairs.ROWS, pairs.COLUMNS, pairs.DEPTH


@dataclass(frozen=True)
class Tile:
    """A tile with its packing.

    Attributes:
        tile: ``tile(a, start, stride, packed, block, first, steps, acc)``.
        pack: ``pack(codes, out)``, ``out`` int8 of ``packed_shape(columns, depth)``.
        packed_shape: shape of the packed right operand in bytes.
    """

    tile: Callable[..., None]
    pack: Callable[..., None]
    packed_shape: Callable[[int, int], tuple[int, ...]]


TILES = {
    "avx512-vnni": Tile(tile_vnni.tile, tile_vnni.pack, tile_vnni.packed_shape),
    "avx512-maddwd": Tile(tile_maddwd.tile_avx512, tile_maddwd.pack, tile_maddwd.packed_shape),
    "avx2-maddwd": Tile(tile_maddwd.tile_avx2, tile_maddwd.pack, tile_maddwd.packed_shape),
    "portable": Tile(tile_portable.tile, tile_portable.pack, tile_portable.packed_shape),
}
"""The byte tile of each path. Only those of ``paths.supported_paths()`` may be called."""

tile, pack, packed_shape = TILES[PATH].tile, TILES[PATH].pack, TILES[PATH].packed_shape
