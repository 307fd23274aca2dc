"""What the simulator computes at a deployed site, from codes to codes, under the target ``onnxruntime``."""

from __future__ import annotations

import numpy as np

from simulator import targets
from simulator.arithmetic.operands import ScaledFormat
from simulator.arithmetic.quantizer import Quantized
from simulator.instrument.contractions import Conv, MatMul
from simulator.onnx_export.site import TARGET, DeployedSite


def operand_codes(how: ScaledFormat, x: np.ndarray) -> np.ndarray:
    """Codes uint8 of a float32 operand: ``clip(rint(f32(x / scale)) + zero_point)``, as ``QuantizeLinear``."""
    return targets.quantize_activation(TARGET, x, *_parameters(how, x.ndim), spec=how.spec).codes


def site_codes(site: DeployedSite, *operands: np.ndarray) -> np.ndarray:
    """The integer tensor that a site gives for the codes of its operands.

    ``clip(rint(f32(f32(acc + bias) f32(f32(x_scale w_scale) / y_scale))) + y_zero)`` with the exact sums ``acc`` of
    ``(x - x_zero)(w - w_zero)``: the requantizer ``onnxruntime`` of ``simulator.targets``.

    Args:
        site: the contraction.
        operands: codes in the layout of the contraction's tensors: (..., inputs) of a linear layer, (batch, channel,
            spatial...) of a convolution, (..., rows, depth) and (..., columns, depth) of a matmul.

    Returns:
        Codes of the site's output, in the layout of the contraction's result.

    Raises:
        BadInput: codes of another format, shapes that do not fit, or sums beyond int32.
    """
    quantized = [_given(how, codes) for how, codes in zip(site.operands.values(), operands, strict=True)]
    if isinstance(site.contraction, MatMul):
        return targets.matmul(TARGET, quantized[0], quantized[1], site.output).values
    assert site.weight is not None
    (how,) = site.operands.values()
    (codes,) = operands
    if isinstance(site.contraction, Conv):
        image = _given(how, np.ascontiguousarray(np.moveaxis(codes, 1, -1)))
        made = targets.conv(TARGET, image, site.weight, site.bias, site.contraction.geometry, site.output)
        return np.ascontiguousarray(np.moveaxis(made.values, -1, 1))
    rows = _given(how, codes.reshape(-1, codes.shape[-1]))
    made = targets.linear(TARGET, rows, site.weight, site.bias, site.output)
    return made.values.reshape(*codes.shape[:-1], -1)


def _given(how: ScaledFormat, codes: np.ndarray) -> Quantized:
    return Quantized(codes, *_parameters(how, codes.ndim), how.spec)


def _parameters(how: ScaledFormat, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point in the shape that a tensor of this rank has them in."""
    shape = how.spec.granularity.parameter_shape((2,) * rank)
    return np.full(shape, how.scale, np.float32), np.full(shape, how.zero_point, np.int32)
