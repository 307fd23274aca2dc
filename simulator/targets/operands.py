"""What goes into a target's operation and comes out of it, and the checks at that edge."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import Granularity, PerAxis
from simulator.arithmetic.quantizer import Quantized, QuantSpec, require_scale, require_zero_point
from simulator.targets.description import Target


@dataclass(frozen=True)
class OutputSpec:
    """Codes that an operation shall give.

    Args:
        scale: a float32, or a Python float that is rounded to one.
        zero_point: a code of ``format``.
        format: one of the target's ``outputs``.

    Raises:
        BadInput: a scale that is not positive and finite, or a zero point that is no code.
    """

    scale: np.float32 | float
    zero_point: int
    format: IntFormat

    def __post_init__(self) -> None:
        with np.errstate(over="ignore", under="ignore"):
            scale = np.float32(self.scale)
        require_scale(scale)
        require_zero_point(self.zero_point, self.format)
        object.__setattr__(self, "scale", scale)


@dataclass(frozen=True)
class Outcome:
    """What an operation gives.

    Attributes:
        values: codes in the output's format, or float32 (float16 on a target whose intermediate format that is).
        overflowed: what the accumulator's count asked for: outputs that wrapped or saturated, saturated pairs; for a
            float16 output, infinities.
        saturated: output codes that clipping changed; 0 for a float output.
    """

    values: np.ndarray
    overflowed: int
    saturated: int


def require_operand(target: Target, name: str, operand: object, specs: tuple[QuantSpec, ...], *, rows: bool) -> None:
    """Raise BadInput unless ``operand`` is quantized as one of ``specs`` says and consistent in itself.

    Format, granularity, symmetry and scale format count. The rule does not: it says how codes came about, which no
    kernel sees.

    Args:
        target: for the message.
        name: of the operand, for the message.
        operand: what was given.
        specs: what the target takes.
        rows: a batch of matrices, whose ``PerAxis((0,))`` is every axis but the last.
    """
    if not isinstance(operand, Quantized):
        raise BadInput(f"{name} must be Quantized on {target}", got=type(operand).__name__, fix="quantize it first")
    rank = operand.codes.ndim
    for spec in specs:
        wanted: Granularity = spec.granularity
        if rows and wanted == PerAxis((0,)):
            wanted = PerAxis(tuple(range(rank - 1)))
        if operand.spec.format == spec.format and operand.spec.granularity == wanted:
            break
    else:
        taken = ", ".join(f"{spec.format} {spec.granularity}" for spec in specs)
        raise BadInput(
            f"{target} takes {name} as {taken}",
            got=f"{operand.spec.format} {operand.spec.granularity}",
            fix="quantize it so, or choose another target",
        )
    shape = operand.spec.granularity.parameter_shape(operand.codes.shape)
    fmt = operand.spec.format
    if operand.codes.dtype != fmt.dtype or operand.scale.shape != shape or operand.zero_point.shape != shape:
        raise BadInput(
            f"{name} must hold {fmt.dtype} codes, its scale and zero point have shape {shape}",
            got=f"{operand.codes.dtype}, {operand.scale.shape}, {operand.zero_point.shape}",
            fix="make it with quantize",
        )
    require_scale(operand.scale)
    require_zero_point(operand.zero_point, fmt)
    if operand.scale.dtype != np.float32 or not np.array_equal(spec.scale_format.round(operand.scale), operand.scale):
        raise BadInput(
            f"every scale of {name} must be a float32 value of {spec.scale_format}",
            got=operand.scale.dtype,
            fix="round them with scale_format.round",
        )
    if spec.symmetric and operand.zero_point.any():
        raise BadInput(f"{target} takes {name} with zero point 0", got="another", fix="quantize it symmetrically")
    if operand.codes.size and not (fmt.qmin <= operand.codes.min() and operand.codes.max() <= fmt.qmax):
        raise BadInput(
            f"every code of {name} must be one of {fmt}",
            got=f"{operand.codes.min()}..{operand.codes.max()}",
            fix="make it with quantize",
        )


def one_zero_point(name: str, operand: Quantized) -> int:
    """The zero point that all elements share.

    Raises:
        BadInput: they differ.
    """
    zeros = np.unique(operand.zero_point)
    if zeros.size > 1:
        raise BadInput(
            f"{name} must have one zero point", got=f"{zeros.size} different ones", fix="quantize it symmetrically"
        )
    return int(zeros[0]) if zeros.size else 0


def output_scales(w: Quantized) -> np.ndarray:
    """Scale of a weight as () per tensor or (outputs,) per output."""
    per_tensor = prod(w.spec.granularity.parameter_shape((2,) * w.codes.ndim)) == 1
    return w.scale.reshape(()) if per_tensor else w.scale.reshape(-1)


def output_zeros(w: Quantized) -> np.ndarray:
    """Zero points (outputs,)."""
    return np.broadcast_to(w.zero_point.reshape(-1), (len(w.codes),)).astype(np.int64)


def require_bias(bias: np.ndarray, outputs: int, dtype: np.dtype | type, fix: str) -> None:
    """Raise BadInput unless ``bias`` is (outputs,) of ``dtype``, and finite."""
    wanted = np.dtype(dtype)
    if not isinstance(bias, np.ndarray) or bias.dtype != wanted or bias.shape != (outputs,):
        got = f"{bias.dtype} {bias.shape}" if isinstance(bias, np.ndarray) else type(bias).__name__
        raise BadInput(f"bias must be {wanted} of shape ({outputs},)", got=got, fix=fix)
    if not np.all(np.isfinite(bias)):
        raise BadInput("bias must be finite", got="NaN or inf", fix="check the data")
