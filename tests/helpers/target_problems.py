"""Operands of a target's operations, dense in ties, for tests against peers."""

from __future__ import annotations

import numpy as np

from simulator.arithmetic.quantizer import Quantized, QuantSpec

SCALES = {"ties": (0.5, 0.25, 2.0), "thirds": (1 / 3, 1 / 7, 0.7)}


def quantized(codes: np.ndarray, spec: QuantSpec, scale: object, zero: int = 0) -> Quantized:
    """Codes with one scale, or one per output."""
    shape = spec.granularity.parameter_shape(codes.shape)
    scales = np.asarray(scale, np.float32).reshape(-1, *(1,) * (codes.ndim - 1))
    return Quantized(
        codes.astype(spec.format.dtype),
        np.broadcast_to(scales, shape).copy(),
        np.full(shape, zero, np.int32),
        spec,
    )


def scales_of(
    rng: np.random.Generator, name: str, outputs: int, per_channel: bool
) -> tuple[np.float32, np.ndarray, np.float32]:
    """(x, w, y): ties, or ratios of small integers, which land on or one rounding beside a tie."""
    x, w, y = (np.float32(s) for s in SCALES[name])
    if per_channel:
        factors = [1, 2, 4, 0.5] if name == "ties" else [1, 3, 5, 7, 1 / 2, 1 / 3, 7 / 3]
        return x, w * rng.choice(factors, outputs).astype(np.float32), y
    return x, w, y
