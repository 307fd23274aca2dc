"""Which kernel path this process runs: the best one this CPU has, or a lesser one named by ``QNOISE_KERNEL_PATH``.

Every path gives the same bits. A path names the instructions of the integer matmul's tile, best first:

- ``avx512-vnni``: four byte products per 32-bit lane and instruction (``vpdpbusd``).
- ``avx512-maddwd``, ``avx2-maddwd``: two int16 products per lane (``vpmaddwd``), 512 or 256 bits wide.
- ``portable``: LLVM vector code without a named instruction, for any CPU.
"""

from __future__ import annotations

import os

import llvmlite.binding as llvm
from numba import config

from samplers.errors import BadInput

VARIABLE = "QNOISE_KERNEL_PATH"

NEEDS = {
    "avx512-vnni": ("avx512vnni", "avx512bw"),
    "avx512-maddwd": ("avx512bw",),
    "avx2-maddwd": ("avx2",),
    "portable": (),
}
"""CPU features of each path, best path first."""


def cpu_features() -> frozenset[str]:
    """LLVM's names of the CPU features that the compiler may use: the host's, or those of ``NUMBA_CPU_FEATURES``."""
    stated = config.CPU_FEATURES
    if stated is None:
        stated = llvm.get_host_cpu_features().flatten()
    return frozenset(feature[1:] for feature in stated.split(",") if feature.startswith("+"))


def supported_paths() -> tuple[str, ...]:
    """Names of the paths this CPU runs, best first."""
    features = cpu_features()
    return tuple(name for name, needed in NEEDS.items() if features.issuperset(needed))


def choose(wanted: str | None) -> str:
    """The path to run: ``wanted``, or the best supported one where it is None or empty.

    Raises:
        BadInput: an unknown path, or one this CPU does not run.
    """
    supported = supported_paths()
    if not wanted:
        return supported[0]
    if wanted not in supported:
        raise BadInput(
            f"{VARIABLE} must name a kernel path that this CPU supports",
            got=repr(wanted),
            fix=f"use one of {', '.join(supported)}, or unset it",
        )
    return wanted


PATH = choose(os.environ.get(VARIABLE))
"""The path of this process."""
