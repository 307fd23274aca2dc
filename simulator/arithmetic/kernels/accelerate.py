"""The one decorator module: how every kernel is compiled, cached and threaded.

- ``kernel`` compiles a serial loop; ``parallel_kernel`` one whose ``prange`` runs on the OpenMP (or TBB) threads of
  numba. Where neither runtime loads, ``prange`` is a plain loop: one thread, the same bits, one stated warning.
- No ``fastmath`` anywhere: a kernel's float operations are exactly those written, in the written order.
- Compiled code is cached in a private folder whose name is a digest of all kernel sources, the numba version, the CPU,
  the kernel path and the threading choice, so that an edited callee never leaves a stale caller behind (numba's own
  stamp looks at one file only).
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import config

from simulator.arithmetic.kernels.paths import PATH


def _threads_available() -> bool:
    """Whether a thread-safe threading layer of numba loads (workqueue aborts on concurrent calls: not used)."""
    if config.THREADING_LAYER == "workqueue":
        return False
    for layer in ("omppool", "tbbpool"):
        try:
            importlib.import_module(f"numba.np.ufunc.{layer}")
        except ImportError:
            continue
        return True
    return False


PARALLEL = _threads_available()
"""Whether kernels run on more than one thread."""

COMPILED = not config.DISABLE_JIT
"""Whether kernels are compiled: False under NUMBA_DISABLE_JIT, where they are plain Python."""

if not PARALLEL:
    warnings.warn(
        "no OpenMP runtime found: kernels run on one thread (same results); install libgomp to use more",
        RuntimeWarning,
        stacklevel=2,
    )


def _launch_threads() -> None:
    """Start numba's thread pool now, and put torch's thread count back.

    The launch sets the count of whichever OpenMP runtime answers first, which is torch's own where torch is loaded; a
    host program's choice, and the count that a run's key states, would change at the first kernel. A program that uses
    both imports torch first: loaded later, torch brings a second OpenMP runtime, and two pools spin against each other.
    """
    from numba.np.ufunc import parallel

    torch = sys.modules.get("torch")  # looked up, never imported
    before = torch.get_num_threads() if torch else None
    parallel._launch_threads()
    if torch:
        torch.set_num_threads(before)


if PARALLEL and not config.DISABLE_JIT:
    _launch_threads()


def _find_cache_folder() -> Path | None:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256()
    stated = (numba.__version__, str(PARALLEL), PATH)
    for part in (*(path.read_bytes() for path in sources), *(text.encode() for text in stated)):
        digest.update(part)
    digest.update(llvm.get_host_cpu_name().encode())
    digest.update(llvm.get_host_cpu_features().flatten().encode())
    home = os.environ.get("QNOISE_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "qnoise" / f"kernels-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


_CACHE = _find_cache_folder()


def cache_folder() -> Path | None:
    """Folder of this process's compiled kernels, None where nothing can be written."""
    return _CACHE


def _compile(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    # numba reads CACHE_DIR when a function is decorated; the host program's own choice is put back at once
    host_choice = config.CACHE_DIR
    config.CACHE_DIR = str(_CACHE or "")
    try:
        compiled = numba.njit(cache=_CACHE is not None, error_model="numpy", nogil=True, **options)(function)
    finally:
        config.CACHE_DIR = host_choice
    if _CACHE is not None and not config.DISABLE_JIT:
        _rebuild_when_broken(compiled._cache)
    return compiled


def _rebuild_when_broken(cache: Any) -> None:
    """Compile again where numba cannot read its own cache: a truncated file would otherwise end the program."""
    load = cache.load_overload

    def load_or_forget(signature: Any, context: Any) -> Any:
        try:
            return load(signature, context)
        except Exception:
            cache.flush()
            return None

    cache.load_overload = load_or_forget


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a serial kernel."""
    return _compile(function)


def parallel_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel whose ``prange`` loops run on all threads, where there are any."""
    return _compile(function, parallel=PARALLEL)


def set_threads(count: int) -> None:
    """Use ``count`` threads in every kernel (at most those numba started with)."""
    if PARALLEL:
        numba.set_num_threads(min(count, config.NUMBA_NUM_THREADS))


def get_threads() -> int:
    """Threads that kernels use now."""
    return numba.get_num_threads() if PARALLEL else 1


def threading_layer() -> str:
    """numba's name of the running thread pool, where kernels are compiled and PARALLEL."""
    return numba.threading_layer()
