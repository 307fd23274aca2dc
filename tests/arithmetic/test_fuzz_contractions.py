"""Claim: whatever is passed to a contraction, only BadInput escapes, and a value that comes back is the exact one."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz_values import anything, arrays, integers, mostly, numbers, outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_convolution import convolve

from simulator.arithmetic import codes_out, contract
from simulator.arithmetic.accumulator import Accumulator, Bias, Count, KOrder, Overflow, ZeroPoint, accumulate_exact
from simulator.arithmetic.conv import integer_conv, integer_conv_transpose
from simulator.arithmetic.exact import exact_conv, exact_matmul
from simulator.arithmetic.float_formats import NARROW_FORMATS
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerBlock, PerGroup, PerTensor
from simulator.arithmetic.group_sums import GroupOrder, GroupRegister, add_groups, add_integer_groups
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.operands import (
    Activation,
    ScaledFormat,
    left_operand,
    pad,
    quantize_image,
    quantize_matrices,
)
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.arithmetic.requantize import OnnxRuntimeRequantizer
from simulator.arithmetic.weights import prepare_matrices, prepare_weight

pytestmark = pytest.mark.usefixtures("one_thread")

small = st.lists(st.sampled_from([0, 1, 2, 2, 3, 4]), min_size=1, max_size=5).map(tuple)
codes = arrays(("i1", "u1", "i2", "u2"), small)
zeros = st.one_of(st.integers(-128, 255), arrays(("i1", "i4", "i8", "u8"), st.sampled_from([(), (1,), (2,), (3,)])))
biases = st.one_of(st.none(), arrays(("i4", "i8", "u8", "i1"), st.sampled_from([(1,), (2,), (3,), (4,)])))
counts = mostly(st.sampled_from(Count))
machines = st.one_of(
    st.builds(
        Accumulator, st.integers(2, 64), st.sampled_from(Overflow), st.sampled_from([1, 2, 5, 10**30]),
        st.sampled_from(KOrder), st.sampled_from(ZeroPoint), st.sampled_from(Bias),
    ),
    st.builds(PairAccumulator, st.sampled_from(Pairing)),
)  # fmt: skip
geometries = st.one_of(
    st.none(),
    st.builds(
        lambda axes, *numbers: Geometry.of(
            axes, stride=numbers[0], padding=numbers[1], dilation=numbers[2], groups=numbers[3]
        ),
        st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(1, 2), st.sampled_from([1, 1, 2, 3]),
    ),
)  # fmt: skip


def plain(x, w, machine, x_zero, w_zero, bias):
    """Outputs of matrices (rows, depth) and (outputs, depth) one by one."""
    w_zero = np.broadcast_to(np.asarray(w_zero, object), (len(w),)).tolist()
    bias = [0] * len(w) if bias is None else bias.tolist()
    found = [
        [
            accumulate_exact(row, column, machine, int(x_zero), z, b)
            for column, z, b in zip(w, w_zero, bias, strict=True)
        ]
        for row in x
    ]
    return [[one.value for one in row] for row in found]


@given(mostly(codes), mostly(codes), mostly(machines), mostly(zeros), mostly(zeros), mostly(biases), counts, st.data())
def test_integer_matmul__is_refused_or_the_scalar_form(x, w, machine, x_zero, w_zero, bias, count, data):
    if isinstance(x, np.ndarray) and x.ndim and data.draw(st.booleans()):
        w = data.draw(arrays(("i1", "u1", "i2"), st.sampled_from([(3, x.shape[-1]), (2, 3, x.shape[-1])])))
    found = outcome(integer_matmul, x, w, machine, x_zero=x_zero, w_zero=w_zero, bias=bias, count=count)
    if found is not None:
        assert found.values.dtype in (np.int32, np.int64)
        assert found.values.shape == (*np.broadcast_shapes(x.shape[:-2], w.shape[:-2]), x.shape[-2], w.shape[-2])
        if isinstance(machine, Accumulator) and x.ndim == w.ndim == 2:
            assert found.values.tolist() == plain(x.tolist(), w.tolist(), machine, x_zero, w_zero, bias)
    values = outcome(exact_matmul, x, w, x_zero, w_zero)
    if values is not None and x.ndim == w.ndim == 2:
        assert values.tolist() == plain(x.tolist(), w.tolist(), Accumulator(), x_zero, w_zero, None)


def fitting(data, x, geometry, *, transpose=False):
    """A kernel that fits an image, where there is one."""
    groups = 1 if geometry is None else geometry.groups
    channels = max(x.shape[-1] // groups, 1)
    ends = (channels * groups, 2) if transpose else (2 * groups, channels)
    kernel = tuple(data.draw(st.integers(1, 2)) for _ in range(max(x.ndim - 2, 1)))
    return data.draw(arrays(("i1", "u1", "i2"), st.just((*ends, *kernel))))


@given(
    mostly(codes), mostly(codes), mostly(machines), mostly(geometries), mostly(zeros), mostly(zeros), mostly(biases),
    counts, st.data(),
)  # fmt: skip
def test_integer_conv__is_refused_or_the_sum_over_taps(x, w, machine, geometry, x_zero, w_zero, bias, count, data):
    if isinstance(x, np.ndarray) and x.ndim and (geometry is None or isinstance(geometry, Geometry)):
        w = data.draw(st.sampled_from([w, fitting(data, x, geometry)]))
    options = {"x_zero": x_zero, "w_zero": w_zero, "bias": bias, "count": count}
    found = outcome(integer_conv, x, w, machine, geometry, **options)
    if found is not None:
        whole = geometry or Geometry.of(x.ndim - 2)
        assert found.values.dtype == np.int64
        assert found.values.shape == (len(x), *whole.output_size(x.shape[1:-1], w.shape[2:]), len(w))
        if isinstance(machine, Accumulator) and machine.overflow is Overflow.EXACT:
            want = convolve(x, w, whole, int(x_zero), np.asarray(w_zero, np.int64))
            assert np.array_equal(found.values, want + (0 if bias is None else bias.astype(np.int64)))
    outcome(exact_conv, x, w, geometry, x_zero, w_zero)


@given(
    mostly(codes), mostly(codes), mostly(machines), mostly(geometries), mostly(st.integers(0, 2), integers),
    mostly(zeros), mostly(zeros), mostly(biases), counts, st.data(),
)  # fmt: skip
def test_integer_conv_transpose__is_refused_or_int64(x, w, machine, geometry, extra, x_zero, w_zero, bias, count, data):
    if isinstance(x, np.ndarray) and x.ndim and (geometry is None or isinstance(geometry, Geometry)):
        w = data.draw(st.sampled_from([w, fitting(data, x, geometry, transpose=True)]))
    for padding in (extra, (extra,), data.draw(anything)):
        options = {"output_padding": padding, "x_zero": x_zero, "w_zero": w_zero, "bias": bias, "count": count}
        found = outcome(integer_conv_transpose, x, w, machine, geometry, **options)
        assert found is None or found.values.dtype == np.int64


granularities = st.sampled_from(
    [PerTensor(), PerTensor(), PerAxis((0,)), PerAxis((0, 1)), PerGroup(1, 2, (0,)), PerGroup(2, 3), PerBlock((2, 2)),
     PerBlock((None, 3, None)), PerAxis((1,))]
)  # fmt: skip


@st.composite
def quantized(draw):
    """Codes of up to 9 bits, at times outside their format, with parameters that fit."""
    fmt, granularity = (
        draw(st.builds(IntFormat, st.sampled_from([2, 4, 8, 8, 8, 9]), st.booleans())),
        draw(granularities),
    )
    values = draw(arrays((fmt.dtype.str[1:],), small))
    if draw(st.integers(0, 5)):
        values = np.clip(values, fmt.qmin, fmt.qmax).astype(fmt.dtype)
    shape = outcome(granularity.parameter_shape, values.shape)
    if shape is None:
        return None
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    zero = rng.integers(fmt.qmin, fmt.qmax, shape, np.int32, endpoint=True)
    return Quantized(values, np.exp(rng.normal(size=shape)).astype(np.float32), zero, QuantSpec(fmt, granularity))


sizes = st.one_of(st.none(), st.integers(1, 4), anything)
float_biases = st.one_of(st.none(), st.none(), arrays(("f4", "f8"), st.sampled_from([(1,), (2,), (3,)])))
outputs = st.one_of(st.none(), st.none(), st.none(), arrays(("f4", "i4")))


def products(call, x, weight, *rest, **options):
    """A contraction's result, which is finite where its scales are small."""
    found = outcome(call, x, weight, *rest, **options)
    if found is not None:
        assert isinstance(found, np.ndarray)
        assert found.dtype in (np.float32, np.int32)
    return found


@settings(max_examples=200)
@given(quantized(), mostly(quantized()), mostly(st.integers(1, 2)), sizes, mostly(geometries), float_biases, outputs,
       anything)  # fmt: skip
def test_contract__is_refused_or_returns_sums(x, weight, parts, size, geometry, bias, out, junk):
    made = [outcome(prepare_weight, weight, parts=parts, group_size=size), outcome(prepare_matrices, weight), junk]
    lefts = [outcome(left_operand, x), outcome(pad, outcome(left_operand, x), geometry), junk]
    requantizer = OnnxRuntimeRequantizer(0.5, 0.25, 2.0)
    for left in lefts:
        for right in (*made, left):
            products(contract.linear, left, right, bias, out=out)
            sums = products(contract.linear_sums, left, right)
            products(contract.conv, left, right, bias, geometry, out=out)
            image = products(contract.conv_sums, left, right, geometry)
            products(contract.batched_matmul, left, right, out=out)
            products(contract.batched_sums, left, right)
            coded = outcome(codes_out.linear_codes, left, right, requantizer)
            if coded is not None:
                assert np.array_equal(coded.codes, requantizer(sums[0]).codes)
            coded = outcome(codes_out.conv_codes, left, right, requantizer, geometry)
            if coded is not None:
                assert np.array_equal(coded.codes, requantizer(image[0]).codes)
            outcome(codes_out.linear_codes, left, right, junk)
            outcome(codes_out.conv_codes, left, right, junk, geometry)
    outcome(left_operand, junk)
    outcome(pad, junk, geometry)


@given(mostly(arrays(("f4",))), mostly(numbers), mostly(integers), mostly(geometries), mostly(integers), anything)
def test_quantized_operands__are_refused_or_bytes(x, scale, zero, geometry, seed, junk):
    for how in (
        outcome(ScaledFormat, QuantSpec(IntFormat(8)), scale, zero, seed), outcome(ScaledFormat, junk, scale, zero),
        ScaledFormat(QuantSpec(IntFormat(4)), np.float32(0.1), 3), junk,
    ):  # fmt: skip
        image = outcome(quantize_image, x, how, geometry)
        assert image is None or image.bytes.dtype == np.uint8
        for side in ("left", "right", junk):
            matrices = outcome(quantize_matrices, x, how, side=side)
            assert matrices is None or matrices.bytes.shape == x.shape
            if isinstance(side, str) and side == "right":
                products(contract.batched_matmul, outcome(quantize_matrices, x, how, side="left"), matrices)
    outcome(Activation, x, junk, junk, zero)
    outcome(Activation, np.zeros((2, 3), np.uint8), junk, junk, zero, 0, seed)


@given(
    mostly(arrays(("i4", "i8", "i2", "u8"), small)), mostly(arrays(("f4", "i2", "i4"), small)),
    mostly(st.builds(GroupRegister, order=st.sampled_from(GroupOrder))),
    mostly(st.one_of(st.none(), arrays(("f4",), small))), float_biases, mostly(machines), anything, st.data(),
)  # fmt: skip
def test_group_sums__are_refused_or_have_the_sums_shape(sums, scale, register, left, bias, machine, junk, data):
    if isinstance(sums, np.ndarray) and sums.ndim and data.draw(st.booleans()):
        scale = data.draw(arrays(("f4", "i2"), st.just((sums.shape[0], sums.shape[-1]))))
    found = outcome(add_groups, sums, scale, register, left_scale=left, bias=bias)
    assert found is None or (found.shape == sums.shape[1:] and found.dtype == np.float32)
    outcome(GroupRegister, junk)
    outcome(GroupRegister, data.draw(st.sampled_from(NARROW_FORMATS)), junk)
    for order in (GroupOrder.ASCENDING, GroupOrder.PAIRWISE, junk):
        added = outcome(add_integer_groups, sums, scale, machine, order)
        if added is not None and machine.overflow is Overflow.EXACT:
            factors = scale.astype(object).reshape(len(scale), *(1,) * (sums.ndim - 2), -1)
            assert added.values.tolist() == (sums.astype(object) * factors).sum(axis=0).tolist()
