"""Where learned scales and zero points begin."""

from __future__ import annotations

import math

import numpy as np

from simulator.arithmetic.granularity import Granularity
from simulator.arithmetic.quantizer import QuantSpec, parameters_from_range
from simulator.calibration.fit import fit_range
from simulator.calibration.observers import Observer

_SEARCHED = 8192
"""Elements on which a zero point is searched."""


def activation_start(values: np.ndarray, spec: QuantSpec, observer: Observer | None) -> tuple[float, int]:
    """Scale and zero point of an operand.

    With an observer those of its range. Without one LSQ's scale 2 mean|x| / sqrt(Q_p), 1 where all values are 0, and
    the zero point of least squared error at that scale: LSQ has none, and TDQ does not say where its own begins.

    Args:
        values: float32, any shape.
        spec: per tensor.
        observer: finds the range, or None.
    """
    flat = np.ascontiguousarray(values.reshape(-1))
    if observer is not None:
        scale, zero = parameters_from_range(*fit_range(flat, spec, observer), spec)
        return float(scale.item()), int(zero.item())
    start = _lsq(float(np.abs(flat).mean(dtype=np.float64)), spec)
    if spec.symmetric:
        return start, 0
    v = flat[:: -(-flat.size // _SEARCHED)].astype(np.float64) / start
    zeros = np.arange(spec.format.qmin, spec.format.qmax + 1)
    errors = [
        np.square(np.clip(np.round(v) + zero, spec.format.qmin, spec.format.qmax) - zero - v).mean() for zero in zeros
    ]
    return start, int(zeros[int(np.argmin(errors))])


def weight_start(weight: np.ndarray, granularity: Granularity, spec: QuantSpec) -> np.ndarray:
    """LSQ's scale of a weight, float32 in the granularity's parameter shape."""
    total = granularity.reduce(np.abs(weight.astype(np.float64)), np.add)
    count = granularity.reduce(np.ones(weight.shape), np.add)
    return np.vectorize(lambda mean: _lsq(mean, spec), otypes=[np.float32])(total / count)


def _lsq(mean: float, spec: QuantSpec) -> float:
    """2 mean / sqrt(Q_p); a float32 that is not subnormal."""
    scale = 2.0 * mean / math.sqrt(spec.format.qmax)
    return scale if scale >= np.finfo(np.float32).tiny else 1.0
