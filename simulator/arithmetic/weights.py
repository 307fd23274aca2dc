"""Right operands: matrices and convolution kernels packed for the tile, once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_integer
from simulator.arithmetic.byte_codes import largest_step, require_byte_codes, right_shift
from simulator.arithmetic.certificate import Certificate, certify
from simulator.arithmetic.kernels import contract as kernels
from simulator.arithmetic.kernels.tile import DEPTH, packed_shape
from simulator.arithmetic.quantizer import Quantized


@dataclass(frozen=True)
class PreparedWeight:
    """A right operand packed for the tile, made once and used in every call.

    It holds ``parts`` matrices (outputs, depth): one for a linear layer, one per channel group of a convolution, one
    per batch of a batched matmul. Parameters lie along (part, output).

    Attributes:
        packed: codes as signed bytes in the tile's order, (parts * blocks, ...); of a depthwise kernel
            ``code - zero_point`` as int16 (taps, parts * outputs), with zero points 0.
        parts: number of matrices.
        outputs: rows of each.
        kernel: spatial size of a convolution's kernel, () of a matrix.
        groups: int64 (groups, 4): first input channel, channels, first tile step, tile steps of each scale group.
        scale: float32 (groups, parts * outputs).
        zero: int32, same shape, shifted with the codes.
        column_sum: int32, same shape, sums of the shifted codes.
        absolute_sum: largest sum of ``|code - zero_point|`` over one group of one output: what certificates need.
    """

    packed: np.ndarray
    parts: int
    outputs: int
    kernel: tuple[int, ...]
    groups: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    column_sum: np.ndarray
    absolute_sum: int

    @cached_property
    def any_zero(self) -> bool:
        """Whether a zero point is not 0."""
        return bool(self.zero.any())

    @property
    def depthwise(self) -> bool:
        """Whether every part has one input channel, and sums run over taps alone."""
        return self.packed.dtype == np.int16

    @cached_property
    def blocks(self) -> int:
        """Packed column blocks of each part."""
        return len(self.packed) // self.parts

    @cached_property
    def channels(self) -> int:
        """Input channels of one part."""
        return int(self.groups[-1, 0] + self.groups[-1, 1])

    @cached_property
    def depth(self) -> int:
        """Products of one output."""
        return self.channels * prod(self.kernel)

    def certificate(self, largest: int) -> Certificate:
        """Provable bounds for left operands with ``|code - zero_point| <= largest``."""
        return certify(self.absolute_sum, largest)


def prepare_weight(
    weight: Quantized, *, parts: int = 1, group_size: int | None = None, sizes: tuple[int, ...] | None = None
) -> PreparedWeight:
    """Pack a quantized weight (outputs, inputs) or (outputs, inputs per group, spatial...).

    The contraction order is (group of input channels, kernel position, channel in group). Scales may vary over
    outputs and over groups of axis 1.

    Args:
        weight: codes with their parameters.
        parts: channel groups of a grouped convolution.
        group_size: input channels summed in one int32 before rescaling; by default those that share a weight scale.
            Given to match an activation whose scales vary over groups of channels.
        sizes: lengths of consecutive groups instead, that make up the input channels; scales then do not vary over
            channels. The left operand's groups (scales and zero points) follow them, its ``group_size`` is None.

    Raises:
        BadInput: a granularity that cannot be lowered, codes wider than 8 bits, an empty weight, outputs that parts do
            not divide, a group size that weight groups do not share, or other sizes.
    """
    require_byte_codes(weight)
    parts = require_integer("parts", parts, 1)
    if weight.codes.ndim < 2 or not weight.codes.size:
        raise BadInput(
            "a weight must be (outputs, inputs, ...) and not empty", got=weight.codes.shape, fix="reshape it"
        )
    outputs, channels, *kernel = weight.codes.shape
    if outputs % parts:
        raise BadInput("parts must divide the outputs", got=f"{parts} for {outputs}", fix="check groups")
    if sizes is None:
        groups = _layout(channels, _group_size(weight, channels, group_size), prod(kernel))
    else:
        groups = _layout_of(weight, sizes, prod(kernel))
    per_output = weight.codes.reshape(outputs, channels, -1)

    def per_group(parameter: np.ndarray) -> np.ndarray:
        full = weight.spec.granularity.expand(parameter, weight.codes.shape).reshape(outputs, channels, -1)
        return np.ascontiguousarray(full[:, groups[:, 0], 0].T)

    if channels == 1 and parts > 1:
        return _depthwise(per_output[:, 0], per_group(weight.zero_point), per_group(weight.scale), parts, tuple(kernel))
    zero, shift = per_group(weight.zero_point), right_shift(weight.spec)
    rows = np.zeros((outputs, DEPTH * int(groups[-1, 2] + groups[-1, 3])), np.int8)
    largest = 0
    for g, (start, count, first_step, _) in enumerate(groups):
        part = per_output[:, start : start + count].transpose(0, 2, 1).reshape(outputs, -1).astype(np.int32)
        rows[:, DEPTH * first_step : DEPTH * first_step + part.shape[1]] = part + shift
        largest = max(largest, int(np.abs(part - zero[g][:, None]).sum(axis=1, dtype=np.int64).max()))
    matrices = rows.reshape(parts, outputs // parts, -1)
    return _pack(matrices, tuple(kernel), groups, per_group(weight.scale), zero + np.int32(shift), largest)


def prepare_matrices(right: Quantized) -> PreparedWeight:
    """Pack matrices (..., outputs, depth) of a batched matmul, one part per batch.

    Scales may vary over batches and outputs.

    Raises:
        BadInput: codes wider than 8 bits, an empty operand, or scales that vary along the last axis.
    """
    require_byte_codes(right)
    codes = right.codes
    if codes.ndim < 2 or not codes.size or right.scale.shape[-1] != 1:
        raise BadInput(
            "a right operand must be (..., outputs, depth), not empty, its scale constant along the last axis",
            got=f"{codes.shape} with scales {right.scale.shape}",
            fix="use PerTensor(), or PerAxis over other axes",
        )
    shift = right_shift(right.spec)
    rows = (codes.astype(np.int16) + shift).astype(np.int8).reshape(-1, *codes.shape[-2:])

    def per_output(parameter: np.ndarray) -> np.ndarray:
        full = right.spec.granularity.expand(parameter, codes.shape)
        return np.ascontiguousarray(full[..., 0].reshape(1, -1))

    zero = per_output(right.zero_point) + np.int32(shift)
    return pack_matrices(rows, per_output(right.scale), zero, largest_step(right))


def pack_matrices(
    rows: np.ndarray, scale: np.ndarray, zero: np.ndarray, largest: int, *, group_size: int | None = None
) -> PreparedWeight:
    """Pack signed bytes (parts, outputs, depth) whose ``|code - zero|`` never exceeds ``largest``.

    ``scale`` and ``zero`` are (1, parts * outputs). ``group_size`` is a multiple of the tile's step.
    """
    depth = rows.shape[-1]
    size = min(group_size or depth, depth)
    groups = _layout(depth, size, 1)
    if len(groups) > 1:
        scale, zero = (np.repeat(values, len(groups), axis=0) for values in (scale, zero))
    return _pack(np.ascontiguousarray(rows), (), groups, scale, zero, size * largest)


def _depthwise(
    codes: np.ndarray, zero: np.ndarray, scale: np.ndarray, parts: int, kernel: tuple[int, ...]
) -> PreparedWeight:
    """Codes (outputs, taps) with one input channel each."""
    taps = np.ascontiguousarray((codes.astype(np.int32) - zero.T).T.astype(np.int16))
    sums, largest = taps.sum(axis=0, dtype=np.int32), int(np.abs(taps.astype(np.int64)).sum(axis=0).max())
    groups = _layout(1, 1, len(taps))
    return PreparedWeight(
        taps, parts, len(codes) // parts, kernel, groups, scale, np.zeros_like(zero), sums[None], largest
    )


def _pack(
    rows: np.ndarray, kernel: tuple[int, ...], groups: np.ndarray, scale: np.ndarray, zero: np.ndarray, largest: int
) -> PreparedWeight:
    parts, outputs, depth = rows.shape
    taps = prod(kernel)
    shape = packed_shape(outputs, depth)
    packed: np.ndarray = np.empty((parts, *shape), np.int8)
    sums: np.ndarray = np.empty((len(groups), parts, outputs), np.int32)
    kernels.pack_batches(rows, groups, taps, packed, sums)
    packed, sums = packed.reshape(parts * shape[0], *shape[1:]), sums.reshape(len(groups), -1)
    return PreparedWeight(
        packed, parts, outputs, kernel, groups, scale.astype(np.float32, copy=False), zero, sums, largest
    )


def _group_size(weight: Quantized, channels: int, wanted: int | None) -> int:
    granularity, shape = weight.spec.granularity, weight.scale.shape
    own: int | None = None
    if shape[1] != 1:
        own = granularity.group_size(1)
    if any(n != 1 for n in shape[2:]) or (shape[1] != 1 and own is None):
        raise BadInput(
            "a weight's scale may vary over outputs (axis 0) and groups of inputs (axis 1) only",
            got=granularity,
            fix="use PerTensor(), PerAxis((0,)), PerGroup(1, size, (0,)) or PerBlock",
        )
    if wanted is not None:
        wanted = require_integer("group_size", wanted, 1)
    if wanted is not None and own not in (None, wanted):
        raise BadInput("group_size must be that of the weight's own groups", got=f"{wanted}, not {own}", fix="drop it")
    return min(own or wanted or channels, channels)


def _layout_of(weight: Quantized, sizes: tuple[int, ...], taps: int) -> np.ndarray:
    """``groups`` of a PreparedWeight with groups of several lengths."""
    channels = weight.codes.shape[1]
    counts = np.array([require_integer("a size", size, 1) for size in sizes], np.int64)
    if counts.sum() != channels or weight.scale.shape[1] != 1:
        raise BadInput(
            f"sizes must make up the {channels} input channels, which have one scale",
            got=f"{sizes} for scales {weight.scale.shape}",
            fix="use PerAxis((0,)), and sizes of all groups",
        )
    steps = -(-counts * taps // DEPTH)
    return np.stack([np.cumsum(counts) - counts, counts, np.cumsum(steps) - steps, steps], axis=1)


@lru_cache(maxsize=256)
def _layout(channels: int, size: int, taps: int) -> np.ndarray:
    """``groups`` of a PreparedWeight; not to be written to."""
    starts = np.arange(0, channels, size)
    counts = np.minimum(size, channels - starts)
    steps = -(-counts * taps // DEPTH)
    return np.stack([starts, counts, np.cumsum(steps) - steps, steps], axis=1).astype(np.int64)
