"""Operations on a target: quantized operands in, codes or floats out, by the target's own formulas.

A combination that the machine does not have is an error (``BadInput``), never an approximation of it. Rows come first
and the depth last in matrices; images are (batch, spatial..., channel), their weights (outputs, channels, kernel...).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Count, Overflow
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.dynamic import quantize_matmul_nbits_rows
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.group_sums import add_groups
from simulator.arithmetic.matmul import Accumulated, integer_matmul
from simulator.arithmetic.quantizer import Quantized, QuantSpec, parameters_from_range, quantize, quantize_to_range
from simulator.targets.description import BiasKind, FloatAccumulator, Kernel, Parameters, Target
from simulator.targets.finish import require_output, require_requantizer_bias, to_codes, to_floats
from simulator.targets.half import half_linear
from simulator.targets.operands import (
    Outcome,
    OutputSpec,
    one_zero_point,
    output_scales,
    output_zeros,
    require_bias,
    require_operand,
)


def activation_parameters(target: Target, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point that cover ``[low, high]`` in the target's first activation format.

    Raises:
        BadInput: the target takes its parameters from the data or has floats, or as :func:`parameters_from_range`.
    """
    if target.parameters is not Parameters.GIVEN:
        raise BadInput(
            f"{target} takes no given parameters", got=target.parameters.name, fix="call quantize_activation"
        )
    return parameters_from_range(low, high, target.activations[0])


def quantize_activation(
    target: Target,
    x: np.ndarray,
    scale: np.ndarray | None = None,
    zero_point: np.ndarray | None = None,
    *,
    spec: QuantSpec | None = None,
) -> Quantized:
    """Codes of a float32 activation by the target's rule.

    Args:
        target: the machine.
        x: float32.
        scale: in the granularity's parameter shape, or None where the target takes it from the data.
        zero_point: likewise.
        spec: one of ``target.activations``, the first by default.

    Raises:
        BadInput: a target of float activations, another spec, parameters where there are none to give or none where
            there must be, or as :func:`quantize`.
    """
    if target.parameters is Parameters.NONE:
        raise BadInput(f"activations stay floats on {target}", got="a tensor to quantize", fix="give float16 to linear")
    spec = spec or target.activations[0]
    if spec not in target.activations:
        raise BadInput(f"{target} takes activations as its own specs say", got=spec, fix="use one of .activations")
    if target.parameters is Parameters.DYNAMIC_BLOCKS:
        if scale is not None or zero_point is not None:
            raise BadInput(f"{target} takes its parameters from the data", got="a scale", fix="leave it out")
        block = spec.granularity.group_size(1)
        assert block is not None
        return quantize_matmul_nbits_rows(x, block)
    if scale is None or zero_point is None:
        raise BadInput(
            f"{target} needs a scale and a zero point", got="none", fix="calibrate, and use activation_parameters"
        )
    return quantize(x, spec, scale, zero_point)


def quantize_weight(
    target: Target,
    w: np.ndarray,
    *,
    spec: QuantSpec | None = None,
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
) -> Quantized:
    """Codes of a float32 weight over its own range in each group, by the target's rule (the first spec by default).

    ``bounds``, (low, high) in the spec's parameter shape, replace its own range; what lies beyond is clipped.

    Raises:
        BadInput: another spec, or as :func:`quantize_to_range`.
    """
    spec = spec or target.weights[0]
    if spec not in target.weights:
        raise BadInput(f"{target} takes weights as its own specs say", got=spec, fix="use one of .weights")
    return quantize_to_range(w, spec, bounds)


def linear(
    target: Target,
    x: Quantized | np.ndarray,
    w: Quantized,
    bias: np.ndarray | None = None,
    output: OutputSpec | None = None,
    *,
    count: Count = Count.OUTPUTS,
) -> Outcome:
    """``y_mn = sum_k x_mk w_nk + b_n``.

    Args:
        target: the machine.
        x: (rows, depth); a finite float16 array where activations stay floats.
        w: (outputs, depth).
        bias: (outputs,): with an output spec of the kind that the kernel's requantizer takes, else float32; or None.
        output: codes wanted; None for floats.
        count: what is counted of the register's losses.

    Returns:
        Values (rows, outputs).

    Raises:
        BadInput: an operation, operand or output that the machine does not have, or a sum that does not fit.
    """
    kernel = _kernel(target, "linear", target.linear)
    require_output(target, "linear", kernel, output)
    require_operand(target, "w", w, target.weights, rows=False)
    if isinstance(kernel.accumulator, FloatAccumulator):
        return half_linear(target, x, w, bias)
    require_operand(target, "x", x, target.activations, rows=False)
    assert isinstance(x, Quantized)
    _require_ranks(x, 2, w, 2)
    if x.codes.shape[1] != w.codes.shape[1]:
        raise BadInput(
            "x must be (rows, depth) and w (outputs, depth)",
            got=f"{x.codes.shape}, {w.codes.shape}",
            fix="transpose w",
        )
    if w.spec.granularity.group_size(1):
        return _grouped(target, kernel, x, w, bias, count)
    x_zero, zeros = one_zero_point("x", x), output_zeros(w)

    def sums(entering: np.ndarray | None) -> Accumulated:
        assert not isinstance(kernel.accumulator, FloatAccumulator)
        return integer_matmul(
            x.codes, w.codes, kernel.accumulator, x_zero=x_zero, w_zero=zeros, bias=entering, count=count
        )

    return _finished(kernel, sums, x, x.scale, output_scales(w), len(w.codes), bias, output)


def conv(
    target: Target,
    x: Quantized,
    w: Quantized,
    bias: np.ndarray | None = None,
    geometry: Geometry | None = None,
    output: OutputSpec | None = None,
    *,
    count: Count = Count.OUTPUTS,
) -> Outcome:
    """A convolution of 1 to 3 axes; a padded tap holds the zero point. The target's depthwise kernel where it applies.

    Args:
        target: the machine.
        x: (batch, spatial..., channel).
        w: (outputs, channels per group, kernel...).
        bias: as for :func:`linear`.
        geometry: strides, padding, dilation and groups; none of them by default.
        output: codes wanted; None for floats.
        count: what is counted of the register's losses.

    Returns:
        Values (batch, output size..., outputs).

    Raises:
        BadInput: as :func:`linear` and :func:`integer_conv`.
    """
    require_operand(target, "x", x, target.activations, rows=False)
    require_operand(target, "w", w, target.weights, rows=False)
    geometry = geometry or Geometry.of(max(x.codes.ndim - 2, 1))
    chosen = target.conv
    if target.depthwise is not None and _is_depthwise(x.codes.shape, w.codes.shape, geometry):
        chosen = target.depthwise
    kernel = _kernel(target, "conv", chosen)
    require_output(target, "conv", kernel, output)
    if x.scale.size != 1:
        raise BadInput(
            "a convolution takes one activation scale", got=x.spec.granularity, fix="use PerTensor() activations"
        )
    x_zero, zeros = one_zero_point("x", x), output_zeros(w)

    def sums(entering: np.ndarray | None) -> Accumulated:
        assert not isinstance(kernel.accumulator, FloatAccumulator)
        return integer_conv(
            x.codes, w.codes, kernel.accumulator, geometry, x_zero=x_zero, w_zero=zeros, bias=entering, count=count
        )

    return _finished(kernel, sums, x, x.scale.reshape(()), output_scales(w), len(w.codes), bias, output)


def matmul(
    target: Target,
    x: Quantized,
    y: Quantized,
    output: OutputSpec | None = None,
    *,
    count: Count = Count.OUTPUTS,
) -> Outcome:
    """``out[b, m, n] = sum_k x[b, m, k] y[b, n, k]``, both made at run time; k is last in both.

    Args:
        target: the machine.
        x: (batch..., rows, depth), as an activation.
        y: (batch..., columns, depth), as an activation or a weight; a scale per output means per column here.
        output: codes wanted; None for floats.
        count: what is counted of the register's losses.

    Returns:
        Values (batch..., rows, columns).

    Raises:
        BadInput: as :func:`linear`; with an output spec, scales that vary.
    """
    kernel = _kernel(target, "matmul", target.matmul)
    require_output(target, "matmul", kernel, output)
    require_operand(target, "x", x, target.activations, rows=True)
    require_operand(target, "y", y, (*target.activations, *target.weights), rows=True)
    if output is not None and y.scale.size != 1:
        raise BadInput("a requantized matmul takes one scale of y", got=y.scale.shape, fix="use PerTensor()")
    x_zero, y_zero = one_zero_point("x", x), one_zero_point("y", y)

    def sums(entering: np.ndarray | None) -> Accumulated:
        assert not isinstance(kernel.accumulator, FloatAccumulator)
        return integer_matmul(
            x.codes, y.codes, kernel.accumulator, x_zero=x_zero, w_zero=y_zero, bias=entering, count=count
        )

    y_scale = y.scale.reshape(()) if y.scale.size == 1 else y.scale.swapaxes(-1, -2)
    return _finished(kernel, sums, x, x.scale, y_scale, y.codes.shape[-2], None, output)


def _kernel(target: Target, operation: str, kernel: Kernel | None) -> Kernel:
    if kernel is None:
        has = ", ".join(name for name, made in target.kernels.items() if made)
        raise BadInput(f"{target} has no kernel for {operation}", got=operation, fix=f"it has {has}")
    return kernel


def _require_ranks(x: Quantized, x_rank: int, w: Quantized, w_rank: int) -> None:
    if x.codes.ndim != x_rank or w.codes.ndim != w_rank:
        raise BadInput(
            f"x must have {x_rank} axes and w {w_rank}", got=f"{x.codes.shape}, {w.codes.shape}", fix="reshape them"
        )


def _is_depthwise(x: tuple[int, ...], w: tuple[int, ...], geometry: Geometry) -> bool:
    """Whether FBGEMM's (and so a target's) kernel of its own takes this convolution: see ``Target.depthwise``."""
    return (
        len(x) == 4
        and w[1:] == (1, 3, 3)
        and geometry.groups == x[-1] == w[0]
        and w[0] % 8 == 0
        and geometry.padding == ((1, 1), (1, 1))
        and geometry.stride in ((1, 1), (2, 2))
        and geometry.dilation == (1, 1)
    )


def _finished(
    kernel: Kernel, sums: Callable[[np.ndarray | None], Accumulated], x: Quantized, x_scale: np.ndarray,
    w_scale: np.ndarray, outputs: int, bias: np.ndarray | None, output: OutputSpec | None,
) -> Outcome:  # fmt: skip
    """Run ``sums(bias of the register)`` and finish. A limited register takes an integer bias, else the requantizer."""
    if output is None:
        if bias is not None:
            require_bias(bias, outputs, np.float32, "give it in real units")
        found = _fitting(kernel, sums(None))
        assert kernel.epilogue is not None
        return Outcome(to_floats(kernel.epilogue, found.values, x_scale, w_scale, bias), found.overflowed or 0, 0)
    if x.scale.size != 1:
        raise BadInput("a requantizer takes one activation scale", got=x.scale.shape, fix="use PerTensor()")
    require_requantizer_bias(kernel, bias, outputs, output)
    accumulator = kernel.accumulator
    limited = isinstance(accumulator, Accumulator) and accumulator.overflow is not Overflow.EXACT
    entering = bias if limited and kernel.bias is BiasKind.INT32 else None
    found = _fitting(kernel, sums(entering))
    made = to_codes(
        kernel, found.values, np.float32(x_scale.reshape(())), w_scale, None if entering is not None else bias, output
    )
    return Outcome(made.codes, found.overflowed or 0, made.saturated)


def _grouped(
    target: Target, kernel: Kernel, x: Quantized, w: Quantized, bias: np.ndarray | None, count: Count
) -> Outcome:
    """One sum per group of the weight's depth, rescaled and added in the target's group register."""
    size = w.spec.granularity.group_size(1)
    own = x.spec.granularity.group_size(1)
    assert size is not None
    assert target.groups is not None
    if own not in (None, size):
        raise BadInput("x and w must have the same groups", got=f"{own} and {size}", fix="quantize x with w's size")
    if bias is not None:
        require_bias(bias, len(w.codes), np.float32, "give it in real units")
    assert not isinstance(kernel.accumulator, FloatAccumulator)
    depth, groups = w.codes.shape[1], w.scale.shape[1]
    parts, lost = [], 0
    zero = one_zero_point("x", x)
    for g in range(groups):
        part = slice(g * size, min((g + 1) * size, depth))
        zeros = np.broadcast_to(w.zero_point[:, g].astype(np.int64), (len(w.codes),))
        found = _fitting(
            kernel,
            integer_matmul(
                x.codes[:, part], w.codes[:, part], kernel.accumulator, x_zero=zero, w_zero=zeros, count=count
            ),
        )
        parts.append(found.values)
        lost += found.overflowed or 0
    left = x.scale.T[:, :, None] if own else x.scale[None]
    scale = np.ascontiguousarray(np.broadcast_to(w.scale, (len(w.codes), groups)).T)
    values = add_groups(np.stack(parts), scale, target.groups, left_scale=left, bias=bias)
    return Outcome(values, lost, 0)


def _fitting(kernel: Kernel, found: Accumulated) -> Accumulated:
    """The sums, provided that what counts as exact fits the register it is said to fit."""
    accumulator = kernel.accumulator
    if isinstance(accumulator, Accumulator) and accumulator.overflow is Overflow.EXACT and found.values.size:
        low, high = int(found.values.min()), int(found.values.max())
        if low < accumulator.smallest or high > accumulator.largest:
            raise BadInput(
                f"every sum must fit the register of {accumulator.bits} bits", got=f"{low}..{high}", fix="split k"
            )
    return found
