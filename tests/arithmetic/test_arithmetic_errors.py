"""Claim: what the engine cannot do exactly is refused with a BadInput that states rule, value and fix."""

from __future__ import annotations

import numpy as np
import pytest
from contraction_problems import as_activation, as_side

from samplers.errors import BadInput, QnoiseError
from simulator.arithmetic import contract
from simulator.arithmetic.certificate import Certificate
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.operands import ScaledFormat, quantize_image, quantize_matrices
from simulator.arithmetic.quantizer import Quantized, QuantSpec, parameters_from_range, quantize, quantize_to_range
from simulator.arithmetic.weights import prepare_weight

BYTE, WIDE = QuantSpec(IntFormat(8)), QuantSpec(IntFormat(9))
ONE = np.float32(1)
HOW = ScaledFormat(BYTE, ONE, 0)
X = np.ones((2, 3), np.float32)
WEIGHT = prepare_weight(Quantized(np.ones((2, 5), np.int8), np.ones((1, 1), "f4"), np.zeros((1, 1), "i4"), BYTE))
POINT = prepare_weight(
    Quantized(np.ones((2, 5, 1, 1), np.int8), np.ones((1,) * 4, "f4"), np.zeros((1,) * 4, "i4"), BYTE)
)
KERNEL = prepare_weight(
    Quantized(np.ones((2, 5, 3, 3), np.int8), np.ones((1,) * 4, "f4"), np.zeros((1,) * 4, "i4"), BYTE)
)


def image(*shape):
    return as_activation(np.ones(shape, np.int8), HOW)


def sided(side, *shape):
    return as_side(np.ones(shape, np.int8), HOW, side)


def quantized(granularity, fmt=BYTE.format):
    codes = np.ones((4, 6, 3, 3), fmt.dtype)
    shape = granularity.parameter_shape(codes.shape)
    return Quantized(codes, np.ones(shape, np.float32), np.zeros(shape, np.int32), QuantSpec(fmt, granularity))


def ranged(low, high):
    return parameters_from_range(np.array([low]), np.array([high]), BYTE)


def given(x=X, spec=BYTE, scale=1.0, zero=0, shape=(1, 1)):
    return quantize(x, spec, np.full(shape, scale, np.float32), np.full(shape, zero, np.int32))


CASES = {
    "no bits": (lambda: IntFormat(0), "bits"),
    "17 bits": (lambda: IntFormat(17), "bits"),
    "fractional bits": (lambda: IntFormat(8.0), "bits"),
    "narrow unsigned": (lambda: IntFormat(8, signed=False, narrow=True), "narrow"),
    "narrow one bit": (lambda: IntFormat(1, narrow=True), "narrow"),
    "group of nothing": (lambda: PerGroup(1, 0), "group size"),
    "group of a fraction": (lambda: PerGroup(1, 2.5), "group size"),
    "grouped axis twice": (lambda: PerGroup(1, 2, (1,)), "axis"),
    "axis beyond the rank": (lambda: PerAxis((2,)).parameter_shape((3, 4)), "axes"),
    "negative axis": (lambda: PerAxis((-1,)).reduce(X, np.minimum), "axes"),
    "grouped axis beyond the rank": (lambda: PerGroup(2, 3).parameter_shape((3, 4)), "axes"),
    "grouped axis to reduce": (lambda: PerGroup(2, 3).reduce(X, np.minimum), "axes"),
    "range with NaN": (lambda: ranged(np.nan, 1), "finite"),
    "infinite range": (lambda: ranged(0, np.inf), "finite"),
    "reversed range": (lambda: ranged(1, 0), "low <= high"),
    "data with NaN": (lambda: quantize_to_range(np.array([np.nan, 1], np.float32), BYTE), "finite"),
    "float64 data": (lambda: given(X.astype(np.float64)), "float32"),
    "float16 data": (lambda: given(X.astype(np.float16)), "float32"),
    "scale of another shape": (lambda: given(shape=(2, 1)), "shape"),
    "scale per channel": (lambda: given(spec=QuantSpec(IntFormat(8), PerAxis((0,)))), "shape"),
    "scale zero": (lambda: given(scale=0), "positive"),
    "negative scale": (lambda: given(scale=-1), "positive"),
    "infinite scale": (lambda: given(scale=np.inf), "finite"),
    "scale NaN": (lambda: given(scale=np.nan), "finite"),
    "zero point above": (lambda: given(zero=128), "zero_point"),
    "zero point below": (lambda: given(zero=-129), "zero_point"),
    "wide activation": (lambda: ScaledFormat(WIDE, ONE, 0), "8 bits"),
    "activation per channel": (lambda: ScaledFormat(QuantSpec(IntFormat(8), PerAxis((1,))), ONE, 0), "one scale"),
    "wide weight": (lambda: prepare_weight(quantized(PerTensor(), IntFormat(16))), "8 bits"),
    "weight per input": (lambda: prepare_weight(quantized(PerAxis((1,)))), "scale"),
    "weight per tap": (lambda: prepare_weight(quantized(PerAxis((0, 2)))), "scale"),
    "weight grouped per tap": (lambda: prepare_weight(quantized(PerGroup(1, 2, (0, 3)))), "scale"),
    "33 bits": (lambda: Certificate(2**31).require_int32(), "int32"),
    "other channels": (lambda: contract.conv(image(1, 4, 4, 3), POINT), "channels"),
    "other depth": (lambda: contract.linear(sided("left", 3, 4), WEIGHT), "channels"),
    "image smaller than the kernel": (lambda: contract.conv(image(1, 2, 9, 5), KERNEL), "kernel"),
    "other batch": (lambda: contract.batched_matmul(sided("left", 2, 3, 4), sided("right", 1, 3, 4)), "batch"),
    "other inner depth": (lambda: contract.batched_matmul(sided("left", 2, 3, 4), sided("right", 2, 3, 5)), "depth"),
    "out of another shape": (lambda: contract.conv(image(1, 1, 1, 5), POINT, out=np.zeros((1, 2), "f4")), "out"),
    "out in float64": (lambda: contract.conv(image(1, 1, 1, 5), POINT, out=np.zeros((1, 1, 1, 2))), "out"),
    "out with gaps": (
        lambda: contract.conv(image(1, 1, 1, 5), POINT, out=np.zeros((1, 1, 1, 4), "f4")[..., ::2]),
        "out",
    ),
    "linear out of another shape": (
        lambda: contract.linear(sided("left", 3, 5), WEIGHT, out=np.zeros((2, 3), "f4")),
        "out",
    ),
    "batched out of another shape": (
        lambda: contract.batched_matmul(sided("left", 1, 3, 4), sided("right", 1, 2, 4), out=np.zeros((1, 2, 3), "f4")),
        "out",
    ),
    # what numba would otherwise read past the end of, or compute in another precision
    "bias too short": (lambda: contract.conv(image(1, 1, 1, 5), POINT, np.zeros(1, "f4")), "bias"),
    "bias too long": (lambda: contract.linear(sided("left", 3, 5), WEIGHT, np.zeros(3, "f4")), "bias"),
    "stride zero": (lambda: Geometry.of(2, stride=(0, 1)), "stride"),
    "left operand on the right": (lambda: contract.batched_matmul(sided("right", 1, 3, 4), sided("left", 1, 2, 4)), ""),
    "activation scale zero": (lambda: ScaledFormat(BYTE, np.float32(0), 0), "scale"),
    "activation scale NaN": (lambda: ScaledFormat(BYTE, np.float32(np.nan), 0), "scale"),
    "activation zero point outside": (lambda: ScaledFormat(BYTE, ONE, 200), "zero_point"),
    "float64 image": (lambda: quantize_image(np.ones((1, 2, 2, 3)), HOW), "float32"),
    "float64 matrices": (lambda: quantize_matrices(np.ones((1, 2, 3)), HOW, side="left"), "float32"),
    "unknown side": (lambda: quantize_matrices(np.ones((1, 2, 3), "f4"), HOW, side="middle"), "side"),
    "symmetric spec without a positive code": (
        lambda: parameters_from_range(np.array([-1.0]), np.array([1.0]), QuantSpec(IntFormat(1), symmetric=True)),
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_engine__refuses_with_rule_value_and_fix(case):
    call, word = CASES[case]
    with pytest.raises(BadInput) as caught:
        call()
    error = caught.value
    assert isinstance(error, (QnoiseError, ValueError))
    assert word in str(error)
    assert error.rule
    assert error.fix
    assert str(error.got)
    assert str(error) == f"{error.rule}, got {error.got}; {error.fix}"
    assert "\n" not in error.rule + error.fix


def test_scaled_format__divides_in_float32_whatever_number_the_scale_is():
    # 0.1 is not a float32: a float64 division would round ties of the float32 scale another way
    x = (np.arange(-100, 100) * np.float32(0.1) + np.float32(0.05)).astype(np.float32).reshape(1, 1, -1)
    plain = quantize_matrices(x, ScaledFormat(BYTE, 0.1, 0), side="right")
    typed = quantize_matrices(x, ScaledFormat(BYTE, np.float32(0.1), 0), side="right")
    assert np.array_equal(plain.bytes, typed.bytes)
