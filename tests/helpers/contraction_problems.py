"""Random contraction problems that cover formats, granularities, layouts and ragged sizes."""

from __future__ import annotations

from dataclasses import dataclass

import integer_reference
import numpy as np

from simulator.arithmetic import contract
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import Granularity, PerAxis, PerGroup, PerTensor
from simulator.arithmetic.operands import Activation, ScaledFormat
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.arithmetic.weights import prepare_weight

FORMATS = (
    *(IntFormat(bits, signed) for bits in (2, 4, 8) for signed in (True, False)),
    IntFormat(8, narrow=True),
    IntFormat(3, narrow=True),
)


def random_codes(rng: np.random.Generator, fmt: IntFormat, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform codes, or (one time in four) the two extreme codes alone."""
    if rng.integers(4) == 0:
        return rng.choice(np.array([fmt.qmin, fmt.qmax], fmt.dtype), shape)
    return rng.integers(fmt.qmin, fmt.qmax, shape, fmt.dtype, endpoint=True)


def random_scales(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.exp(rng.uniform(-8, 2, shape)).astype(np.float32)


@dataclass(frozen=True)
class Conv:
    """Codes of a convolution (a matmul: 1 x 1 images and a 1 x 1 kernel)."""

    x: np.ndarray
    x_format: ScaledFormat
    weight: Quantized
    bias: np.ndarray | None
    stride: tuple[int, int]
    padding: tuple[int, int]

    def engine(self, out: np.ndarray | None = None) -> np.ndarray:
        left = as_activation(self.x, self.x_format, self.padding)
        return contract.conv(left, prepare_weight(as_kernel(self.weight)), self.bias, self.geometry, out=out)

    @property
    def geometry(self) -> Geometry:
        return Geometry.of(2, stride=self.stride, padding=self.padding)

    def reference(self) -> np.ndarray:
        zero, scale, starts = grouped_parameters(self.weight)
        w = self.weight.codes.reshape(*self.weight.codes.shape[:2], *(self.weight.codes.shape[2:] or (1, 1)))
        return integer_reference.conv2d(
            self.x, self.x_format.zero_point, self.x_format.scale, w, zero, scale, starts, self.bias,
            self.stride, self.padding,
        )  # fmt: skip


def as_activation(x: np.ndarray, how: ScaledFormat, padding: tuple[int, int] = (0, 0)) -> Activation:
    """Codes to a padded left operand, in plain numpy."""
    (pad_h, pad_w), zero = padding, how.zero_point + how.left_shift
    shifted = (x.astype(np.int16) + how.left_shift).astype(np.uint8)
    padded = np.pad(shifted, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0)), constant_values=zero)
    return one_scale(np.ascontiguousarray(padded), zero, how)


def one_scale(codes: np.ndarray, zero: int, how: ScaledFormat) -> Activation:
    return Activation(codes, np.full((1, 1), zero, np.int32), np.full((1, 1), how.scale, np.float32), how.largest)


def as_kernel(weight: Quantized) -> Quantized:
    """A matrix as the 1 x 1 kernel of a convolution; kernels stay."""
    if weight.codes.ndim > 2:
        return weight
    codes, scale, zero = (a[..., None, None] for a in (weight.codes, weight.scale, weight.zero_point))
    return Quantized(codes, scale, zero, weight.spec)


def as_side(x: np.ndarray, how: ScaledFormat, side: str) -> Activation:
    """Codes to one operand of a batched matmul, in plain numpy."""
    shift = how.left_shift if side == "left" else how.right_shift
    dtype = np.uint8 if side == "left" else np.int8
    return one_scale((x.astype(np.int16) + shift).astype(dtype), how.zero_point + shift, how)


def grouped_parameters(weight: Quantized) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """(zero, scale) as (groups, outputs), and the groups' starts, by naive indexing."""
    outputs, channels = weight.codes.shape[:2]
    granularity = weight.spec.granularity
    size = granularity.size if isinstance(granularity, PerGroup) else channels
    starts = [*range(0, channels, size), channels]
    shape = weight.scale.shape

    def pick(parameter: np.ndarray) -> np.ndarray:
        flat = parameter.reshape(shape[0], shape[1])
        rows = [
            [flat[min(n, shape[0] - 1), min(g, shape[1] - 1)] for n in range(outputs)] for g in range(len(starts) - 1)
        ]
        return np.array(rows)

    return pick(weight.zero_point), pick(weight.scale), starts


def random_weight(rng: np.random.Generator, shape: tuple[int, ...], fmt: IntFormat | None = None) -> Quantized:
    fmt = fmt or FORMATS[rng.integers(len(FORMATS))]
    size = int(rng.integers(1, shape[1] + 2))
    choices: list[Granularity] = [PerTensor(), PerAxis((0,)), PerGroup(1, size), PerGroup(1, size, (0,))]
    granularity = choices[rng.integers(len(choices))]
    parameters = granularity.parameter_shape(shape)
    zero = rng.integers(fmt.qmin, fmt.qmax, parameters, endpoint=True).astype(np.int32)
    if rng.integers(3) == 0:
        zero = np.full(parameters, 0 if fmt.signed else 1 << (fmt.bits - 1), np.int32)
    return Quantized(random_codes(rng, fmt, shape), random_scales(rng, parameters), zero, QuantSpec(fmt, granularity))


def random_scaled_format(rng: np.random.Generator) -> ScaledFormat:
    fmt = FORMATS[rng.integers(len(FORMATS))]
    zero = int(rng.integers(fmt.qmin, fmt.qmax, endpoint=True)) if rng.integers(3) else max(fmt.qmin, 0)
    return ScaledFormat(QuantSpec(fmt), random_scales(rng, ())[()], zero)


def random_conv(rng: np.random.Generator) -> Conv:
    """A convolution with a kernel of 1 to 5, stride 1 or 2, padding 0 to 2, any ragged size."""
    kernel = [(1, 1), (3, 3), (5, 3), (1, 2)][rng.integers(4)]
    padding = (int(rng.integers(3)), int(rng.integers(3)))
    size = [max(k - 2 * p, 1) + int(rng.integers(6)) for k, p in zip(kernel, padding, strict=True)]
    channels, outputs = int(rng.integers(1, 14)), int(rng.choice([1, 3, 31, 32, 33, 40]))
    how = random_scaled_format(rng)
    x = random_codes(rng, how.spec.format, (int(rng.integers(1, 3)), *size, channels))
    bias = rng.normal(size=outputs).astype(np.float32) if rng.integers(2) else None
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    return Conv(x, how, random_weight(rng, (outputs, channels, *kernel)), bias, stride, padding)


def random_linear(rng: np.random.Generator) -> Conv:
    """A matmul as a convolution of 1 x 1 images; rows, outputs and depth are mostly ragged."""
    rows = int(rng.choice([1, 2, 7, 8, 9, 63, 64, 65, 130]))
    outputs, depth = int(rng.choice([1, 5, 31, 32, 33, 65])), int(rng.choice([1, 2, 3, 4, 5, 8, 16, 30, 64]))
    how = random_scaled_format(rng)
    x = random_codes(rng, how.spec.format, (rows, 1, 1, depth))
    bias = rng.normal(size=outputs).astype(np.float32) if rng.integers(2) else None
    return Conv(x, how, random_weight(rng, (outputs, depth)), bias, (1, 1), (0, 0))


@dataclass(frozen=True)
class Batched:
    """Codes of a matmul of two activations."""

    left: np.ndarray
    left_format: ScaledFormat
    right: np.ndarray
    right_format: ScaledFormat

    def engine(self, out: np.ndarray | None = None) -> np.ndarray:
        left, right = as_side(self.left, self.left_format, "left"), as_side(self.right, self.right_format, "right")
        return contract.batched_matmul(left, right, out=out)

    def reference(self) -> np.ndarray:
        return integer_reference.batched_matmul(
            self.left, self.left_format.zero_point, self.left_format.scale,
            self.right, self.right_format.zero_point, self.right_format.scale,
        )  # fmt: skip


def random_batched(rng: np.random.Generator) -> Batched:
    batch, depth = int(rng.integers(1, 4)), int(rng.choice([1, 3, 4, 7, 16, 33]))
    rows, columns = (int(rng.choice([1, 7, 8, 9, 20, 33])) for _ in range(2))
    left, right = random_scaled_format(rng), random_scaled_format(rng)
    return Batched(
        random_codes(rng, left.spec.format, (batch, rows, depth)), left,
        random_codes(rng, right.spec.format, (batch, columns, depth)), right,
    )  # fmt: skip
