"""Compile every kernel into the cache, in another process while this one does something else.

A cold cache costs about ten seconds of one core, and numba holds its interpreter's lock meanwhile. ``python -m
simulator.arithmetic.compilation`` fills the cache; :func:`compiling` runs that beside the caller's float work.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from simulator.arithmetic import contract
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.kernels.accelerate import cache_folder
from simulator.arithmetic.kernels.moments import row_sums
from simulator.arithmetic.operands import ScaledFormat, quantize_image, quantize_matrices
from simulator.arithmetic.quantizer import QuantSpec, quantize_to_range
from simulator.arithmetic.weights import prepare_weight

_DONE = "complete"


@contextmanager
def compiling() -> Iterator[Callable[[], None]]:
    """Start filling a cold cache in another process; yield a function that waits for its end.

    A process that fails is no error: what it did not compile is compiled on first use. It is stopped on leaving.
    """
    folder = cache_folder()
    if folder is None or (folder / _DONE).exists():
        yield lambda: None
        return
    process = subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield lambda: (process.wait(), None)[1]
    finally:
        process.kill()
        process.wait()


def compile_kernels() -> None:
    """Call every kernel once with the argument types that networks bring, then mark the cache as complete."""
    image = np.linspace(-1, 1, 2 * 4 * 4 * 8, dtype=np.float32).reshape(2, 4, 4, 8)
    per_output = QuantSpec(IntFormat(8), PerAxis((0,)), symmetric=True)
    weight = prepare_weight(quantize_to_range(image.reshape(-1, 8, 1, 1), per_output))
    how = ScaledFormat(QuantSpec(IntFormat(8, signed=False)), np.float32(0.01), 100)
    contract.conv(quantize_image(image, how), weight)
    rows = np.repeat(image.reshape(2, 16, 8), 64, axis=1)  # more products than one thread takes alone
    left, right = (quantize_matrices(rows, how, side=side) for side in ("left", "right"))
    contract.batched_matmul(left, right)
    for dtype in (np.float32, np.float64):
        signal = rows[0].astype(dtype)
        row_sums(signal, signal, np.empty((len(signal), 15)))
    folder = cache_folder()
    if folder is not None:
        (folder / _DONE).touch()


if __name__ == "__main__":
    compile_kernels()
