"""Time of the exact integer matmul on each kernel path, divided by torch's float32 ``mm``: M = N = K, one thread.

Weights are packed beforehand, as layers have them; int32 sums come out. Rounds are interleaved in one process, the
fastest of many is taken, and the CPU is named: the ratio depends on how fast float32 multiplies there. Compile time is
excluded. LLVM joins a pair product with its addition where AVX512-VNNI is allowed; ``--without avx512vnni`` shows the
pair tiles as on a CPU that lacks it.

    python benchmarks/tiles.py [--without avx512vnni,avx512bw] [--tiny]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

import llvmlite.binding as llvm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", default="", help="CPU features to hide from the compiler, by LLVM's names")
    parser.add_argument("--tiny", action="store_true", help="one small shape, two rounds: only checks that it runs")
    options = parser.parse_args()
    if options.without:  # numba reads the variable when it is imported
        features = dict(llvm.get_host_cpu_features())
        features.update(dict.fromkeys(options.without.split(","), False))
        os.environ["NUMBA_CPU_FEATURES"] = ",".join(f"{'+' if on else '-'}{name}" for name, on in features.items())
    compare((64,) if options.tiny else (64, 256, 1024), rounds=2 if options.tiny else 30, hidden=options.without)


def compare(sizes: tuple[int, ...], rounds: int, hidden: str) -> None:
    """Print one table: a row per form, a column per size."""
    import torch

    from simulator.arithmetic.kernels import paths, tile
    from simulator.provenance import environment
    from simulator.threads import set_threads

    set_threads(1)
    multiply = {f"int8, {name}": driver(tile.TILES[name]) for name in paths.supported_paths()}
    table: dict[str, list[float]] = {}
    for size in sizes:
        calls = peers(size)
        for name, make in multiply.items():
            calls[name] = make(size)
        repeats = max(1, 2**24 // size**3)
        fastest = dict.fromkeys(calls, float("inf"))
        for _ in range(rounds):
            for name, call in calls.items():
                started = time.perf_counter()
                for _ in range(repeats):
                    call()
                fastest[name] = min(fastest[name], time.perf_counter() - started)
        for name, seconds in fastest.items():
            table.setdefault(name, []).append(seconds / fastest["float32, torch.mm"])
    print(f"cpu {environment()['cpu']}, torch {torch.__version__}, hidden features: {hidden or 'none'}, 1 thread")
    print(f"{'time / float32 torch.mm':30s}" + "".join(f"{size:>8d}^3" for size in sizes))
    for name, ratios in table.items():
        print(f"{name:30s}" + "".join(f"{ratio:10.2f}" for ratio in ratios))


def peers(size: int) -> dict[str, Callable[[], object]]:
    """Torch's own multiplications of two random matrices, the float32 one first."""
    import torch

    x, w = torch.randn(size, size), torch.randn(size, size)
    x_int, w_int = (torch.randint(-128, 128, (size, size), dtype=torch.int8) for _ in range(2))
    calls: dict[str, Callable[[], object]] = {"float32, torch.mm": partial(torch.mm, x, w)}
    if torch.backends.mkldnn.is_available():
        calls["float32, oneDNN linear"] = partial(torch.nn.functional.linear, x.to_mkldnn(), w.to_mkldnn())
    calls["int8, torch._int_mm"] = partial(torch._int_mm, x_int, w_int)
    return calls


def driver(form: object) -> Callable[[int], Callable[[], object]]:
    """A compiled loop over one form's tiles, and a function that gives it operands, checked against float64."""
    import numba
    import numpy as np

    from simulator.arithmetic.kernels.pairs import COLUMNS, DEPTH, ROWS

    tile = form.tile

    @numba.njit(error_model="numpy")
    def multiply(a, packed, out):
        rows, depth = a.shape
        acc = np.empty((ROWS, COLUMNS), np.int32)
        for m in range(0, rows, ROWS):
            for n in range(0, out.shape[1], COLUMNS):
                tile(a, m * depth, depth, packed, n // COLUMNS, 0, depth // DEPTH, acc)
                out[m : m + ROWS, n : n + COLUMNS] = acc

    def operands(size: int) -> Callable[[], object]:
        rng = np.random.default_rng(0)
        a, codes = rng.integers(0, 256, (size, size), np.uint8), rng.integers(-128, 128, (size, size), np.int8)
        packed, out = np.zeros(form.packed_shape(size, size), np.int8), np.empty((size, size), np.int32)
        form.pack(codes, packed)
        multiply(a, packed, out)
        exact = a.astype(np.float64) @ codes.T.astype(np.float64)  # below 2^53: exact
        if not np.array_equal(out, exact.astype(np.int64).astype(np.int32)):
            raise SystemExit("a tile gave other sums than float64")
        return partial(multiply, a, packed, out)

    return operands


if __name__ == "__main__":
    main()
