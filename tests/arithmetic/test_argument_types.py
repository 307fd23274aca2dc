"""Claim: an argument is read as it is or refused: no cast changes a number, no list or None reaches a kernel.

Each case once ended in another exception, a warning or a silently wrong number.
"""

from __future__ import annotations

import numpy as np
import pytest
from fuzz_values import outcome

from simulator.arithmetic import blockscale, dynamic
from simulator.arithmetic.accumulator import Accumulator, Bias, Overflow, accumulate_exact
from simulator.arithmetic.block_formats import MXFP4
from simulator.arithmetic.codes_out import linear_codes
from simulator.arithmetic.contract import batched_matmul, linear
from simulator.arithmetic.conv import integer_conv, integer_conv_transpose
from simulator.arithmetic.exact import exact_matmul
from simulator.arithmetic.float_codes import encode
from simulator.arithmetic.float_formats import E4M3
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerBlock, PerGroup, PerTensor
from simulator.arithmetic.group_sums import GroupRegister, add_groups
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.operands import ScaledFormat, left_operand, quantize_matrices
from simulator.arithmetic.packed_layouts import ONNX
from simulator.arithmetic.packing import pack, unpack
from simulator.arithmetic.quantizer import Quantized, QuantSpec, dequantize, parameters_from_range, quantize
from simulator.arithmetic.requantize import OnnxRuntimeRequantizer

pytestmark = pytest.mark.usefixtures("one_thread")

BYTE, HOW = QuantSpec(IntFormat(8)), ScaledFormat(QuantSpec(IntFormat(8)), np.float32(1), 0)
X, ONE, ZERO = np.ones((2, 3), np.float32), np.ones((1, 1), np.float32), np.zeros((1, 1), np.int32)
CODES, IMAGE, KERNEL = np.ones((2, 3), np.int8), np.ones((1, 3, 2), np.int8), np.ones((4, 2, 1), np.int8)
MACHINE = Accumulator()
REFUSED = {
    "bool as bits": lambda: IntFormat(True),
    "None as overflow": lambda: Accumulator(8, None),
    "bool as tree": lambda: Accumulator(8, tree=True),
    "list as data": lambda: quantize([[1.0]], BYTE, ONE, ZERO),
    "None as spec": lambda: quantize(X, None, ONE, ZERO),
    "float64 scale": lambda: quantize(X, BYTE, ONE.astype(float), ZERO),
    "fractional zero point": lambda: quantize(X, BYTE, ONE, ZERO + 0.5),
    "zero point that wraps to 0": lambda: quantize(X, BYTE, ONE, ZERO.astype(np.int64) + 2**32),
    "seed of None": lambda: quantize(X, BYTE, ONE, ZERO, seed=None),
    "range beyond float32": lambda: parameters_from_range(np.array([-1e300]), np.array([1e308]), BYTE),
    "range as wide as float64": lambda: parameters_from_range(np.array([-1.7e308]), np.array([1.7e308]), BYTE),
    "bounds of two shapes": lambda: parameters_from_range(np.zeros(2), np.ones(3), BYTE),
    "no elements to reduce": lambda: PerGroup(0, 2).reduce(X[:0], np.minimum),
    "parameter of another shape": lambda: PerTensor().expand(np.ones(2), (3, 4)),
    "integer as axes": lambda: PerAxis(1),
    "integer as block sizes": lambda: PerBlock(4),
    "codes of another type": lambda: Quantized(CODES.astype(np.int16), ONE, ZERO, BYTE),
    "scale of another shape": lambda: Quantized(CODES, ONE[0], ZERO, BYTE),
    "list of codes": lambda: integer_matmul([[1]], CODES, MACHINE),
    "fractional w_zero": lambda: integer_matmul(CODES, CODES, MACHINE, w_zero=0.5),
    "w_zero of another number": lambda: integer_matmul(CODES, CODES, MACHINE, w_zero=np.zeros(5, int)),
    "huge x_zero": lambda: integer_matmul(CODES, CODES, MACHINE, x_zero=10**30),
    "bias that wraps": lambda: integer_matmul(CODES, CODES, MACHINE, bias=np.full(2, 2**63, np.uint64)),
    "None as accumulator": lambda: integer_matmul(CODES, CODES, None),
    "None as count": lambda: integer_matmul(CODES, CODES, MACHINE, count=None),
    "codes in another byte order": lambda: exact_matmul(CODES.astype(">i2"), CODES),
    "zero points of an array": lambda: exact_matmul(CODES, CODES, np.zeros(3, int)),
    "ragged zero points": lambda: exact_matmul(CODES, CODES, 0, [[1], [1, 2]]),
    "list as image": lambda: integer_conv([[[1]]], KERNEL, MACHINE),
    "bias beyond int64": lambda: integer_conv(IMAGE, KERNEL, MACHINE, bias=np.full(4, 2**62, np.uint64)),
    "x_zero beyond the image's type": lambda: integer_conv_transpose(
        IMAGE, KERNEL.reshape(2, 4, 1), MACHINE, x_zero=200
    ),
    "list as stride": lambda: Geometry([1], ((0, 0),), (1,)),
    "huge stride": lambda: Geometry.of(1, stride=10**30),
    "no depth to multiply": lambda: batched_matmul(
        quantize_matrices(X[:, :0], HOW, side="left"), quantize_matrices(X[:, :0], HOW, side="right")
    ),
    "vector on the left": lambda: batched_matmul(
        quantize_matrices(X[0], HOW, side="left"), quantize_matrices(X, HOW, side="right")
    ),
    "None as weight": lambda: linear(quantize_matrices(X, HOW, side="left"), None),
    "None as requantizer": lambda: linear_codes(quantize_matrices(X, HOW, side="left"), None, None),
    "no rows": lambda: left_operand(Quantized(CODES[:0], ONE, ZERO, BYTE)),
    "zero point of an array": lambda: ScaledFormat(BYTE, 1.0, np.zeros(2, int)),
    "scale beyond float32": lambda: ScaledFormat(BYTE, 1e300, 0),
    "list of sums": lambda: add_groups([[1]], ONE, GroupRegister()),
    "list to pack": lambda: pack([[1], [1, 2]], ONNX, IntFormat(4)),
    "number as shape": lambda: unpack(np.zeros(1, np.uint8), ONNX, 2, IntFormat(4)),
    "list to encode": lambda: encode([1.0], E4M3),
    "float as axis": lambda: blockscale.quantize(X, MXFP4, 0.5),
    "codes of no block": lambda: blockscale.BlockScaled(CODES, CODES, MXFP4, 5),
    "list of activations": lambda: dynamic.quantize_dynamic_linear([1.0]),
    "huge number as scale": lambda: OnnxRuntimeRequantizer(10**400, 1.0, 1.0),
    "bool as a sum": lambda: OnnxRuntimeRequantizer(1.0, 1.0, 1.0).one(True),
    "read-only output": lambda: OnnxRuntimeRequantizer(1.0, 1.0, 1.0)(
        np.zeros((1, 1), np.int32), out=np.broadcast_to(np.int8(0), (1, 1))
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_argument__is_refused(case):
    assert outcome(REFUSED[case]) is None


def test_integer_conv__adds_a_bias_in_int64_whatever_its_type():
    x, w = np.full((1, 1, 1), 127, np.int8), np.full((1, 1, 1), 127, np.int8)
    for kind in (np.int32, np.int64, np.uint32, np.uint64):
        largest = 2**31 - 1
        found = integer_conv(x, w, MACHINE, bias=np.array([largest], kind)).values
        assert (found.dtype, found.item()) == (np.int64, 127 * 127 + largest)
    assert integer_conv(x, w, MACHINE).values.dtype == np.int64


def test_accumulator__takes_a_tree_of_any_size():
    machine = Accumulator(8, Overflow.SATURATE, 10**30, bias=Bias.LAST)
    x = np.full((1, 3), 9, np.int16)
    found = integer_matmul(x, x, machine, x_zero=2**20)
    assert found.values.item() == accumulate_exact([9] * 3, [9] * 3, machine, 2**20)[0]


def test_per_group__of_any_size_is_the_whole_axis():
    for shared in (PerGroup(1, 10**30), PerBlock((None, 10**30))):
        assert shared.parameter_shape((2, 3))[1] == 1
        assert shared.expand(np.ones(shared.parameter_shape((2, 3))), (2, 3)).shape == (2, 3)


def test_dequantize__is_infinite_beyond_float32_without_a_warning():
    huge = Quantized(np.array([[100, 1]], np.int8), np.full((1, 1), 3e38, np.float32), ZERO, BYTE)
    assert outcome(dequantize, huge).tolist() == [[np.inf, np.float32(3e38)]]


def test_integer__may_be_numpys_in_any_form():
    how = ScaledFormat(BYTE, np.float32(1), np.array(3, np.int8))
    assert quantize_matrices(X, how, side="left").zero.item() == 131
    assert (
        integer_matmul(CODES, CODES, MACHINE, x_zero=np.array(1), w_zero=np.uint8(1)).values.tolist() == [[0] * 2] * 2
    )
