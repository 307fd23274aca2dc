"""The 4-bit weight, float16 activation machine: weights become float16, products are exact, sums are float32."""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import Quantized
from simulator.arithmetic.sequential import sequential_sums
from simulator.targets.description import Target
from simulator.targets.operands import Outcome, require_bias


def half_weights(w: Quantized) -> np.ndarray:
    """``w16 = f16((q - zero_point) * scale)`` as float16, (outputs, depth).

    The product of a code difference of at most 13 bits and a scale of 11 is exact in float32, so it is rounded once.

    Raises:
        BadInput: a product beyond float16, or a code or scale format too wide.
    """
    if w.spec.format.bits > 8:
        raise BadInput("weights of this machine have at most 8 bits", got=w.spec.format, fix="use narrower codes")
    expand = w.spec.granularity.expand
    steps = w.codes.astype(np.int32) - expand(w.zero_point, w.codes.shape)
    with np.errstate(over="ignore"):
        made = (steps.astype(np.float32) * expand(w.scale, w.codes.shape)).astype(np.float16)
    if not np.all(np.isfinite(made)):
        raise BadInput("every weight must fit float16", got="an infinity", fix="use smaller scales")
    return made


def half_linear(target: Target, x: object, w: Quantized, bias: np.ndarray | None) -> Outcome:
    """``f16(f32(sum_k x_mk w16_nk + b_n))``, the sum in float32 in ascending k, each addition rounded.

    Args:
        target: for the messages.
        x: finite float16 (rows, depth).
        w: (outputs, depth).
        bias: float32 (outputs,), or None: then nothing is added.

    Returns:
        float16 values; infinities are counted as overflowed.
    """
    if not isinstance(x, np.ndarray) or x.dtype != np.float16 or x.ndim != 2 or not np.all(np.isfinite(x)):
        got = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise BadInput(f"{target} takes x as finite float16 (rows, depth)", got=got, fix="convert it to float16")
    if w.codes.ndim != 2 or x.shape[1] != w.codes.shape[1]:
        raise BadInput(
            "x must be (rows, depth) and w (outputs, depth)", got=f"{x.shape}, {w.codes.shape}", fix="transpose w"
        )
    sums = sequential_sums(x.astype(np.float32), half_weights(w).astype(np.float32))
    if bias is not None:
        require_bias(bias, len(w.codes), np.float32, "give it in real units")
        sums = sums + bias
    with np.errstate(over="ignore"):
        values = sums.astype(np.float16)
    return Outcome(values, int(np.count_nonzero(~np.isfinite(values))), 0)
