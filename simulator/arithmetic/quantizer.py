"""Quantize and dequantize: real numbers to integer codes and back.

Rule, unless a spec names another of ``rules.py`` (that of ONNX ``QuantizeLinear``):
``q = clip(round(f32(x / scale)) + zero_point, qmin, qmax)`` with one true float32 division; the zero point is added
after rounding, in exact integers. Back, for every rule: ``f32(q - zero_point) * scale``.

Special values: NaN gives ``qmin`` (as ONNX Runtime does); +inf and -inf saturate; other rules state their own. A result
outside ``[qmin, qmax]`` before clipping, NaN included, is counted as clipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import (
    is_integer,
    require_array,
    require_integers,
    require_kind,
    require_shape,
)
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import Granularity, PerTensor
from simulator.arithmetic.kernels import quantize as kernels
from simulator.arithmetic.kernels import rules as rule_kernels
from simulator.arithmetic.rounding import Rounding
from simulator.arithmetic.rules import DIVIDE, QuantizeRule
from simulator.arithmetic.scale_formats import Float32Scale, ScaleFormat


@dataclass(frozen=True)
class QuantSpec:
    """How one tensor is quantized.

    Args:
        format: code format.
        granularity: which elements share a scale.
        symmetric: zero point fixed to 0 (range from the largest magnitude) instead of an asymmetric range.
        rounding: rounding mode, one of the rule's.
        rule: whose steps turn a real number into a code.
        scale_format: number format of the scale.

    Raises:
        BadInput: a rounding that the rule does not have.
    """

    format: IntFormat
    granularity: Granularity = PerTensor()  # noqa: RUF009 - an immutable value
    symmetric: bool = False
    rounding: Rounding = Rounding.HALF_EVEN
    rule: QuantizeRule = DIVIDE
    scale_format: ScaleFormat = Float32Scale()  # noqa: RUF009 - an immutable value

    def __post_init__(self) -> None:
        require_kind("format", self.format, IntFormat)
        require_kind("granularity", self.granularity, Granularity)
        require_kind("symmetric", self.symmetric, bool)
        require_kind("rounding", self.rounding, Rounding)
        require_kind("rule", self.rule, QuantizeRule)
        require_kind("scale_format", self.scale_format, ScaleFormat)
        if self.rounding not in self.rule.roundings:
            names = ", ".join(f"Rounding.{mode.name}" for mode in self.rule.roundings)
            raise BadInput(f"the rule {self.rule} rounds by {names}", got=self.rounding, fix="name such a rounding")


@dataclass(frozen=True)
class Quantized:
    """A quantized tensor: real value = ``(codes - zero_point) * scale``.

    Attributes:
        codes: integer codes in ``spec.format.dtype``, the tensor's shape.
        scale: float32, the granularity's parameter shape.
        zero_point: int32, same shape as ``scale``.
        spec: how it was quantized.
        clipped: how many elements fell outside the code range.

    Raises:
        BadInput: another type, dtype or shape in a field, a scale that is not positive and finite, or a zero point
            outside the format's range.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    spec: QuantSpec
    clipped: int = 0

    def __post_init__(self) -> None:
        require_kind("spec", self.spec, QuantSpec)
        require_array("codes", self.codes, self.spec.format.dtype)
        require_array("scale", self.scale, np.float32)
        require_array("zero_point", self.zero_point, np.int32)
        shape = self.spec.granularity.parameter_shape(self.codes.shape)
        require_shape("scale", self.scale, shape)
        require_shape("zero_point", self.zero_point, shape)
        require_scale(self.scale)
        require_zero_point(self.zero_point, self.spec.format)


def parameters_from_range(low: np.ndarray, high: np.ndarray, spec: QuantSpec) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point that cover ``[low, high]``.

    Symmetric: ``scale = max(|low|, |high|) / qmax``, zero point 0. Asymmetric: the range is widened to include 0,
    ``scale = (high - low) / (qmax - qmin)``, ``zero_point = clip(round_half_even(qmin - low / scale))``, so that 0 is
    represented exactly. Computed in float64; the scale is rounded to float32 once, and then into the spec's scale
    format (which never makes it 0 or infinite), before the zero point is derived.
    A range so narrow that the scale would lie below the smallest normal float32, or of zero width, gives scale 1.

    Args:
        low: smallest values, in the granularity's parameter shape (a numpy number counts as an array ()).
        high: largest values, same shape.
        spec: target format, symmetry and scale format.

    Returns:
        ``(scale float32, zero_point int32)``, the shape of ``low``.

    Raises:
        BadInput: no arrays of floats or integers of one shape, a bound is NaN or infinite, low exceeds high, a range
            whose scale float32 cannot hold, or a symmetric format without a positive code.
    """
    require_kind("spec", spec, QuantSpec)
    low, high = (np.asarray(bound) if isinstance(bound, np.generic) else bound for bound in (low, high))
    for name, bound in (("low", low), ("high", high)):
        require_array(name, bound)
        if bound.dtype.kind not in "fiu":
            raise BadInput(f"{name} must hold floats or integers", got=bound.dtype, fix="convert it first")
    require_shape("high", high, low.shape)
    low64, high64 = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if not (np.all(np.isfinite(low64)) and np.all(np.isfinite(high64)) and np.all(low64 <= high64)):
        raise BadInput(
            "a range must be finite with low <= high",
            got=f"[{low64.min()}, {high64.max()}]",
            fix="check the data for NaN or inf",
        )
    qmin, qmax = spec.format.qmin, spec.format.qmax
    if spec.symmetric and qmax < 1:
        raise BadInput("a symmetric range needs a positive code", got=spec.format, fix="use at least 2 bits")
    with np.errstate(over="ignore", under="ignore"):
        scale = _width(low64, high64, spec).astype(np.float32)
    if not np.all(np.isfinite(scale)):
        raise BadInput(
            "a range's scale must fit float32", got=f"[{low64.min()}, {high64.max()}]", fix="rescale the data"
        )
    # below the smallest normal float32 a reciprocal or quotient would lose bits: treat as no width
    scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale)
    scale = spec.scale_format.round(scale)
    if spec.symmetric:
        return scale, np.zeros(scale.shape, np.int32)
    return scale, np.clip(np.rint(qmin - np.minimum(low64, 0.0) / scale), qmin, qmax).astype(np.int32)


def _width(low: np.ndarray, high: np.ndarray, spec: QuantSpec) -> np.ndarray:
    """The step that covers a float64 range."""
    if spec.symmetric:
        return np.maximum(np.abs(low), np.abs(high)) / spec.format.qmax
    return (np.maximum(high, 0.0) - np.minimum(low, 0.0)) / (spec.format.qmax - spec.format.qmin)


def quantize(x: np.ndarray, spec: QuantSpec, scale: np.ndarray, zero_point: np.ndarray, *, seed: int = 0) -> Quantized:
    """Quantize ``x`` with given parameters (rule in the module's docstring, or the spec's).

    Args:
        x: float32 array.
        spec: format, granularity, rounding, rule and scale format.
        scale: float32, positive and finite, a value of the scale format, in the granularity's parameter shape.
        zero_point: integers inside the format's range, same shape.
        seed: of stochastic rounding, 0 to 2**64 - 1; element i in C order takes ``random_word(seed, i)``.

    Raises:
        BadInput: wrong dtype or shape, scale not positive and finite or not of its format, zero point outside the
            range.
    """
    require_array("x", x, np.float32)
    require_kind("spec", spec, QuantSpec)
    expected = spec.granularity.parameter_shape(x.shape)
    require_array("scale", scale, np.float32)
    zero_point = require_integers("zero_point", zero_point)
    if scale.shape != expected or zero_point.shape != expected:
        raise BadInput(
            f"scale and zero_point must have shape {expected} for a tensor of shape {x.shape}",
            got=f"{scale.shape} and {zero_point.shape}",
            fix="reshape them",
        )
    require_scale(scale)
    require_zero_point(zero_point, spec.format)
    zero_point = zero_point.astype(np.int32)
    if not np.array_equal(spec.scale_format.round(scale), scale):
        raise BadInput(
            "every scale must be a value of the scale format",
            got=f"{scale.reshape(-1)[0]} for {spec.scale_format}",
            fix="round them with scale_format.round",
        )
    qmin, qmax = spec.format.qmin, spec.format.qmax
    require_seed(seed)
    codes = np.empty(x.shape, spec.format.dtype)
    full_scale = np.ascontiguousarray(spec.granularity.expand(scale, x.shape)).reshape(-1)
    full_zero = np.ascontiguousarray(spec.granularity.expand(zero_point, x.shape)).reshape(-1)
    flat, out = np.ascontiguousarray(x).reshape(-1), codes.reshape(-1)
    last = (spec.rounding.value, np.uint64(seed), out)
    if spec.rule == DIVIDE:
        clipped = kernels.quantize_elementwise(flat, full_scale, full_zero, qmin, qmax, *last)
    else:
        rule = spec.rule
        steps = (rule.divides, rule.zero_point.value, rule.conversion.value, rule.nan.value)
        with np.errstate(all="ignore"):  # the kernel warns of overflow where numba's compiler is off
            clipped = rule_kernels.quantize_by_rule(flat, full_scale, full_zero, qmin, qmax, *steps, *last)
    return Quantized(codes, scale, zero_point, spec, int(clipped))


def quantize_to_range(x: np.ndarray, spec: QuantSpec, bounds: tuple[np.ndarray, np.ndarray] | None = None) -> Quantized:
    """Quantize ``x`` with parameters that cover its own minimum and maximum in every group of the granularity.

    Args:
        x: float32 array.
        spec: format, granularity, rounding, rule and scale format.
        bounds: (low, high) in the granularity's parameter shape, to cover these instead; what lies beyond is clipped
            and counted.

    Raises:
        BadInput: no float32 array, no elements, or as :func:`parameters_from_range` and :func:`quantize`.
    """
    require_array("x", x, np.float32)
    require_kind("spec", spec, QuantSpec)
    if bounds is None:
        bounds = spec.granularity.reduce(x, np.minimum), spec.granularity.reduce(x, np.maximum)
    scale, zero_point = parameters_from_range(*bounds, spec)
    return quantize(x, spec, scale, zero_point)


def dequantize(quantized: Quantized) -> np.ndarray:
    """``f32(codes - zero_point) * scale`` in float32; infinite where that is beyond float32."""
    require_kind("quantized", quantized, Quantized)
    expand, shape = quantized.spec.granularity.expand, quantized.codes.shape
    steps = quantized.codes.astype(np.int32) - expand(quantized.zero_point, shape)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(steps.astype(np.float32) * expand(quantized.scale, shape))


def require_scale(scale: np.ndarray | np.float32) -> None:
    """Raise BadInput unless every scale is positive and finite."""
    if not (np.all(np.isfinite(scale)) and np.all(scale > 0)):
        raise BadInput("scale must be positive and finite", got=np.min(scale), fix="check the calibrated range")


def require_zero_point(zero_point: np.ndarray | int, format: IntFormat) -> None:
    """Raise BadInput unless every zero point is a code of ``format``."""
    qmin, qmax = format.qmin, format.qmax
    if np.any(np.less(zero_point, qmin)) or np.any(np.greater(zero_point, qmax)):
        raise BadInput(f"zero_point must lie in [{qmin}, {qmax}]", got=zero_point, fix="clip it to the format's range")


def require_seed(seed: int) -> None:
    """Raise BadInput unless the seed of stochastic rounding fits 64 bits."""
    if not is_integer(seed) or not 0 <= seed < 2**64:
        raise BadInput("seed must lie in 0..2**64-1", got=seed, fix="use such an integer")
