"""Integer contractions: linear, conv2d and batched matmul in exact integer arithmetic, float32 out.

Quantized operands ``x = (q - z) s`` turn a contraction into an exact integer sum and one rescaling::

    y_mn = sum_k x_mk w_nk = s_x s_n * sum_k (q_mk - z_x)(q_nk - z_n)  (+ bias_n)

The sum is an exact int32 (a certificate excludes overflow, or a typed error is raised). The float epilogue rounds each
operation to float32 in this order: ``s = f32(s_x * s_n)``, ``y = f32(f32(sum) * s)``, for weights with groups
``y = f32(y + f32(f32(sum_g) * s_g))`` in group order, last ``y = f32(y + bias)``.
"""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.certificate import certify
from simulator.arithmetic.kernels import contract as kernels
from simulator.arithmetic.kernels.tile import DEPTH, packed_shape
from simulator.arithmetic.operands import Activation, PreparedWeight


def conv2d(
    x: Activation,
    weight: PreparedWeight,
    bias: np.ndarray | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Convolve an already padded image (batch, height, width, channel) with a prepared weight.

    Args:
        x: left operand, its padding included.
        weight: prepared weight.
        bias: float32 (outputs,), or None.
        stride: (height, width).
        out: float32 (batch, out height, out width, outputs), C-contiguous, allocated if absent.

    Raises:
        BadInput: channel counts that differ, a kernel larger than the image, a stride below 1, a bias of another shape
            or dtype, or a sum that could exceed int32.
    """
    batch, height, width, channels = x.bytes.shape
    kernel_h, kernel_w = weight.kernel
    if channels != weight.channels:
        raise BadInput(
            f"x must have the weight's {weight.channels} input channels",
            got=channels,
            fix="check the layout (batch, height, width, channel)",
        )
    if len(stride) != 2 or min(stride) < 1:
        raise BadInput("stride must be two integers of at least 1", got=stride, fix="use (1, 1) to keep every pixel")
    out_h, out_w = (height - kernel_h) // stride[0] + 1, (width - kernel_w) // stride[1] + 1
    if height < kernel_h or width < kernel_w:
        raise BadInput(
            f"the padded image must be at least as large as the {kernel_h} x {kernel_w} kernel",
            got=f"{height} x {width}",
            fix="pad it",
        )
    weight.certificate(x.largest).require_int32()
    shape = (batch, out_h, out_w, weight.outputs)
    out = _output(out, shape)
    offset = _bias(bias, weight.outputs)
    kernels.contract_float32(
        x.bytes, out_h, out_w, kernel_h, kernel_w, *stride, weight.starts, weight.steps, weight.first_step,
        weight.depths, weight.packed, np.int32(x.zero), weight.column_sum, weight.zero, bool(weight.zero.any()),
        weight.scale * x.scale, offset, out.reshape(-1, weight.outputs),
    )  # fmt: skip
    return out


def linear(
    x: Activation, weight: PreparedWeight, bias: np.ndarray | None = None, *, out: np.ndarray | None = None
) -> np.ndarray:
    """A left operand (..., inputs) times a prepared weight, float32 (..., outputs): a 1 x 1 convolution of pixels."""
    *leading, depth = x.bytes.shape
    image = Activation(x.bytes.reshape(-1, 1, 1, depth), x.zero, x.scale, x.largest, x.clipped)
    out = _output(out, (*leading, weight.outputs))
    conv2d(image, weight, bias, out=out.reshape(-1, 1, 1, weight.outputs))
    return out


def batched_matmul(left: Activation, right: Activation, *, out: np.ndarray | None = None) -> np.ndarray:
    """``out[b, m, n] = sum_k left[b, m, k] right[b, n, k]``: both operands quantized at run time, k last in both.

    Args:
        left: unsigned bytes (batch, rows, depth).
        right: signed bytes (batch, columns, depth).
        out: float32 (batch, rows, columns), allocated if absent.

    Raises:
        BadInput: batches or depths that differ, or a sum that could exceed int32.
    """
    batch, rows, depth = left.bytes.shape
    columns = right.bytes.shape[1]
    if left.bytes.dtype != np.uint8 or right.bytes.dtype != np.int8:
        raise BadInput(
            "left must hold unsigned and right signed bytes",
            got=f"{left.bytes.dtype} and {right.bytes.dtype}",
            fix='make them with quantize_matrices(..., side="left") and side="right"',
        )
    if right.bytes.shape != (batch, columns, depth):
        raise BadInput(
            "left and right must agree in batch and depth",
            got=f"{left.bytes.shape} and {right.bytes.shape}",
            fix="give right as (batch, columns, depth)",
        )
    certify(depth * right.largest, left.largest).require_int32()
    out = _output(out, (batch, rows, columns))
    blocks = np.empty(packed_shape(columns, depth), np.int8)
    kernels.batched_float32(
        left.bytes, right.bytes, np.int32(left.zero), np.int32(right.zero), blocks, -(-depth // DEPTH),
        left.scale * right.scale, out,
    )  # fmt: skip
    return out


def _bias(bias: np.ndarray | None, outputs: int) -> np.ndarray:
    if bias is None:
        return np.zeros(outputs, np.float32)
    if bias.shape != (outputs,) or bias.dtype != np.float32:
        raise BadInput(
            f"bias must be float32 of shape ({outputs},)", got=f"{bias.dtype} {bias.shape}", fix="one value per output"
        )
    return np.ascontiguousarray(bias)


def _output(out: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    if out is None:
        return np.empty(shape, np.float32)
    if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise BadInput(
            f"out must be a C-contiguous float32 array of shape {shape}",
            got=f"{out.dtype} {out.shape}",
            fix="allocate it so",
        )
    return out
