"""Contractions with integer codes on both ends: exact int32 sums, then a requantizer, a block of rows at a time.

A block's sums stay in the cache, so the requantizer costs a pass over memory that is near.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic import contract
from simulator.arithmetic.arguments import require_array, require_kind
from simulator.arithmetic.geometry import Geometry, require_geometry
from simulator.arithmetic.operands import Activation
from simulator.arithmetic.requantize import Requantized, Requantizer
from simulator.arithmetic.weights import PreparedWeight

BLOCK = 1 << 18
"""Sums held at once."""

_SCRATCH = threading.local()


def conv_codes(
    x: Activation, weight: PreparedWeight, requantizer: Requantizer, geometry: Geometry | None = None
) -> Requantized:
    """Convolve a padded image (batch, spatial..., channel); codes (batch, output size..., outputs).

    Args:
        x: left operand with one scale, padded for ``geometry``.
        weight: prepared without groups of input channels, ``parts=geometry.groups``.
        requantizer: from sums to codes, its scales and bias included.
        geometry: strides, dilation and groups; 1 everywhere by default.

    Raises:
        BadInput: scales that vary along samples or input channels, or as :func:`contract.conv`.
    """
    _require_one_scale(x, weight, requantizer)
    geometry = require_geometry(geometry, x.bytes.ndim)
    size = geometry.unpadded.output_size(x.bytes.shape[1:-1], weight.kernel)
    shape = (*size, weight.outputs * weight.parts)

    def sums(part: Activation, out: np.ndarray) -> None:
        contract.conv_sums(part, weight, geometry, out=out)

    return _in_blocks(x, shape, requantizer, sums)


def linear_codes(x: Activation, weight: PreparedWeight, requantizer: Requantizer) -> Requantized:
    """A left operand (..., inputs) times a prepared matrix; codes (..., outputs). Otherwise as :func:`conv_codes`."""
    _require_one_scale(x, weight, requantizer)
    rows = replace(x, bytes=x.bytes.reshape(prod(x.bytes.shape[:-1]), x.depth))

    def sums(part: Activation, out: np.ndarray) -> None:
        contract.linear_sums(part, weight, out=out)

    found = _in_blocks(rows, (weight.outputs,), requantizer, sums)
    return replace(found, codes=found.codes.reshape(*x.bytes.shape[:-1], weight.outputs))


def _in_blocks(
    x: Activation, shape: tuple[int, ...], requantizer: Requantizer, sums: Callable[[Activation, np.ndarray], None]
) -> Requantized:
    """Fill codes (len(x), *shape) some rows of ``x.bytes`` at a time."""
    count, each = len(x.bytes), prod(shape)
    codes: np.ndarray = np.empty((count, *shape), requantizer.format.dtype)
    step, saturated = max(1, BLOCK // each), 0
    for first in range(0, count, step):
        part = x.bytes[first : first + step]
        into = _scratch(len(part) * each).reshape(1, len(part), *shape)
        sums(replace(x, bytes=part), into)
        saturated += requantizer(into[0], out=codes[first : first + step]).saturated
    return Requantized(codes, saturated)


def _scratch(count: int) -> np.ndarray:
    """int32 memory of this thread, used again by the next block: fresh pages would cost as much as requantizing."""
    if getattr(_SCRATCH, "sums", np.empty(0)).size < count:
        _SCRATCH.sums = np.empty(count, np.int32)
    return _SCRATCH.sums[:count]


def _require_one_scale(x: Activation, weight: PreparedWeight, requantizer: Requantizer) -> None:
    require_kind("x", x, Activation)
    require_kind("weight", weight, PreparedWeight)
    require_kind("requantizer", requantizer, Requantizer)
    require_array("the bytes of a left operand", x.bytes, np.uint8)
    if x.scale.size != 1 or len(weight.groups) != 1:
        raise BadInput(
            "a requantizer needs one activation scale and no groups of input channels",
            got=f"{x.scale.size} scales, {len(weight.groups)} groups",
            fix="use PerTensor() activations, or the float32 epilogue",
        )
