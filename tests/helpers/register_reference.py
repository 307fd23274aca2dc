"""Limited accumulators step by step in numpy over all outputs at once: fast enough for sweeps, plain enough to read."""

from __future__ import annotations

import numpy as np

from simulator.arithmetic.accumulator import Accumulator, Bias, ZeroPoint


def saturate(x, w, accumulator: Accumulator, x_zero, w_zero, bias):
    """Values (rows, outputs) and how many outputs saturated, for SATURATE. ``w_zero`` and ``bias`` (outputs,)."""
    x, w = x.astype(np.int64), w.astype(np.int64)
    inside = accumulator.zero_point is ZeroPoint.INSIDE
    left, right = (x - x_zero, w - w_zero[:, None]) if inside else (x, w)
    starts = range(0, x.shape[1], accumulator.tree)
    steps = [left[:, i : i + accumulator.tree] @ right[:, i : i + accumulator.tree].T for i in starts]
    steps = [bias, *steps] if accumulator.bias is Bias.FIRST else [*steps, bias]
    register = np.zeros((len(x), len(w)), np.int64)
    lost = np.zeros(register.shape, bool)
    for step in steps:
        total = register + step
        register = np.clip(total, accumulator.smallest, accumulator.largest)
        lost |= register != total
    if not inside:
        register = register + x.shape[1] * x_zero * w_zero - x_zero * w.sum(1) - np.multiply.outer(x.sum(1), w_zero)
    return register, int(lost.sum())


def codes(rng: np.random.Generator, shape, bits: int, signed: bool) -> np.ndarray:
    """Codes of ``bits`` bits in their smallest dtype: uniform, the two extremes alone, or both mixed."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    extremes = rng.random(shape) < rng.choice([0, 0.5, 1])
    values = np.where(extremes, rng.choice([low, high], shape), rng.integers(low, high, shape, endpoint=True))
    return values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
