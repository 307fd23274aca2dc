"""Contractions of scaled codes in numpy: int64 sums over groups of channels, then one numpy operation per rounding.

Parameters are spread over their tensor by plain division of indices. Nothing here is the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import Granularity, PerAxis, PerBlock, PerGroup, PerTensor
from simulator.arithmetic.quantizer import Quantized, QuantSpec

f32 = np.float32


def spread(parameter: np.ndarray, shape: tuple[int, ...], blocks: tuple[int, ...]) -> np.ndarray:
    """The parameter of every element, where ``blocks`` are the elements that share one along each axis."""
    return parameter[np.ix_(*(np.arange(n) // b for n, b in zip(shape, blocks, strict=True)))]


@dataclass(frozen=True)
class Scaled:
    """A quantized tensor and the lengths of its blocks."""

    tensor: Quantized
    blocks: tuple[int, ...]

    @property
    def steps(self) -> np.ndarray:
        """``code - zero_point`` as int64."""
        codes = self.tensor.codes
        return codes.astype(np.int64) - spread(self.tensor.zero_point, codes.shape, self.blocks)

    @property
    def scales(self) -> np.ndarray:
        return spread(self.tensor.scale, self.tensor.codes.shape, self.blocks)


def blocks_of(granularity: Granularity, shape: tuple[int, ...]) -> tuple[int, ...]:
    match granularity:
        case PerTensor():
            return shape
        case PerAxis(axes):
            return tuple(1 if i in axes else n for i, n in enumerate(shape))
        case PerGroup(axis, size, axes):
            return tuple(size if i == axis else 1 if i in axes else n for i, n in enumerate(shape))
        case PerBlock(sizes):
            return tuple(n if size is None else size for n, size in zip(shape, sizes, strict=True))
    raise TypeError(granularity)


def random_scaled(rng: np.random.Generator, shape: tuple[int, ...], granularity: Granularity) -> Scaled:
    fmt = IntFormat(int(rng.choice([2, 3, 4, 8, 8, 8])), bool(rng.integers(2)))
    blocks = blocks_of(granularity, shape)
    size = tuple(-(-n // b) for n, b in zip(shape, blocks, strict=True))
    codes = rng.integers(fmt.qmin, fmt.qmax, shape, np.int64, endpoint=True)
    if rng.integers(4) == 0:
        codes = rng.choice([fmt.qmin, fmt.qmax], shape)
    zero = rng.integers(fmt.qmin, fmt.qmax, size, np.int32, endpoint=True)
    scale = np.exp(rng.uniform(-6, 2, size)).astype(f32)
    return Scaled(Quantized(codes.astype(fmt.dtype), scale, zero, QuantSpec(fmt, granularity)), blocks)


def ranges(channels: int, size: int | None) -> list[slice]:
    size = size or channels
    return [slice(first, min(first + size, channels)) for first in range(0, channels, size)]


def linear_parts(x: Scaled, w: Scaled, size: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """(int64 sums, float32 scale product) of every group; x (..., depth), w (outputs, depth)."""
    found = []
    for group in ranges(w.tensor.codes.shape[-1], size):
        sums = x.steps[..., group] @ np.swapaxes(w.steps[..., group], -1, -2)
        first = group.start
        found.append((sums, x.scales[..., first][..., None] * w.scales[..., first][..., None, :]))
    return found


def conv_parts(x: Scaled, w: Scaled, geometry: Geometry, size: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Likewise; x (batch, spatial..., channel) of scales per sample, w (outputs, channels per group, spatial...)."""
    steps = np.pad(x.steps, ((0, 0), *geometry.padding, (0, 0)))
    outputs, channels, *kernel = w.tensor.codes.shape
    length = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, d, s in zip(steps.shape[1:-1], kernel, geometry.dilation, geometry.stride, strict=True)
    ]
    x_scale = x.scales.reshape(len(steps), -1)[:, :1].reshape(-1, *(1,) * (len(kernel) + 1))
    found = []
    for group in ranges(channels, size):
        sums = np.zeros((len(steps), *length, outputs), np.int64)
        for tap in product(*map(range, kernel)):
            seen = steps[
                (slice(None), *(
                    slice(t * d, t * d + (n - 1) * s + 1, s)
                    for t, d, s, n in zip(tap, geometry.dilation, geometry.stride, length, strict=True)
                ))
            ]  # fmt: skip
            for g in range(geometry.groups):
                mine = slice(g * outputs // geometry.groups, (g + 1) * outputs // geometry.groups)
                first = g * channels
                sums[..., mine] += seen[..., first + group.start : first + group.stop] @ w.steps[(mine, group, *tap)].T
        scale = w.scales.reshape(outputs, channels, -1)[:, group.start, 0]
        found.append((sums, np.broadcast_to(x_scale * scale, sums.shape)))
    return found


def held(values: np.ndarray, kind: str) -> np.ndarray:
    """float32 rounded to a register, ties to even."""
    if kind == "float16":
        return values.astype(np.float16).astype(f32)
    if kind == "bfloat16":
        bits = values.view(np.uint32).astype(np.uint64)
        kept = ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)) << np.uint64(16)
        return kept.astype(np.uint32).view(f32)
    return values


def added(parts: list, bias: np.ndarray | None = None, kind: str = "float32", *, pairwise: bool = False) -> np.ndarray:
    """Rescaled groups in a register, in ascending order or neighbours first."""
    with np.errstate(over="ignore", invalid="ignore"):
        level = [held(sums.astype(f32) * scale, kind) for sums, scale in parts]
        while len(level) > 1:
            last = len(level) if pairwise else 2
            heads = [held(level[i] + level[i + 1], kind) for i in range(0, last - 1, 2)]
            level = heads + level[len(heads) * 2 :]
        return level[0] if bias is None else held(level[0] + bias, kind)


def onnxruntime(acc, x_scale, w_scale, y_scale, zero, fmt, bias) -> np.ndarray:
    multiplier = (f32(x_scale) * w_scale) / f32(y_scale)
    return np.clip(np.rint((acc + bias).astype(f32) * multiplier).astype(np.int64) + zero, fmt.qmin, fmt.qmax)


def onednn(acc, x_scale, w_scale, y_scale, zero, fmt, bias) -> np.ndarray:
    real = acc.astype(f32) * f32(x_scale) * w_scale + bias.astype(f32)
    return np.clip(np.rint(real * (f32(1) / f32(y_scale)) + f32(zero)), fmt.qmin, fmt.qmax).astype(np.int64)


def tflite_conv(acc, x_scale, w_scale, y_scale, zero, fmt, bias) -> np.ndarray:
    """gemmlowp: a high product to nearest with ties up, then a division by 2**right to nearest with ties away."""
    fraction, shift = np.frexp(np.float64(x_scale) * w_scale.astype(float) / np.float64(y_scale))
    multiplier = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    high = (((acc + bias) << left) * multiplier + 2**30) >> 31
    away = (2 * np.abs(high) + (np.int64(1) << right)) >> (right + 1)
    return np.clip(np.sign(high) * away + zero, fmt.qmin, fmt.qmax)


FORMULAS = {"onnxruntime": onnxruntime, "onednn": onednn, "tflite-conv": tflite_conv}
