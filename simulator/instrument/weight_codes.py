"""Weights as integer codes, over their own extremes or over given bounds: the one place where it happens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from simulator.arithmetic.quantizer import Quantized, QuantSpec, quantize_to_range
from simulator.instrument.contractions import ConvTranspose, Weighted
from simulator.instrument.weight_layout import WeightLayout


@dataclass(frozen=True)
class WeightBounds:
    """Given bounds of a weight, equal where they hold the same numbers: prepared weights are known by them.

    Attributes:
        low: float64, in the parameter shape of the weight's spec for the layout with outputs first.
        high: of the same shape.
    """

    low: np.ndarray = field(compare=False)
    high: np.ndarray = field(compare=False)
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = hashlib.sha256(repr(self.low.shape).encode())
        for name in ("low", "high"):
            held = np.array(getattr(self, name), np.float64, order="C")
            held.setflags(write=False)
            object.__setattr__(self, name, held)
            found.update(held.tobytes())
        object.__setattr__(self, "digest", found.digest())


def weight_codes(
    operation: Weighted, weight: np.ndarray, spec: QuantSpec, bounds: WeightBounds | None = None
) -> Quantized:
    """Codes of a float32 weight in the layout with outputs first; ``clipped`` counts what bounds cut off.

    Raises:
        BadInput: NaN or infinities, or bounds of another shape than the spec's parameters.
    """
    plain = WeightLayout.of(operation).outputs_first(weight)
    own = None if bounds is None else (bounds.low, bounds.high)
    return quantize_to_range(np.ascontiguousarray(plain), spec, own)


def flipped(operation: Weighted, weight: Quantized) -> Quantized:
    """Codes as the plain convolution takes them that computes a transposed one; others as they are."""
    if not isinstance(operation, ConvTranspose):
        return weight
    taps = tuple(range(2, weight.codes.ndim))  # scales do not vary along them
    return replace(weight, codes=np.ascontiguousarray(np.flip(weight.codes, axis=taps)))
