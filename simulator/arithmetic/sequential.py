"""Float32 sums in ascending k: the simplest order a machine may state."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.kernels import epilogues as kernels
from simulator.arithmetic.requantize.conversion import nearest_float32


def sequential_sum_exact(x: Sequence[float], w: Sequence[float]) -> np.float32:
    """``f32(... f32(f32(0 + f32(x_0 w_0)) + f32(x_1 w_1)) ...)`` of finite float32: the normative form, in rationals.

    >>> sequential_sum_exact([1.0, 2.0**-24, 2.0**-24], [1.0, 1.0, 1.0]), 1 + 2.0**-23
    (np.float32(1.0), 1.0000001192092896)
    """
    total = np.float32(0)
    for a, b in zip(x, w, strict=True):
        product = nearest_float32(Fraction(float(a)) * Fraction(float(b)))
        total = nearest_float32(Fraction(float(total)) + Fraction(float(product)))
    return total


def sequential_sums(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """:func:`sequential_sum_exact` of every row of ``x`` with every row of ``w``.

    Products of numbers that float16 holds are exact in float32, so that only the additions round.

    Args:
        x: float32 (rows, depth), finite.
        w: float32 (outputs, depth), finite.

    Returns:
        float32 (rows, outputs); a sum beyond float32 is infinite, and what follows it infinite or NaN.

    Raises:
        BadInput: other dtypes or shapes, NaN or infinities.
    """
    for name, values in (("x", x), ("w", w)):
        if values.dtype != np.float32 or values.ndim != 2 or not np.all(np.isfinite(values)):
            raise BadInput(
                f"{name} must be a finite float32 matrix", got=f"{values.dtype} {values.shape}", fix="convert it"
            )
    if x.shape[1] != w.shape[1]:
        raise BadInput("x and w must have the same depth", got=f"{x.shape} and {w.shape}", fix="transpose w")
    out = np.empty((len(x), len(w)), np.float32)
    with np.errstate(all="ignore"):  # plain Python warns of overflow where numba's compiler is off
        kernels.sequential_sums(np.ascontiguousarray(x), np.ascontiguousarray(w.T), out)
    return out
