"""A batched matmul in parts: everything about the operands is checked and packed once, then a part costs one kernel."""

from __future__ import annotations

from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic import contract
from simulator.arithmetic.activation import Activation
from simulator.arithmetic.arguments import require_array, require_kind, require_output
from simulator.arithmetic.kernels import contract as kernels
from simulator.arithmetic.kernels import quantize as quantize_kernels
from simulator.arithmetic.operands import ScaledFormat, kernel_arguments
from simulator.arithmetic.weights import pack_matrices


class PartProducts:
    """``out[i] = left[i] @ right[numbers[i]].T``, with the bits of ``contract.batched_matmul``.

    Args:
        right: signed bytes (..., columns, depth), from ``quantize_matrices(side="right")``; its matrices are numbered
            in C order, and each is packed once, however often it is read.
        how: format, scale and zero point of every left operand.

    Raises:
        BadInput: an empty operand, or a sum that could exceed int32.
    """

    def __init__(self, right: Activation, how: ScaledFormat) -> None:
        require_kind("right", right, Activation)
        require_kind("how", how, ScaledFormat)
        if right.bytes.ndim < 2 or not right.bytes.size or right.bytes.dtype != np.int8 or right.scale.size != 1:
            raise BadInput(
                "right must be signed bytes (..., columns, depth) with one scale, not empty",
                got=f"{right.bytes.dtype} {right.bytes.shape} with scales {right.scale.shape}",
                fix='make it with quantize_matrices(..., side="right")',
            )
        self.columns, self.depth = right.bytes.shape[-2:]
        rows = right.bytes.reshape(-1, self.columns, self.depth)
        zero, scale = (np.repeat(values, len(rows) * self.columns, axis=1) for values in (right.zero, right.scale))
        self._right = pack_matrices(rows, scale, zero, right.largest)
        self._right.certificate(how.largest).require_int32()
        self._zero = np.full((1, 1), how.zero_point + how.left_shift, np.int32)
        self._scale = np.full((1, 1), how.scale, np.float32)
        self._bias = np.zeros(len(rows) * self.columns, np.float32)
        self._quantize = kernel_arguments(how, how.left_shift)
        self._codes = np.empty(0, np.uint8)

    def multiply(self, left: np.ndarray, numbers: np.ndarray, out: np.ndarray) -> None:
        """Multiply unsigned bytes (batches, rows, depth), as ``quantize_matrices(side="left")`` gives them.

        Args:
            left: C-contiguous.
            numbers: int64 (batches,), which right matrix meets each.
            out: float32 (batches, rows, columns), C-contiguous.

        Raises:
            BadInput: other dtypes or shapes.
        """
        require_array("left", left, np.uint8)
        batches, rows, depth = left.shape if left.ndim == 3 else (0, 0, 0)
        fits = depth == self.depth and left.flags.c_contiguous and numbers.shape == (batches,)
        if (
            not fits
            or numbers.dtype != np.int64
            or (batches and not 0 <= numbers.min() <= numbers.max() < self._right.parts)
        ):
            raise BadInput(
                f"left must be C-contiguous (batches, rows, {self.depth}), with one int64 number of a matrix each",
                got=f"{left.shape} and {numbers.dtype} {numbers.shape}",
                fix="reshape it",
            )
        require_output(out, (batches, rows, self.columns), np.float32)
        right, chunks = self._right, -(-rows // contract.CHUNK)
        cells = contract.cells_of_batches(numbers, rows, right.blocks, self.columns)
        small = batches * rows * self.columns * depth <= contract.SMALL
        run = kernels.contract_serial if small else kernels.contract
        run(
            0, len(cells) * chunks, cells, chunks, left.reshape(-1, 1, 1, 1, depth), contract.ONE_PIXEL, right.groups,
            right.packed, self._zero, self._scale, batches * rows, right.column_sum, right.zero, right.any_zero,
            right.scale, self._bias, contract.NO_SUMS, out.reshape(-1, self.columns),
        )  # fmt: skip

    def quantize_and_multiply(self, left: np.ndarray, numbers: np.ndarray, out: np.ndarray) -> int:
        """:meth:`multiply` of a float32 operand, its codes in reused memory; returns the clipped count.

        Calls on one value must not overlap in time.
        """
        require_array("left", left, np.float32)
        if self._codes.size < left.size:
            self._codes = np.empty(left.size, np.uint8)
        codes = self._codes[: left.size].reshape(left.shape)
        clipped = quantize_kernels.quantize_rows(
            left.reshape(prod(left.shape[:-1]), -1), *self._quantize, codes.reshape(-1, left.shape[-1])
        )
        self.multiply(codes, numbers, out)
        return int(clipped)
