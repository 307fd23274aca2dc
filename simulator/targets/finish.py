"""From integer sums to what leaves an operation: codes by the kernel's requantizer, floats by its epilogue."""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.fixed_point import INT32_MAX, INT32_MIN
from simulator.arithmetic.kernels import epilogues as kernels
from simulator.arithmetic.requantize import CutlassRequantizer, Requantized
from simulator.targets.description import BiasKind, Epilogue, Kernel, Target, WeightScale
from simulator.targets.operands import OutputSpec, require_bias

f32 = np.float32


def require_output(target: Target, operation: str, kernel: Kernel, output: OutputSpec | None) -> None:
    """Raise BadInput unless the kernel has such an output."""
    if output is None and kernel.epilogue is None:
        raise BadInput(f"{operation} on {target} has no float output", got="no output spec", fix="give an OutputSpec")
    if output is not None and kernel.requantizer is None:
        raise BadInput(f"{operation} on {target} has float outputs only", got="an output spec", fix="drop it")
    if output is not None and output.format not in target.outputs:
        formats = ", ".join(map(str, target.outputs))
        raise BadInput(f"{target} has outputs of {formats}", got=output.format, fix="use one of them")


def to_codes(
    kernel: Kernel, sums: np.ndarray, x_scale: np.float32, w_scale: np.ndarray, bias: np.ndarray | None,
    output: OutputSpec,
) -> Requantized:  # fmt: skip
    """Codes of int64 sums (..., outputs).

    Args:
        kernel: with a requantizer.
        sums: what the register held.
        x_scale: one float32.
        w_scale: float32 () or (outputs,).
        bias: of the kernel's kind, checked, or None.
        output: scale, zero point and format.

    Raises:
        BadInput: a sum that does not fit int32, or parameters that the requantizer refuses.
    """
    if sums.size and not (sums.min() >= INT32_MIN and sums.max() <= INT32_MAX):
        raise BadInput("a requantizer takes int32 sums", got=f"{sums.min()}..{sums.max()}", fix="split the contraction")
    acc = sums.astype(np.int32)
    if kernel.weight_scale is WeightScale.INVERTED_TWICE_PER_CHANNEL and w_scale.ndim:
        w_scale = f32(1) / (f32(1) / w_scale)
    assert kernel.requantizer is not None
    if issubclass(kernel.requantizer, CutlassRequantizer):
        if output.zero_point:
            raise BadInput("this requantizer has no zero point", got=output.zero_point, fix="use 0")
        alpha = (x_scale * w_scale) / f32(output.scale)
        beta = 0.0 if bias is None else 1.0
        return kernel.requantizer(np.asarray(alpha), beta, bias, output.format)(acc)
    made = kernel.requantizer(x_scale, w_scale, output.scale, output.zero_point, output.format, bias)
    return made(acc)


def require_requantizer_bias(kernel: Kernel, bias: np.ndarray | None, outputs: int, output: OutputSpec) -> None:
    """Raise BadInput unless the bias is of the kind that the kernel's requantizer takes."""
    if bias is None:
        return
    if kernel.bias is BiasKind.FLOAT32:
        require_bias(bias, outputs, np.float32, "give it in real units")
    elif kernel.bias is BiasKind.INT32:
        require_bias(bias, outputs, np.int32, "make it with quantize_bias")
    else:
        require_bias(bias, outputs, output.format.dtype, "quantize it to the output's scale")


def to_floats(
    epilogue: Epilogue, sums: np.ndarray, x_scale: np.ndarray, w_scale: np.ndarray, bias: np.ndarray | None
) -> np.ndarray:
    """Float32 of int64 sums by the epilogue's formula.

    Args:
        epilogue: not GROUPS or HALF.
        sums: (..., outputs).
        x_scale: float32 that broadcasts to the sums.
        w_scale: likewise.
        bias: float32 (outputs,), or None: then nothing is added.
    """
    with np.errstate(all="ignore"):
        acc = sums.astype(f32)
        if epilogue is Epilogue.ONEDNN:
            x_scale, w_scale = f32(1) / (f32(1) / x_scale), f32(1) / (f32(1) / w_scale)
        if epilogue in (Epilogue.ONEDNN, Epilogue.ROW_THEN_COLUMN):
            real = acc * x_scale * w_scale
        else:
            scale = x_scale * w_scale
            if epilogue is Epilogue.FUSED and bias is not None:
                return _multiply_add(acc, scale, bias)
            real = acc * scale
        return real if bias is None else real + bias


def _multiply_add(acc: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``f32(acc * scale + bias)``, rounded once."""
    wide, addend = (np.ascontiguousarray(np.broadcast_to(v, acc.shape)).reshape(-1) for v in (scale, bias))
    out = np.empty(acc.shape, f32)
    kernels.multiply_add(np.ascontiguousarray(acc).reshape(-1), wide, addend, out.reshape(-1))
    return out


def quantize_bias(
    bias: np.ndarray, x_scale: np.float32 | float, w_scale: np.ndarray | np.float32 | float
) -> np.ndarray:
    """An int32 bias: ``rint(f64(b) / (f64(x_scale) f64(w_scale)))``, ties to even.

    The product of two float32 is exact in float64, the quotient is rounded there before ``rint``.

    Args:
        bias: float32 or float64 (outputs,).
        x_scale: the activation's float32 scale.
        w_scale: the weight's, () or (outputs,).

    Raises:
        BadInput: another dtype, or a result that is not finite or beyond int32.
    """
    if bias.dtype not in (np.float32, np.float64):
        raise BadInput("a bias to be quantized is float32 or float64", got=bias.dtype, fix="give it in real units")
    unit = np.float64(f32(x_scale)) * np.asarray(w_scale, f32).astype(np.float64)
    with np.errstate(all="ignore"):
        steps = np.rint(bias.astype(np.float64) / unit)
    if not np.all((steps >= INT32_MIN) & (steps <= INT32_MAX)):
        raise BadInput("a quantized bias must fit int32", got=steps[np.abs(steps).argmax()], fix="use larger scales")
    return steps.astype(np.int32)
