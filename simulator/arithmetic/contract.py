"""Integer contractions: linear, convolution and batched matmul in exact integer arithmetic.

Quantized operands ``x = (q - z) s`` turn a contraction into an exact integer sum and one rescaling::

    y_mn = sum_k x_mk w_nk = s_m s_n * sum_k (q_mk - z_m)(q_nk - z_n)  (+ bias_n)

Scales and zero points may vary over rows and outputs; along k by groups g, each summed apart. The sums are exact int32
(a certificate excludes overflow, or a typed error is raised). The float epilogue rounds each operation to float32 in
this order: ``s = f32(s_m * s_n)``, ``y = f32(f32(sum) * s)``, with groups ``y = f32(y + f32(f32(sum_g) * s_g))`` in
group order, last ``y = f32(y + bias)``. The ``_sums`` forms give the integers themselves.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_array, require_kind, require_output, require_shape
from simulator.arithmetic.geometry import Geometry, require_geometry
from simulator.arithmetic.kernels import contract as kernels
from simulator.arithmetic.kernels import depthwise
from simulator.arithmetic.kernels.contract import CHUNK
from simulator.arithmetic.operands import Activation
from simulator.arithmetic.weights import PreparedWeight, pack_matrices

SMALL = 1 << 20
"""Products below which one thread is faster than waking the others."""

NO_SUMS, _NO_OUT = np.empty((0, 0, 0), np.int32), np.empty((0, 0), np.float32)


def conv(
    x: Activation,
    weight: PreparedWeight,
    bias: np.ndarray | None = None,
    geometry: Geometry | None = None,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Convolve a padded image (batch, spatial..., channel) with a prepared weight.

    Args:
        x: left operand, padded for ``geometry`` (``quantize_image`` or ``pad``); scales may vary over samples.
        weight: prepared with ``parts=geometry.groups``.
        bias: float32 (outputs,), or None.
        geometry: strides, dilation and groups; 1 everywhere by default.
        out: float32 (batch, output size..., outputs), C-contiguous, allocated if absent.

    Raises:
        BadInput: operands that do not fit each other, an image smaller than the kernel, a bias or output of another
            shape or dtype, or a sum that could exceed int32.
    """
    image, window, shape = _image(x, weight, geometry)
    out = require_output(out, shape, np.float32)
    _contract(x, image, window, weight, weight.parts, bias, NO_SUMS, out.reshape(-1, shape[-1]))
    return out


def conv_sums(
    x: Activation, weight: PreparedWeight, geometry: Geometry | None = None, *, out: np.ndarray | None = None
) -> np.ndarray:
    """The int32 sums of :func:`conv`, (groups, batch, output size..., outputs): one per group of input channels."""
    image, window, shape = _image(x, weight, geometry)
    sums = require_output(out, (len(weight.groups), *shape), np.int32)
    _contract(x, image, window, weight, weight.parts, None, sums.reshape(len(sums), -1, shape[-1]), _NO_OUT)
    return sums


def linear(
    x: Activation, weight: PreparedWeight, bias: np.ndarray | None = None, *, out: np.ndarray | None = None
) -> np.ndarray:
    """A left operand (..., inputs) times a prepared matrix, float32 (..., outputs)."""
    image, window, shape = _rows(x, weight)
    out = require_output(out, shape, np.float32)
    _contract(x, image, window, weight, 1, bias, NO_SUMS, out.reshape(-1, shape[-1]))
    return out


def linear_sums(x: Activation, weight: PreparedWeight, *, out: np.ndarray | None = None) -> np.ndarray:
    """The int32 sums of :func:`linear`, (groups, ..., outputs)."""
    image, window, shape = _rows(x, weight)
    sums = require_output(out, (len(weight.groups), *shape), np.int32)
    _contract(x, image, window, weight, 1, None, sums.reshape(len(sums), -1, shape[-1]), _NO_OUT)
    return sums


def batched_matmul(
    left: Activation, right: Activation | PreparedWeight, *, out: np.ndarray | None = None
) -> np.ndarray:
    """``out[b, m, n] = sum_k left[b, m, k] right[b, n, k]``: k is last in both.

    Args:
        left: (..., rows, depth).
        right: (..., columns, depth) with the same leading axes, from ``quantize_matrices(side="right")`` or
            ``prepare_matrices``.
        out: float32 (..., rows, columns), allocated if absent.

    Raises:
        BadInput: batches or depths that differ, or a sum that could exceed int32.
    """
    prepared, image, window, shape = _batches(left, right)
    out = require_output(out, shape, np.float32)
    _contract(left, image, window, prepared, 1, None, NO_SUMS, out.reshape(-1, shape[-1]))
    return out


def batched_sums(left: Activation, right: Activation | PreparedWeight) -> np.ndarray:
    """The int32 sums of :func:`batched_matmul`, (groups, ..., rows, columns)."""
    prepared, image, window, shape = _batches(left, right)
    sums = np.empty((len(prepared.groups), *shape), np.int32)
    _contract(left, image, window, prepared, 1, None, sums.reshape(len(sums), -1, shape[-1]), _NO_OUT)
    return sums


def _image(
    x: Activation, weight: PreparedWeight, geometry: Geometry | None
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The image on five axes, its window, and the output's shape."""
    _require_operands(x, weight)
    geometry = require_geometry(geometry, x.bytes.ndim).unpadded
    if x.bytes.ndim < 3:
        raise BadInput("x must be an image (batch, spatial..., channel)", got=x.bytes.shape, fix="use linear")
    batch, *size, channels = x.bytes.shape
    if channels != weight.channels * weight.parts or geometry.groups != weight.parts:
        raise BadInput(
            f"x must have the weight's {weight.parts} x {weight.channels} input channels, in as many groups",
            got=f"{channels} channels, groups={geometry.groups}",
            fix="check the layout (batch, spatial..., channel), and prepare the weight with parts=groups",
        )
    if x.scale.shape[1] not in (1, batch):
        raise BadInput(
            "an image's scale may vary over samples only", got=f"{x.scale.shape[1]} for {batch}", fix="use PerTensor()"
        )
    spatial = geometry.output_size(tuple(size), weight.kernel)
    window = geometry.window(tuple(size), weight.kernel)
    image = x.bytes.reshape(batch, *(1,) * (3 - len(size)), *size, channels)
    return image, window, (batch, *spatial, weight.outputs * weight.parts)


ONE_PIXEL = np.ones((4, 3), np.int64)


def _rows(x: Activation, weight: PreparedWeight) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    _require_operands(x, weight)
    if weight.kernel or weight.parts != 1 or x.depth != weight.channels:
        raise BadInput(
            f"x must have the matrix's {weight.channels} input channels last",
            got=f"{x.bytes.shape} for kernel {weight.kernel}, parts {weight.parts}",
            fix="use conv or batched_matmul for other weights",
        )
    return x.bytes.reshape(-1, 1, 1, 1, x.depth), ONE_PIXEL, (*x.bytes.shape[:-1], weight.outputs)


def _batches(
    left: Activation, right: Activation | PreparedWeight
) -> tuple[PreparedWeight, np.ndarray, np.ndarray, tuple[int, ...]]:
    require_kind("left", left, Activation)
    require_kind("right", right, (Activation, PreparedWeight))
    if left.bytes.ndim < 2:
        raise BadInput("left must be (..., rows, depth)", got=left.bytes.shape, fix="reshape it")
    if left.bytes.dtype != np.uint8 or (isinstance(right, Activation) and right.bytes.dtype != np.int8):
        raise BadInput(
            "left must hold unsigned and right signed bytes",
            got=f"{left.bytes.dtype} on the left",
            fix='make them with quantize_matrices(..., side="left") and side="right"',
        )
    *leading, _, depth = left.bytes.shape
    if isinstance(right, Activation):
        *others, columns, inner = (0, 0, *right.bytes.shape)[-max(right.bytes.ndim, 2) :]
        if right.scale.size != 1 or not right.bytes.size:
            raise BadInput(
                "an activation on the right must not be empty, and have one scale",
                got=f"{right.bytes.shape} with scales {right.scale.shape}",
                fix="use prepare_matrices",
            )
        if others != leading or inner != depth:
            raise BadInput(
                "left and right must agree in batch and depth",
                got=f"{left.bytes.shape} and {right.bytes.shape}",
                fix="give right as (..., columns, depth)",
            )
        rows = right.bytes.reshape(-1, columns, depth)
        zero, scale = (np.repeat(values, len(rows) * columns, axis=1) for values in (right.zero, right.scale))
        right = pack_matrices(rows, scale, zero, right.largest)
    elif right.kernel or right.parts != prod(leading) or right.channels != depth:
        raise BadInput(
            f"left must have {right.parts} batches of depth {right.channels}", got=left.bytes.shape, fix="reshape it"
        )
    image = left.bytes.reshape(-1, 1, 1, 1, depth)
    return right, image, ONE_PIXEL, (*left.bytes.shape[:-1], right.outputs)


def _contract(
    x: Activation, image: np.ndarray, window: np.ndarray, weight: PreparedWeight, channel_groups: int,
    bias: np.ndarray | None, sums: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Cut the work into cells and run the kernel; ``channel_groups`` is 1 where parts are batches."""
    if len(x.scale) not in (1, len(weight.groups)) or (
        x.group_size is not None and x.group_size != weight.groups[0, 1]
    ):
        raise BadInput(
            "an activation's groups must be the weight's",
            got=f"{x.group_size} and {weight.groups[0, 1]} channels",
            fix="use prepare_weight(..., group_size=...)",
        )
    weight.certificate(x.largest).require_int32()
    offset = _bias(bias, weight.scale.shape[1])
    rows = len(out) if sums is NO_SUMS else sums.shape[1]
    if not rows:
        return
    batches = weight.parts // channel_groups
    if rows % x.scale.shape[1] or rows % batches:
        raise BadInput("rows must be shared evenly among scales", got=f"{rows} rows", fix="check the scales' shape")
    if weight.depthwise:
        run_taps = depthwise.depthwise_serial if rows * weight.packed.size <= SMALL else depthwise.depthwise
        run_taps(
            0, -(-rows // CHUNK), rows, image, window, weight.packed, x.zero, x.scale,
            rows // x.scale.shape[1], weight.column_sum, weight.scale, offset, sums, out,
        )  # fmt: skip
        return
    cells = _cells(rows // batches, batches, channel_groups, weight.channels, weight.blocks, weight.outputs)
    chunks = -(-rows // batches // CHUNK)
    small = rows * weight.outputs * channel_groups * weight.depth <= SMALL
    run = kernels.contract_serial if small else kernels.contract
    run(
        0, len(cells) * chunks, cells, chunks, image, window, weight.groups, weight.packed, x.zero, x.scale,
        rows // x.scale.shape[1], weight.column_sum, weight.zero, weight.any_zero, weight.scale, offset, sums, out,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _cells(rows: int, batches: int, channel_groups: int, channels: int, blocks: int, outputs: int) -> np.ndarray:
    """One row of the kernel's ``cells`` per part: parts are batches of rows, or channel groups over the same rows."""
    part = np.arange(batches * channel_groups)
    batch, group = (part, 0 * part) if channel_groups == 1 else (0 * part, part)
    first = batch * rows
    columns = (
        first,
        first + rows,
        group * channels,
        part * blocks,
        part * outputs,
        group * outputs,
        part * 0 + outputs,
    )
    return np.stack(columns, axis=1).astype(np.int64)


def cells_of_batches(numbers: np.ndarray, rows: int, blocks: int, columns: int) -> np.ndarray:
    """The kernel's ``cells`` of batches of ``rows`` rows; the i-th meets part ``numbers[i]`` of the right operand."""
    first = np.arange(0, rows * len(numbers), rows)
    cells = np.zeros((len(numbers), 7), np.int64)
    cells[:, kernels.FIRST_ROW], cells[:, kernels.END_ROW] = first, first + rows
    cells[:, kernels.FIRST_BLOCK], cells[:, kernels.FIRST_COLUMN] = numbers * blocks, numbers * columns
    cells[:, kernels.WIDTH] = columns
    return cells


def _bias(bias: np.ndarray | None, outputs: int) -> np.ndarray:
    if bias is None:
        return np.zeros(outputs, np.float32)
    require_array("bias", bias, np.float32)
    require_shape("bias", bias, (outputs,))
    return np.ascontiguousarray(bias)


def _require_operands(x: Activation, weight: PreparedWeight) -> None:
    require_kind("x", x, Activation)
    require_kind("weight", weight, PreparedWeight)
    require_array("the bytes of a left operand", x.bytes, np.uint8)
