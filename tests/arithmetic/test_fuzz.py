"""Claim: whatever is passed to a public value or quantizer, only BadInput escapes, and what comes back is right.

No crash, no warning, no exception of numpy or numba, and no number that a cast changed silently.
"""

from __future__ import annotations

import numpy as np
import pytest
from fuzz_values import anything, arrays, integers, mostly, numbers, outcome, shapes, wrong
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_reference import quantize_one

from simulator.arithmetic import block_formats, blockscale, dynamic, scale_formats
from simulator.arithmetic.accumulator import Accumulator, Bias, KOrder, Overflow, ZeroPoint
from simulator.arithmetic.float_codes import decode, encode
from simulator.arithmetic.float_formats import NARROW_FORMATS
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerBlock, PerGroup, PerTensor
from simulator.arithmetic.packed_layouts import LAYOUTS
from simulator.arithmetic.packing import pack, unpack
from simulator.arithmetic.quantizer import (
    Quantized,
    QuantSpec,
    dequantize,
    parameters_from_range,
    quantize,
    quantize_to_range,
)
from simulator.arithmetic.requantize import REQUANTIZERS
from simulator.arithmetic.rounding import Rounding
from simulator.arithmetic.rules import QUANTIZE_RULES

pytestmark = pytest.mark.usefixtures("one_thread")

formats = st.builds(IntFormat, st.integers(1, 16), st.booleans())
axes = st.lists(st.integers(0, 3), max_size=3, unique=True).map(tuple)
granularities = st.one_of(
    st.just(PerTensor()),
    st.builds(PerAxis, axes),
    st.builds(PerGroup, st.integers(4, 5), st.integers(1, 9), axes),
    st.builds(PerGroup, st.integers(0, 0), st.sampled_from([1, 2, 3, 10**30])),
    st.lists(st.sampled_from([None, 1, 2, 10**30]), max_size=4).map(lambda sizes: PerBlock(tuple(sizes))),
)
scale_kinds = st.sampled_from(
    [scale_formats.Float32Scale(), scale_formats.PowerOfTwoScale(), scale_formats.FixedPointScale()]
)
specs = st.builds(QuantSpec, formats, granularities, st.booleans(), scale_format=scale_kinds)
floats = arrays(("f4",))


def spec_of(draw_rule):
    return st.builds(lambda f, g, rule: QuantSpec(f, g, rule=rule), formats, granularities, draw_rule)


@given(mostly(integers), mostly(st.booleans()), mostly(st.booleans()))
def test_int_format__is_refused_or_holds_what_it_says(bits, signed, narrow):
    fmt = outcome(IntFormat, bits, signed, narrow)
    if fmt is not None:
        assert type(fmt.bits) is int
        info = np.iinfo(fmt.dtype)
        assert info.min <= fmt.qmin <= 0 <= fmt.qmax <= info.max
        assert fmt.qmax - fmt.qmin == 2**bits - 1 - narrow


@given(*(mostly(s) for s in (integers, st.sampled_from(Overflow), integers, st.sampled_from(KOrder),
                             st.sampled_from(ZeroPoint), st.sampled_from(Bias))))  # fmt: skip
def test_accumulator__is_refused_or_narrows(bits, overflow, tree, order, zero_point, bias):
    machine = outcome(Accumulator, bits, overflow, tree, order, zero_point, bias)
    if machine is not None:
        assert type(machine.bits) is int
        assert machine.narrow(0) == 0


numbers_of_axes = st.one_of(integers, st.lists(st.integers(1, 3), max_size=4).map(tuple), st.tuples(anything))
pads = st.one_of(integers, st.lists(st.one_of(st.integers(0, 2), st.tuples(integers, integers))).map(tuple))


@given(mostly(st.integers(-1, 4)), mostly(numbers_of_axes), mostly(pads), mostly(numbers_of_axes), mostly(integers))
def test_geometry__is_refused_or_has_an_output_size(axes, stride, padding, dilation, groups):
    geometry = outcome(Geometry.of, axes, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if geometry is not None:
        size = outcome(geometry.output_size, (3,) * geometry.axes, (2,) * geometry.axes)
        assert size is None or all(n >= 1 for n in size)
        if size is not None:
            assert geometry.window((3,) * geometry.axes, (2,) * geometry.axes).shape == (4, 3)
    outcome(Geometry, stride, padding, dilation, groups)


@given(mostly(integers), mostly(integers), st.one_of(axes, st.tuples(anything), wrong), mostly(shapes), anything)
def test_granularity__is_refused_or_expands_and_reduces(axis, size, others, shape, tensor):
    for made in (
        PerTensor(), outcome(PerAxis, others), outcome(PerGroup, axis, size, others), outcome(PerBlock, (size, axis)),
        outcome(PerBlock, others),
    ):  # fmt: skip
        if made is None:
            continue
        parameters = outcome(made.parameter_shape, shape)
        outcome(made.expand, tensor, shape)
        if parameters is not None and np.prod(shape, dtype=float) <= 4096:
            assert made.expand(np.ones(parameters), shape).shape == shape
        if isinstance(tensor, np.ndarray) and tensor.dtype.kind not in "UMO":
            reduced = outcome(made.reduce, tensor, np.maximum)
            assert reduced is None or reduced.shape == made.parameter_shape(tensor.shape)


@given(mostly(floats), mostly(specs), mostly(floats), mostly(arrays(("i4",))), mostly(integers))
def test_quantize__is_refused_or_returns_codes(x, spec, scale, zero, seed):
    found = outcome(quantize, x, spec, scale, zero, seed=seed)
    if found is not None:
        assert found.codes.dtype == spec.format.dtype
        assert found.codes.shape == x.shape
    whole = outcome(quantize_to_range, x, spec)
    if whole is not None:
        assert whole.codes.shape == x.shape
        assert whole.clipped <= x.size
        assert dequantize(whole).dtype == np.float32
    outcome(dequantize, x)


@given(arrays(("f4",), st.just((2, 3))), st.sampled_from(sorted(QUANTIZE_RULES)), formats, st.data())
def test_quantize__equals_the_scalar_rule_on_any_value(x, name, fmt, data):
    rule = QUANTIZE_RULES[name]
    spec = QuantSpec(fmt, rule=rule, rounding=rule.roundings[0])
    scale = np.float32(data.draw(st.sampled_from([1e-45, 1e-38, 1.0, 0.1, 3e38])))
    zero = data.draw(st.integers(fmt.qmin, fmt.qmax))
    parameters = np.full((1,) * x.ndim, scale), np.full((1,) * x.ndim, zero, np.int64)
    found = outcome(quantize, x, spec, *parameters)
    codes = [rule.code(v, scale, zero, fmt, spec.rounding) for v in x.reshape(-1)]
    assert found.codes.reshape(-1).tolist() == [code for code, _ in codes]
    assert found.clipped == sum(clipped for _, clipped in codes)
    if name == "divide":
        assert codes == [quantize_one(v, scale, zero, fmt, Rounding.HALF_EVEN) for v in x.reshape(-1)]
    assert np.isfinite(outcome(dequantize, found)).all() or scale > 1


@given(mostly(arrays(("f4", "f8", "i4"))), mostly(arrays(("f4", "f8", "i4"))), mostly(specs))
def test_parameters_from_range__are_refused_or_positive(low, high, spec):
    for pair in ((low, high), (low, low)):
        found = outcome(parameters_from_range, *pair, spec)
        if found is not None:
            scale, zero = found
            assert scale.dtype == np.float32
            assert zero.dtype == np.int32
            assert scale.shape == zero.shape == low.shape
            assert np.all((scale > 0) & np.isfinite(scale))
            assert np.all((zero >= spec.format.qmin) & (zero <= spec.format.qmax))


@given(mostly(specs), anything, anything, anything)
def test_quantized__is_refused_or_dequantizes(spec, codes, scale, zero):
    found = outcome(Quantized, codes, scale, zero, spec)
    assert found is None or outcome(dequantize, found).shape == codes.shape


@given(
    mostly(arrays(("i1", "u1"), st.sampled_from([(64, 64), (16, 64), (8, 8), (3,), (4, 6), (), (0, 8)]))),
    mostly(st.sampled_from(list(LAYOUTS.values()))),
    mostly(st.builds(IntFormat, st.sampled_from([2, 4]), st.booleans())),
    mostly(shapes),
)
def test_pack__is_refused_or_unpacked(codes, layout, fmt, shape):
    if isinstance(codes, np.ndarray) and codes.dtype.kind in "iu" and isinstance(fmt, IntFormat):
        codes = np.clip(codes, fmt.qmin, fmt.qmax).astype(codes.dtype)
    packed = outcome(pack, codes, layout, fmt)
    if packed is not None:
        back = outcome(unpack, packed, layout, codes.shape, fmt)
        assert np.array_equal(back, codes)
    outcome(unpack, codes, layout, shape, fmt)


block_kinds = st.sampled_from([*block_formats.MX_FORMATS, block_formats.NVFP4])


@given(
    mostly(floats), mostly(block_kinds), mostly(integers),
    mostly(st.one_of(st.none(), st.sampled_from(block_formats.ScaleMode))),
    mostly(st.sampled_from([Rounding.HALF_EVEN, Rounding.HALF_AWAY])), mostly(st.one_of(st.none(), numbers)),
)  # fmt: skip
def test_block_formats__are_refused_or_dequantize(x, fmt, axis, mode, rounding, scale):
    found = outcome(blockscale.quantize, x, fmt, axis, mode, rounding, scale)
    if found is not None:
        assert found.codes.shape == x.shape
        for dtype in (np.float32, np.float64):
            back = outcome(blockscale.dequantize, found, dtype)
            assert back.shape == x.shape
            assert back.dtype == dtype
    outcome(blockscale.dequantize, x, fmt)
    built = outcome(blockscale.BlockScaled, x, x, fmt, axis)
    if built is not None:
        outcome(blockscale.dequantize, built)


@given(anything, mostly(st.sampled_from(NARROW_FORMATS)))
def test_float_codes__are_refused_or_go_back(x, fmt):
    codes = outcome(encode, x, fmt)
    if codes is not None:
        assert outcome(decode, codes, fmt).shape == x.shape
    outcome(decode, x, fmt)


@given(mostly(floats), mostly(integers))
def test_dynamic__is_refused_or_returns_codes(x, block):
    for found in (
        outcome(dynamic.quantize_dynamic_linear, x),
        outcome(dynamic.quantize_torchao_rows, x),
        outcome(dynamic.quantize_matmul_nbits_rows, x, block),
    ):
        assert found is None or found.codes.shape == x.shape


vectors = st.one_of(numbers, arrays(("f4", "f8", "i4"), st.sampled_from([(), (3,), (0,), (1, 3)])))


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(set(REQUANTIZERS) - {"cutlass"})), mostly(vectors), mostly(vectors), mostly(vectors),
    mostly(integers), mostly(st.builds(IntFormat, st.just(8), st.booleans())), mostly(st.one_of(st.none(), vectors)),
    mostly(arrays(("i4",), st.sampled_from([(3,), (2, 3), (), (0, 3), (5, 0)]))), integers,
)  # fmt: skip
def test_requantizer__is_refused_or_equals_its_scalar_form(name, x_scale, w_scale, y_scale, zero, fmt, bias, acc, one):
    made = [
        outcome(REQUANTIZERS[name], x_scale, w_scale, y_scale, zero, fmt, bias),
        outcome(REQUANTIZERS["cutlass"], w_scale, y_scale, bias, fmt),
        outcome(REQUANTIZERS[name], np.float32(0.25), np.float32(0.5), 1.0),
    ]
    for requantizer in made:
        if requantizer is not None:
            found = outcome(requantizer, acc)
            outcome(requantizer, acc, out=bias)
            outcome(requantizer.one, one)
            outcome(requantizer.one, 5, zero)
            if found is not None:
                channels = acc.shape[-1]
                codes = [requantizer.one(int(a), i % channels) for i, a in enumerate(acc.reshape(-1))]
                assert found.codes.reshape(-1).tolist() == [code for code, _ in codes]
