"""Dynamic quantization of activations: scale, zero point and codes from the tensor itself, step by step as kernels do.

``f32`` rounds to float32; each line below is one float32 operation of numpy. A range that holds NaN or an infinity, or
a scale that would be 0 or infinite, is an error here; the kernels go on with meaningless codes.
"""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.float_codes import require_float32
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import Granularity, PerAxis, PerGroup
from simulator.arithmetic.quantizer import Quantized, QuantSpec, quantize, require_scale
from simulator.arithmetic.rules import TORCHAO

f32 = np.float32
TORCHAO_EPS = f32(2.0**-23)
"""Smallest scale of torchao's int8 activations (float32's machine epsilon)."""


def quantize_dynamic_linear(x: np.ndarray) -> Quantized:
    """ONNX ``DynamicQuantizeLinear``: one uint8 scale and zero point for the tensor.

    ``lo = min(0, min x)``, ``hi = max(0, max x)``, ``scale = f32(f32(hi - lo) / 255)``, 1 if ``hi == lo``;
    ``zero_point = rint(clip(f32(0 - f32(lo / scale)), 0, 255))``; codes by the rule ``divide``.

    Args:
        x: float32, not empty, of any rank.

    Raises:
        BadInput: another dtype, an empty tensor, NaN or infinities, or a range whose scale is 0 or infinite.
    """
    _require_data(x)
    low, high = np.minimum(f32(0), x.min()), np.maximum(f32(0), x.max())
    with np.errstate(over="ignore", under="ignore"):
        scale = f32(1) if low == high else (high - low) / f32(255)
    require_scale(scale)
    zero_point = np.rint(np.clip(f32(0) - low / scale, f32(0), f32(255)))
    shape = (1,) * x.ndim
    return quantize(
        x, QuantSpec(IntFormat(8, signed=False)), np.full(shape, scale, f32), np.full(shape, zero_point, np.int32)
    )


def quantize_torchao_rows(x: np.ndarray) -> Quantized:
    """torchao's symmetric int8 activations, one scale per row (all axes but the last).

    ``amax = max |x|`` of the row, ``scale = max(f32(amax / 127.5), 2**-23)``, zero point 0, codes in -128..127 by the
    rule ``torchao``: ``rint(f32(x f32(1 / scale)))``. The largest magnitude lies on 127.5, a tie, so it may round to
    128 and be clipped: that counts.
    Source: torchao 0.18, ``_choose_qparams_affine`` and ``_quantize_affine_no_dtype_cast`` in
    ``quantization/quant_primitives.py``, called by ``Int8Tensor.from_hp``.

    Args:
        x: float32 (..., depth), not empty.

    Raises:
        BadInput: another dtype, an empty tensor, no axis, NaN or infinities.
    """
    _require_data(x)
    granularity = PerAxis(tuple(range(x.ndim - 1)))
    amax = granularity.reduce(np.abs(x), np.maximum)
    scale = np.maximum(amax / f32(127.5), TORCHAO_EPS)
    spec = QuantSpec(IntFormat(8), granularity, symmetric=True, rule=TORCHAO)
    return quantize(x, spec, scale, np.zeros(scale.shape, np.int32))


def quantize_matmul_nbits_rows(x: np.ndarray, block: int) -> Quantized:
    """Activations of ONNX Runtime's MatMulNBits at accuracy level 4: int8, one scale per row and block of the depth.

    ``amax = max |x|`` of the block, ``scale = f32(amax / 127)``, ``inv = f32(127 / amax)`` (from amax, not from the
    scale), codes ``rint(f32(x inv))``, zero point 0. No code can leave -127..127. In an all-zero block the kernel's
    scale is 0; here it is 1, which stands for the same zeros. So is it where amax is below ``2**-119``, where
    ``inv`` overflows or the scale loses bits: codes 0, and each nonzero element counts as clipped.
    Source: ONNX Runtime, ``QuantizeARow_CompInt8`` of the AVX2 and AVX512 kernels in ``core/mlas/lib``.

    Args:
        x: float32 (..., depth), not empty.
        block: block length along the depth; the last block may be shorter.

    Returns:
        Codes with the granularity ``PerGroup(last axis, block, all other axes)``. Its spec names the rule ``divide``;
        the codes are those of the steps above.

    Raises:
        BadInput: another dtype, an empty tensor, no axis, NaN or infinities.
    """
    _require_data(x)
    granularity: Granularity = PerGroup(x.ndim - 1, block, tuple(range(x.ndim - 1)))
    amax = granularity.reduce(np.abs(x), np.maximum)
    usable = amax >= f32(2.0**-119)
    safe = np.where(usable, amax, f32(127))
    scale = safe / f32(127)
    inverse = np.where(usable, f32(127) / safe, f32(0))
    codes = np.rint(x * granularity.expand(inverse, x.shape)).astype(np.int8)
    lost = np.count_nonzero((x != 0) & ~granularity.expand(usable, x.shape))
    spec = QuantSpec(IntFormat(8), granularity, symmetric=True)
    return Quantized(codes, scale, np.zeros(scale.shape, np.int32), spec, int(lost))


def _require_data(x: np.ndarray) -> None:
    require_float32(x)
    if not (x.ndim and x.size):
        raise BadInput("x must have an axis and elements", got=x.shape, fix="skip empty tensors")
    if not np.all(np.isfinite(x)):
        raise BadInput("a dynamic range must be finite", got="NaN or inf in x", fix="check the data for NaN or inf")
