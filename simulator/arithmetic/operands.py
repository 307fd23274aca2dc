"""Operands in the form the contraction kernels take.

The tile multiplies unsigned by signed bytes. Any codes of up to 8 bits fit by an exact shift of code and zero point
together: on the left signed codes move up by 128, on the right unsigned codes move down by 128; ``code - zero_point``
does not change, so no result does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.certificate import Certificate, certify
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.kernels import quantize as quantize_kernels
from simulator.arithmetic.kernels.tile import DEPTH, pack, packed_shape
from simulator.arithmetic.quantizer import Quantized, QuantSpec, require_scale, require_seed, require_zero_point
from simulator.arithmetic.rules import DIVIDE

SHIFT = 128


@dataclass(frozen=True)
class Activation:
    """A left operand: per-tensor quantized codes as unsigned bytes.

    Attributes:
        bytes: uint8, C-contiguous; ``real = (bytes - zero) * scale``.
        zero: the zero point's byte.
        scale: float32 scalar.
        largest: largest ``|code - zero_point|`` of the format (not of the data).
        clipped: elements that fell outside the code range.
    """

    bytes: np.ndarray
    zero: int
    scale: np.float32
    largest: int
    clipped: int = 0


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
        _byte_format(self.spec)
        require_seed(self.seed)
        if self.spec.rule != DIVIDE:
            raise BadInput(
                "operands are quantized by the rule divide", got=self.spec.rule, fix="quantize the tensor yourself"
            )
        object.__setattr__(self, "scale", np.float32(self.scale))
        require_scale(self.scale)
        require_zero_point(self.zero_point, self.spec.format)
        if not isinstance(self.spec.granularity, PerTensor):
            raise BadInput(
                "an activation needs one scale for the whole tensor",
                got=self.spec.granularity,
                fix="use PerTensor()",
            )

    @property
    def largest(self) -> int:
        """Largest ``|code - zero_point|``."""
        return max(self.spec.format.qmax - self.zero_point, self.zero_point - self.spec.format.qmin)

    @property
    def left_shift(self) -> int:
        """What is added to a code to make it an unsigned byte."""
        return SHIFT if self.spec.format.signed else 0

    @property
    def right_shift(self) -> int:
        """What is added to a code to make it a signed byte."""
        return 0 if self.spec.format.signed else -SHIFT


def quantize_image(x: np.ndarray, how: ScaledFormat, padding: tuple[int, int] = (0, 0)) -> Activation:
    """Quantize float32 (batch, height, width, channel) into a zero-padded left operand, in one pass.

    A padded tap holds the zero point, that is the real value 0.
    """
    _require_float32(x)
    batch, height, width, channels = x.shape
    pad_h, pad_w = padding
    out = np.empty((batch, height + 2 * pad_h, width + 2 * pad_w, channels), np.uint8)
    clipped = quantize_kernels.quantize_image(x, *_arguments(how, how.left_shift), pad_h, pad_w, out)
    return Activation(out, how.zero_point + how.left_shift, how.scale, how.largest, int(clipped))


def quantize_matrices(x: np.ndarray, how: ScaledFormat, *, side: str) -> Activation:
    """Quantize float32 (batch, rows, depth) into an operand of a batched matmul (``side`` left or right)."""
    _require_float32(x)
    if side not in ("left", "right"):
        raise BadInput("side must be left or right", got=repr(side), fix="name the operand's side of the product")
    shift = how.left_shift if side == "left" else how.right_shift
    out = np.empty(x.shape, np.uint8)
    rows = x.reshape(-1, x.shape[-1])
    clipped = quantize_kernels.quantize_rows(rows, *_arguments(how, shift), out.reshape(rows.shape))
    carrier = out if side == "left" else out.view(np.int8)
    return Activation(carrier, how.zero_point + shift, how.scale, how.largest, int(clipped))


def _arguments(how: ScaledFormat, shift: int) -> tuple:
    format = how.spec.format
    return how.scale, how.zero_point, format.qmin, format.qmax, shift, how.spec.rounding.value, np.uint64(how.seed)


@dataclass(frozen=True)
class PreparedWeight:
    """A weight packed for the tile, made once and used in every call.

    Attributes:
        packed: codes as signed bytes in the tile's order.
        kernel: (height, width) of a convolution, (1, 1) of a linear layer.
        starts: int64, first input channel of each group, and the number of channels last.
        steps: int64, tile steps per group; ``first_step`` their running start; ``depths`` the products per group.
        scale: float32 (groups, outputs).
        zero: int32 (groups, outputs), shifted with the codes.
        column_sum: int32 (groups, outputs), sums of the shifted codes.
        absolute_sum: int64 (groups, outputs), sums of ``|code - zero_point|``: what certificates need.
    """

    packed: np.ndarray
    kernel: tuple[int, int]
    starts: np.ndarray
    steps: np.ndarray
    first_step: np.ndarray
    depths: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    column_sum: np.ndarray
    absolute_sum: np.ndarray

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.scale.shape[1]

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return int(self.starts[-1])

    def certificate(self, largest: int) -> Certificate:
        """Provable bounds for left operands with ``|code - zero_point| <= largest``."""
        return certify(int(self.absolute_sum.max(initial=0)), largest)


def prepare_weight(weight: Quantized) -> PreparedWeight:
    """Pack a quantized weight (outputs, inputs) or (outputs, inputs, height, width).

    The contraction order is (group of input channels, kernel row, kernel column, channel in group). Scales may vary
    over outputs and over groups of axis 1.

    Raises:
        BadInput: a granularity that cannot be lowered, or codes wider than 8 bits.
    """
    _byte_format(weight.spec)
    codes = weight.codes.reshape(*weight.codes.shape[:2], *(weight.codes.shape[2:] or (1, 1)))
    outputs, channels, height, width = codes.shape
    granularity = weight.spec.granularity
    supported = (
        isinstance(granularity, PerTensor)
        or (isinstance(granularity, PerAxis) and granularity.axes == (0,))
        or (isinstance(granularity, PerGroup) and granularity.axis == 1 and set(granularity.axes) <= {0})
    )
    if not supported:
        raise BadInput(
            "a weight's scale may vary over outputs (axis 0) and groups of inputs (axis 1) only",
            got=granularity,
            fix="use PerTensor(), PerAxis((0,)) or PerGroup(1, size, (0,))",
        )
    size = granularity.size if isinstance(granularity, PerGroup) else channels
    starts = np.append(np.arange(0, channels, size), channels)
    depths = np.diff(starts) * height * width
    steps = -(-depths // DEPTH)
    shift = 0 if weight.spec.format.signed else -SHIFT
    groups = len(depths)

    def per_group(parameter: np.ndarray) -> np.ndarray:
        flat = parameter.reshape(parameter.shape[0], -1)  # (outputs or 1, groups or 1)
        return np.ascontiguousarray(np.broadcast_to(flat, (outputs, groups)).T)

    zero = (per_group(weight.zero_point) + shift).astype(np.int32)
    rows = np.zeros((outputs, DEPTH * int(steps.sum())), np.int8)
    column_sum = np.zeros((groups, outputs), np.int32)
    absolute_sum = np.zeros((groups, outputs), np.int64)
    first_step = np.cumsum(steps) - steps
    for g in range(groups):
        part = codes[:, starts[g] : starts[g + 1]].transpose(0, 2, 3, 1).reshape(outputs, -1).astype(np.int64) + shift
        rows[:, DEPTH * first_step[g] : DEPTH * first_step[g] + depths[g]] = part
        column_sum[g] = part.sum(axis=1)
        absolute_sum[g] = np.abs(part - zero[g][:, None]).sum(axis=1)
    packed = np.zeros(packed_shape(outputs, rows.shape[1]), np.int8)
    pack(rows, packed)
    scale = per_group(weight.scale).astype(np.float32)
    return PreparedWeight(
        packed, (height, width), starts, steps, first_step, depths, scale, zero, column_sum, absolute_sum
    )


def _require_float32(x: np.ndarray) -> None:
    if x.dtype != np.float32:
        raise BadInput("x must be float32", got=x.dtype, fix="convert it first, so that the rounding is yours")


def _byte_format(spec: QuantSpec) -> None:
    if spec.format.bits > 8:
        raise BadInput("integer contractions take codes of up to 8 bits", got=spec.format, fix="use 8 bits or fewer")
