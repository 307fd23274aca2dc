"""Left operands: quantized activations in the form the contraction kernels take.

The tile multiplies unsigned by signed bytes. Any codes of up to 8 bits fit by an exact shift of code and zero point
together: on the left signed codes move up by 128, on the right unsigned codes move down by 128; ``code - zero_point``
does not change, so no result does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.activation import Activation
from simulator.arithmetic.arguments import is_integer, require_array, require_integer, require_kind
from simulator.arithmetic.byte_codes import (
    largest_step,
    left_shift,
    require_byte_codes,
    require_byte_format,
    right_shift,
)
from simulator.arithmetic.geometry import Geometry, require_geometry
from simulator.arithmetic.granularity import PerTensor
from simulator.arithmetic.kernels import quantize as quantize_kernels
from simulator.arithmetic.quantizer import Quantized, QuantSpec, require_scale, require_seed, require_zero_point
from simulator.arithmetic.rules import DIVIDE

LARGEST_IMAGE = 1 << 40


@dataclass(frozen=True)
class ScaledFormat:
    """A per-tensor spec with its parameters: all that is needed to quantize a stream of tensors statically.

    The scale is rounded to float32 here, so that every division by it is one of float32. ``seed`` is that of
    stochastic rounding: every tensor quantized with this value draws the same random words, element by element.

    Raises:
        BadInput: more than 8 bits, another granularity or rule, a scale that is not positive and finite in float32, a
            zero point outside the format's range.
    """

    spec: QuantSpec
    scale: np.float32
    zero_point: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_kind("spec", self.spec, QuantSpec)
        require_byte_format(self.spec)
        require_seed(self.seed)
        if self.spec.rule != DIVIDE:
            raise BadInput(
                "operands are quantized by the rule divide", got=self.spec.rule, fix="quantize the tensor yourself"
            )
        if not (is_integer(self.scale) or isinstance(self.scale, float | np.floating)):
            raise BadInput("scale must be one number", got=repr(self.scale)[:60], fix="give a float32")
        with np.errstate(over="ignore", under="ignore"):
            object.__setattr__(self, "scale", np.float32(float(self.scale) if abs(self.scale) < 2**128 else np.inf))
        require_scale(self.scale)
        object.__setattr__(self, "zero_point", require_integer("zero_point", self.zero_point))
        object.__setattr__(self, "seed", int(self.seed))
        require_zero_point(self.zero_point, self.spec.format)
        if not isinstance(self.spec.granularity, PerTensor):
            raise BadInput(
                "an activation quantized statically needs one scale for the whole tensor",
                got=self.spec.granularity,
                fix="use PerTensor(), or quantize() and left_operand()",
            )

    @property
    def largest(self) -> int:
        """Largest ``|code - zero_point|``."""
        return max(self.spec.format.qmax - self.zero_point, self.zero_point - self.spec.format.qmin)

    @property
    def left_shift(self) -> int:
        """What is added to a code to make it an unsigned byte."""
        return left_shift(self.spec)

    @property
    def right_shift(self) -> int:
        """What is added to a code to make it a signed byte."""
        return right_shift(self.spec)


def quantize_image(x: np.ndarray, how: ScaledFormat, geometry: Geometry | None = None) -> Activation:
    """Quantize float32 (batch, spatial..., channel) into a left operand padded for ``geometry``, in one pass.

    A padded tap holds the zero point, that is the real value 0.

    Raises:
        BadInput: another dtype, or another number of spatial axes than the geometry has.
    """
    require_array("x", x, np.float32)
    require_kind("how", how, ScaledFormat)
    geometry = require_geometry(geometry, x.ndim)
    size, pads = _padded(x.shape, geometry)
    out = np.empty(size, np.uint8)
    clipped = quantize_kernels.quantize_image(
        np.ascontiguousarray(x).reshape(_five_axes(x.shape)),
        *kernel_arguments(how, how.left_shift),
        pads,
        out.reshape(_five_axes(size)),
    )
    return _one_scale(out, how, how.left_shift, int(clipped))


def quantize_matrices(x: np.ndarray, how: ScaledFormat, *, side: str) -> Activation:
    """Quantize float32 (..., rows, depth) into an operand of a matmul (``side`` left or right).

    Raises:
        BadInput: another dtype, no axis, or another side.
    """
    require_array("x", x, np.float32)
    require_kind("how", how, ScaledFormat)
    if not x.ndim:
        raise BadInput("x must be (..., rows, depth)", got=x.shape, fix="reshape it")
    if not isinstance(side, str) or side not in ("left", "right"):
        raise BadInput("side must be left or right", got=repr(side), fix="name the operand's side of the product")
    shift = how.left_shift if side == "left" else how.right_shift
    out = np.empty(x.shape, np.uint8)
    rows = np.ascontiguousarray(x).reshape(prod(x.shape[:-1]), x.shape[-1])
    clipped = quantize_kernels.quantize_rows(rows, *kernel_arguments(how, shift), out.reshape(rows.shape))
    return _one_scale(out if side == "left" else out.view(np.int8), how, shift, int(clipped))


def left_operand(quantized: Quantized) -> Activation:
    """A quantized tensor (..., depth), or image (batch, spatial..., channel), as a left operand.

    Raises:
        BadInput: codes wider than 8 bits or outside their format, no depth, or scales that vary along the last axis
            other than by groups.
    """
    require_byte_codes(quantized)
    granularity, shape, codes = quantized.spec.granularity, quantized.scale.shape, quantized.codes
    group_size = granularity.group_size(codes.ndim - 1) if shape[-1] != 1 else None
    if shape[-1] != 1 and group_size is None:
        raise BadInput(
            "a left operand's scale may vary along the last axis by groups only",
            got=granularity,
            fix="use PerGroup(last axis, size, ...), or PerAxis over leading axes",
        )
    if not codes.ndim or not codes.size:
        raise BadInput("a left operand must be (..., depth), not empty", got=codes.shape, fix="reshape it")
    shift = left_shift(quantized.spec)
    leading = codes.shape[: max((i + 1 for i, n in enumerate(shape[:-1]) if n != 1), default=0)]

    def parameters(values: np.ndarray) -> np.ndarray:
        full = granularity.expand(values, codes.shape)[..., :: group_size or codes.shape[-1]]
        few = full.reshape(*leading, -1, full.shape[-1])[..., 0, :]
        return np.ascontiguousarray(few.reshape(-1, full.shape[-1]).T)

    return Activation(
        (codes.astype(np.int16) + shift).astype(np.uint8),
        parameters(quantized.zero_point) + np.int32(shift),
        parameters(quantized.scale),
        largest_step(quantized),
        quantized.clipped,
        group_size,
    )


def pad(image: Activation, geometry: Geometry) -> Activation:
    """An image padded for ``geometry`` with its zero points.

    Raises:
        BadInput: another number of spatial axes, or zero points that vary along channels.
    """
    require_kind("image", image, Activation)
    require_array("an image's bytes", image.bytes, np.uint8)
    require_kind("geometry", geometry, Geometry)
    batch, (size, pads) = image.bytes.shape[0], _padded(image.bytes.shape, geometry)
    if image.zero.shape[0] != 1 or image.zero.shape[1] not in (1, batch):
        raise BadInput(
            "an image's scale may vary over samples only",
            got=f"{image.zero.shape[1]} parameters",
            fix="use PerTensor()",
        )
    if not pads.any():
        return image
    fill = np.broadcast_to(image.zero[0], (batch,)).astype(np.uint8)
    out = np.empty(size, np.uint8)
    out[:] = fill.reshape(-1, *(1,) * (len(size) - 1))
    inner = tuple(
        slice(before, before + n) for (before, _), n in zip(geometry.padding, image.bytes.shape[1:-1], strict=True)
    )
    out[(slice(None), *inner)] = image.bytes
    return replace(image, bytes=out)


def _one_scale(codes: np.ndarray, how: ScaledFormat, shift: int, clipped: int) -> Activation:
    zero, scale = np.full((1, 1), how.zero_point + shift, np.int32), np.full((1, 1), how.scale, np.float32)
    return Activation(codes, zero, scale, how.largest, clipped)


def _padded(shape: tuple[int, ...], geometry: Geometry) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape of the padded image, and the padding of three spatial axes as int64 (3, 2)."""
    if len(shape) != geometry.axes + 2:
        raise BadInput(
            f"an image must have a batch, {geometry.axes} spatial and a channel axis", got=shape, fix="reshape it"
        )
    spatial = tuple(n + before + after for n, (before, after) in zip(shape[1:-1], geometry.padding, strict=True))
    if prod(spatial) * shape[0] * shape[-1] >= LARGEST_IMAGE:
        raise BadInput("a padded image must have fewer than 2**40 elements", got=spatial, fix="pad less")
    pads = np.array([(0, 0)] * (3 - geometry.axes) + list(geometry.padding), np.int64)
    return (shape[0], *spatial, shape[-1]), pads


def _five_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(batch, depth, height, width, channel)."""
    return (shape[0], *(1,) * (5 - len(shape)), *shape[1:])


def kernel_arguments(how: ScaledFormat, shift: int) -> tuple:
    """What the quantize kernels take between an array and its codes, which are moved by ``shift``."""
    format = how.spec.format
    return how.scale, how.zero_point, format.qmin, format.qmax, shift, how.spec.rounding.value, np.uint64(how.seed)
