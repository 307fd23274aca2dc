"""Requantizers: from the exact int32 sum of a contraction to output codes, as real kernels do it.

A sum ``acc`` of code products stands for the real number ``acc * x_scale * w_scale`` (+ bias). The output code is that
number over ``y_scale``, rounded, plus the zero point, clipped. Kernels differ in the order of these operations and in
where they round, so each class below is one kernel family's formula, in two forms: ``one``, plain Python with every
rounding written out (normative), and a call on an array, compiled, equal to it bit for bit.

Notation: ``f32`` rounds to float32; ``rint`` to the nearest integer, ties to even; ``ats = f32(x_scale * w_scale)``;
``zp`` is the zero point. ``w_scale`` of shape () is per tensor, of shape (channels,) per output channel. An integer
bias is in units of ``x_scale * w_scale``; ``acc + bias`` keeps the low 32 bits, as the int32 registers of kernels do.

Output formats have up to 16 bits, but for FBGEMM and QNNPACK, which pack through int16 and end at 8. Few libraries ship
such outputs; the formula is the same. TensorFlow Lite's operators on 16-bit activations are none of these: they sum in
64 bits and rescale by a 16-bit multiplier.
"""

from __future__ import annotations

from simulator.arithmetic.requantize.cutlass import CutlassRequantizer
from simulator.arithmetic.requantize.fixed_point_scale import (
    FbgemmFixedPointRequantizer,
    GemmlowpRequantizer,
    RuyRequantizer,
    SingleRoundingRequantizer,
)
from simulator.arithmetic.requantize.float_scale import (
    FbgemmRequantizer,
    OnednnRequantizer,
    OnnxRuntimeRequantizer,
    QnnpackRequantizer,
    TfliteFullyConnectedRequantizer,
    XnnpackRequantizer,
)
from simulator.arithmetic.requantize.requantizer import Requantized, Requantizer
from simulator.arithmetic.requantize.scaled import Scaled

__all__ = [
    "REQUANTIZERS",
    "CutlassRequantizer",
    "FbgemmFixedPointRequantizer",
    "FbgemmRequantizer",
    "GemmlowpRequantizer",
    "OnednnRequantizer",
    "OnnxRuntimeRequantizer",
    "QnnpackRequantizer",
    "Requantized",
    "Requantizer",
    "RuyRequantizer",
    "SingleRoundingRequantizer",
    "TfliteFullyConnectedRequantizer",
    "XnnpackRequantizer",
]

REQUANTIZERS: dict[str, type[Scaled] | type[CutlassRequantizer]] = {
    "fbgemm": FbgemmRequantizer,
    "fbgemm-fixed-point": FbgemmFixedPointRequantizer,
    "qnnpack": QnnpackRequantizer,
    "onednn": OnednnRequantizer,
    "onnxruntime": OnnxRuntimeRequantizer,
    "tflite-conv": GemmlowpRequantizer,
    "tflite-fully-connected": TfliteFullyConnectedRequantizer,
    "tflite-ruy": RuyRequantizer,
    "tflite-single-rounding": SingleRoundingRequantizer,
    "tflite-xnnpack": XnnpackRequantizer,
    "cutlass": CutlassRequantizer,
}
"""Every requantizer by name."""
