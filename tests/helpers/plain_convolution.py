"""Convolution by its definition: a sum over taps in Python integers or int64, no window and no packing."""

from __future__ import annotations

from itertools import product

import numpy as np

from simulator.arithmetic.geometry import Geometry


def convolve(x, w, geometry: Geometry, x_zero=0, w_zero=0) -> np.ndarray:
    """int64 (batch, output size..., outputs); x (batch, spatial..., channel), w (outputs, channels, spatial...)."""
    outputs, channels, *kernel = w.shape
    share = outputs // geometry.groups
    steps = np.pad(x.astype(np.int64) - x_zero, ((0, 0), *geometry.padding, (0, 0)))
    weights = w.astype(np.int64) - np.broadcast_to(w_zero, (outputs,)).reshape(-1, *(1,) * (w.ndim - 1))
    size = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, d, s in zip(steps.shape[1:-1], kernel, geometry.dilation, geometry.stride, strict=True)
    ]
    out = np.zeros((len(x), *size, outputs), np.int64)
    for n in range(outputs):
        first = (n // share) * channels
        for position in product(*map(range, kernel)):
            taken = tuple(
                slice(t * d, t * d + (length - 1) * s + 1, s)
                for t, d, s, length in zip(position, geometry.dilation, geometry.stride, size, strict=True)
            )
            seen = steps[(slice(None), *taken)][..., first : first + channels]
            out[..., n] += (seen * weights[(n, slice(None), *position)]).sum(axis=-1)
    return out


def random_geometry(rng: np.random.Generator, axes: int) -> Geometry:
    pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (axes, 2)))
    stride, dilation = (tuple(int(n) for n in rng.integers(1, 3, axes)) for _ in range(2))
    return Geometry(stride, pads, dilation, int(rng.choice([1, 1, 2, 3])))


def random_operands(rng: np.random.Generator, geometry: Geometry, x_type="u1", w_type="i1", depthwise=False):
    """Codes (x, w, x_zero, w_zero) that fit the geometry, over the whole range of their types."""
    kernel = tuple(int(n) for n in rng.integers(1, 4, geometry.axes))
    size = tuple(
        max(1, d * (k - 1) + 1 - sum(pads)) + int(rng.integers(4))
        for k, d, pads in zip(kernel, geometry.dilation, geometry.padding, strict=True)
    )
    channels = 1 if depthwise else int(rng.integers(1, 6))
    share = int(rng.integers(1, 4)) if geometry.groups > 1 else int(rng.choice([1, 5, 33]))
    x_range, w_range = np.iinfo(x_type), np.iinfo(w_type)

    def codes(info, shape):
        return rng.integers(info.min, info.max, shape, info.dtype, endpoint=True)

    x = codes(x_range, (int(rng.integers(1, 3)), *size, channels * geometry.groups))
    w = codes(w_range, (share * geometry.groups, channels, *kernel))
    w_zero = codes(w_range, len(w)) if rng.integers(2) else int(codes(w_range, ()))
    return x, w, int(codes(x_range, ())), w_zero
