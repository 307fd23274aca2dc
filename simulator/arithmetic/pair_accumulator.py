"""Saturating pairs: what byte dot products do on x86 without VNNI.

``vpmaddubsw`` multiplies unsigned by signed bytes, adds two neighbouring products and saturates the pair to 16 bits;
``vpmaddwd`` and ``vpaddd`` add the pairs exactly in int32. With ``sat16(v) = clip(v, -2^15, 2^15 - 1)``::

    sum_j sat16(x_2j w_2j + x_2j+1 w_2j+1) + bias - zx sum w - zw sum x + K zx zw

``x w`` are raw codes, so zero points are always subtracted outside. A single product fits 16 bits: an odd last k is
exact. So are weights of 7 bits, the ``reduce_range`` of observers.

Where it is found (compared bit for bit in ``tests/peers/test_pair_saturation_torch.py``, torch 2.13):

- oneDNN below AVX512-VNNI (``ONEDNN_MAX_CPU_ISA=AVX2``): linear and conv2d of the onednn engine, pairs of channels.
- ``torch._int_mm`` there, signed by signed: ``x + 128`` as unsigned bytes with ``x_zero = 128``.
- FBGEMM's depthwise 3 x 3 convolution on any CPU (groups = channels, a multiple of 8, padding 1): pairs of taps
  (0,1)(2,3)(4,5)(6,7), the last tap alone. Other depthwise convolutions of FBGEMM and oneDNN's are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Count, ExactSum
from simulator.arithmetic.arguments import require_kind
from simulator.arithmetic.kernels import saturate_pairs as kernels

LARGEST_DEPTH = 2 * ((1 << 16) - 1)  # so many pairs of -2^15 fit int32
SMALLEST, LARGEST = -(1 << 15), (1 << 15) - 1


class Pairing(Enum):
    """Which products of a convolution are neighbours; a matmul pairs neighbours in k."""

    CHANNELS = "channels"
    """Two channels of one tap; the last of an odd number stands alone. oneDNN."""
    TAPS = "taps"
    """Two taps of one channel, in (row, column) order; the last of an odd number stands alone. FBGEMM depthwise."""


@dataclass(frozen=True)
class PairAccumulator:
    """An int32 accumulator of 16-bit saturated pairs of u8 x s8 products; what it counts are pairs that saturated.

    Args:
        pairing: which products of a convolution form a pair.
    """

    pairing: Pairing = Pairing.CHANNELS

    def __post_init__(self) -> None:
        require_kind("pairing", self.pairing, Pairing)


def accumulate_pairs_exact(
    x: Sequence[int], w: Sequence[int], x_zero: int = 0, w_zero: int = 0, bias: int = 0
) -> ExactSum:
    """One output, in unbounded integers: the normative form. ``x`` and ``w`` are paired from the first element on."""
    products = [a * b for a, b in zip(x, w, strict=True)]
    pairs = [sum(products[i : i + 2]) for i in range(0, len(products), 2)]
    saturated = [min(max(pair, SMALLEST), LARGEST) for pair in pairs]
    lost = sum(a != b for a, b in zip(pairs, saturated, strict=True))
    outside = len(x) * x_zero * w_zero - x_zero * sum(w) - w_zero * sum(x)
    return ExactSum(sum(saturated) + bias + outside, lost > 0, lost)


def require_pairs(x: np.ndarray, w: np.ndarray) -> None:
    """Raise BadInput unless the operands are what the instruction takes, of a depth whose sum fits int32."""
    if x.dtype != np.uint8 or w.dtype != np.int8:
        raise BadInput(
            "saturating pairs take unsigned by signed bytes",
            got=f"{x.dtype} and {w.dtype}",
            fix="shift signed x and its zero point up by 128, unsigned w and its down",
        )
    if x[:1].size > LARGEST_DEPTH:
        raise BadInput(
            f"the depth must be at most {LARGEST_DEPTH} for an int32 sum", got=x[:1].size, fix="split the contraction"
        )


def pair_sums(x: np.ndarray, w: np.ndarray, count: Count) -> tuple[np.ndarray, int]:
    """``sum_j sat16(pair_j)`` as int64 (rows, outputs), and what ``count`` asks for.

    Args:
        x: uint8 (rows, depth).
        w: int8 (outputs, depth).
        count: OUTPUTS counts outputs with a saturated pair, STEPS saturated pairs; any number for NONE.
    """
    out = np.zeros((len(x), len(w)), np.int64)
    x, w = np.ascontiguousarray(x), np.ascontiguousarray(w)
    if count is Count.STEPS:
        return out, int(kernels.pair_by_pair(x, w, out))
    if not out.size or not x.size:
        return out, 0
    packed = np.zeros(kernels.packed_shape(*w.shape), np.int16)
    kernels.pack(w, packed)
    return out, int(kernels.pairs(x, packed, out))
