"""The left operand as a value: unsigned bytes with their zero points and scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_array, require_integer, require_shape


@dataclass(frozen=True)
class Activation:
    """A left operand: codes as unsigned bytes, contracted over the last axis.

    ``real = (bytes - zero) * scale``. Scales may vary along leading axes (per sample, per head, per token) and over
    groups of the last axis.

    Attributes:
        bytes: uint8, C-contiguous, (..., depth) or an image (batch, spatial..., channel), its padding included.
        zero: int32 (groups, parameters), shifted with the codes. With P parameters, parameter p serves the p-th of P
            equal parts of the leading axes in C order.
        scale: float32 (groups, parameters).
        largest: largest ``|code - zero_point|`` of the format (not of the data).
        clipped: elements that fell outside the code range.
        group_size: elements of the last axis that share a scale; the last group may be shorter.

    Raises:
        BadInput: another type, dtype or shape in a field, or bytes with gaps.
    """

    bytes: np.ndarray
    zero: np.ndarray
    scale: np.ndarray
    largest: int
    clipped: int = 0
    group_size: int | None = None

    def __post_init__(self) -> None:
        require_array("bytes", self.bytes)
        if self.bytes.dtype not in (np.uint8, np.int8) or not self.bytes.ndim or not self.bytes.flags.c_contiguous:
            raise BadInput(
                "bytes must be C-contiguous uint8 (int8 on the right) with an axis",
                got=f"{self.bytes.dtype} {self.bytes.shape}",
                fix="use left_operand, quantize_image or quantize_matrices",
            )
        require_array("zero", self.zero, np.int32)
        require_array("scale", self.scale, np.float32)
        if self.scale.ndim != 2:
            raise BadInput("scale must be (groups, parameters)", got=self.scale.shape, fix="reshape it")
        require_shape("zero", self.zero, self.scale.shape)
        require_integer("largest", self.largest, 0)
        if self.group_size is not None:
            require_integer("group_size", self.group_size, 1)

    @property
    def depth(self) -> int:
        """Length of the last axis."""
        return self.bytes.shape[-1]
