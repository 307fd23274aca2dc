"""What this machine computes with: every choice here changes speed, none changes a bit."""

from __future__ import annotations

from dataclasses import dataclass

import llvmlite.binding as llvm

from simulator.arithmetic.kernels import accelerate, tile


@dataclass(frozen=True)
class Capabilities:
    """What the kernels found.

    Attributes:
        kernel_path: how bytes are multiplied, e.g. ``avx512-vnni`` or ``portable``.
        cpu: LLVM's name of the processor.
        threads: threads that the kernels may use now.
        threading: ``openmp`` or ``tbb`` (numba's layer), or ``one thread`` where neither loads.
        compiled: False under NUMBA_DISABLE_JIT, where every kernel is plain Python.
        cache: folder of compiled kernels, None where nothing can be written.
    """

    kernel_path: str
    cpu: str
    threads: int
    threading: str
    compiled: bool
    cache: str | None


def capabilities() -> Capabilities:
    """What the kernels of this process use."""
    folder = accelerate.cache_folder()
    return Capabilities(
        tile.PATH,
        llvm.get_host_cpu_name(),
        accelerate.get_threads(),
        _threading(),
        accelerate.COMPILED,
        None if folder is None else str(folder),
    )


def _threading() -> str:
    if not accelerate.PARALLEL:
        return "one thread"
    if not accelerate.COMPILED:
        return "none"
    layer = accelerate.threading_layer()
    return {"omp": "openmp"}.get(layer, layer)
