"""The tile this CPU runs, and the packing it wants. Every path gives the same bits; tests compare them."""

from __future__ import annotations

from simulator.arithmetic.kernels import tile_portable, tile_vnni

ROWS, COLUMNS, DEPTH = tile_portable.ROWS, tile_portable.COLUMNS, tile_portable.DEPTH

if tile_vnni.supported():
    PATH = "avx512-vnni"
    tile, pack, packed_shape = tile_vnni.tile, tile_vnni.pack, tile_vnni.packed_shape
else:
    PATH = "portable"
    tile, pack, packed_shape = tile_portable.tile, tile_portable.pack, tile_portable.packed_shape
