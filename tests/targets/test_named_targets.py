"""Claim: every named target is a whole value, and its operations are the stated steps, written here independently.

Sums are numpy int64 (and plain Python where pairs saturate); requantization is Fractions and Python integers. Problems
are dense in ties: power-of-two scales, zero points of either parity, biases in half output steps.
"""

from __future__ import annotations

import textwrap
from dataclasses import fields, replace
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator import targets
from simulator.arithmetic.accumulator import Accumulator, Count, Overflow
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis, PerTensor
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.targets import TARGETS, Epilogue, Evidence, OutputSpec

ROOT = Path(__file__).resolve().parents[2]
f32 = np.float32
every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=str)
INTEGER = [t for t in TARGETS.values() if t.outputs]
FLOATS = [t for t in TARGETS.values() if t.linear and t.linear.epilogue and t.parameters is targets.Parameters.GIVEN]
ASKED = (
    "torch-fbgemm", "torch-qnnpack", "torch-onednn", "x86-avx2", "onnxruntime", "onnx-matmulnbits", "tflite-reference",
    "tflite-xnnpack", "gemmlowp", "cmsis-nn", "cuda-int8", "cutlass-int8", "w4a16-group128",
)  # fmt: skip


def test_targets__are_those_that_were_asked_for():
    assert set(ASKED) <= set(TARGETS)
    assert all(name == target.name == targets.target(name).name for name, target in TARGETS.items())


def test_target__has_no_field_with_a_default_so_a_missing_one_is_an_error():
    made = TARGETS["torch-fbgemm"]
    stated = {field.name: getattr(made, field.name) for field in fields(made)}
    for name in stated:
        with pytest.raises(TypeError, match=name):
            targets.Target(**{key: value for key, value in stated.items() if key != name})


def test_target__name_that_is_unknown_gets_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'torch-fbgemm'"):
        targets.target("torch-fbgem")


@every_target
def test_target__has_evidence_that_exists(target):
    assert target.peer
    assert target.unspecified
    if target.evidence is Evidence.VERIFIED:
        for name in target.proof.where:
            assert name.startswith("tests/peers/")
            assert (ROOT / name).is_file(), name
        text = "".join((ROOT / name).read_text(encoding="utf-8") for name in target.proof.where)
        assert f'"{target.name}"' in text  # a test runs this very value


# --- an independent statement of the arithmetic ---


def rint(value: Fraction) -> int:
    return round(value)


def half_away(value: Fraction) -> int:
    return floor(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1)


def half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))


def fixed_point(ratio: Fraction) -> tuple[int, int]:
    """(multiplier, shift): ratio = multiplier 2^(shift - 31), multiplier in [2^30, 2^31)."""
    shift = 0
    while ratio >= 1:
        ratio, shift = ratio / 2, shift + 1
    while ratio < Fraction(1, 2):
        ratio, shift = ratio * 2, shift - 1
    multiplier = half_away(ratio * 2**31)
    return (2**30, shift + 1) if multiplier == 2**31 else (multiplier, shift)


def doubly(acc: int, ratio: Fraction, second) -> int:
    multiplier, shift = fixed_point(ratio)
    high = half_up(Fraction((acc << max(shift, 0)) * multiplier, 2**31))
    return second(Fraction(high, 2 ** max(-shift, 0)))


def fbgemm(acc, xs, ws, ys, zero, bias, per_channel):
    ats = xs * ws
    shifted = f32(0) if bias is None else bias / ats if per_channel else bias * (f32(1) / ats)
    return int(np.rint((f32(acc) + shifted) * (ats / ys))) + zero


def qnnpack(acc, xs, ws, ys, zero, bias, per_channel):
    step = 0 if bias is None else int(np.rint(bias * (f32(1) / (xs * ws))))
    return int(np.rint(f32(acc + step) * (xs * ws / ys))) + zero


def onednn(acc, xs, ws, ys, zero, bias, per_channel):
    real = f32(acc) * xs * ws + (f32(0) if bias is None else bias)
    return int(np.rint(real * (f32(1) / ys) + f32(zero)))


def onednn_linear(acc, xs, ws, ys, zero, bias, per_channel):
    return onednn(acc, xs, f32(1) / (f32(1) / ws) if per_channel else ws, ys, zero, bias, per_channel)


def onnxruntime(acc, xs, ws, ys, zero, bias, per_channel):
    return int(np.rint(f32(acc + int(bias or 0)) * (xs * ws / ys))) + zero


def exact_ratio(xs, ws, ys):
    """The double multiplier, as TFLite has it."""
    return Fraction(float(xs) * float(ws) / float(ys))


def gemmlowp(acc, xs, ws, ys, zero, bias, per_channel):
    return doubly(acc + int(bias or 0), exact_ratio(xs, ws, ys), half_away) + zero


def ruy(acc, xs, ws, ys, zero, bias, per_channel):
    return doubly(acc + int(bias or 0), exact_ratio(xs, ws, ys), half_up) + zero


def fully_connected(acc, xs, ws, ys, zero, bias, per_channel):
    return half_away(Fraction(float(acc + int(bias or 0)) * float(exact_ratio(xs, ws, ys)))) + zero


def cutlass(acc, xs, ws, ys, zero, bias, per_channel):
    exact = Fraction(float(xs * ws / ys)) * Fraction(float(f32(acc))) + int(bias or 0)
    return int(np.rint(f32(float(exact))))  # the problems keep this exact in float64


FORMULAS = {  # linear, conv
    "torch-fbgemm": (fbgemm, fbgemm),
    "torch-qnnpack": (qnnpack, qnnpack),
    "torch-onednn": (onednn_linear, onednn),
    "torch-x86": (fbgemm, onednn),
    "x86-avx2": (onednn_linear, onednn),
    "onnxruntime": (onnxruntime, onnxruntime),
    "tflite-reference": (fully_connected, gemmlowp),
    "tflite-ruy": (ruy, ruy),
    "tflite-xnnpack": (onnxruntime, onnxruntime),
    "gemmlowp": (gemmlowp, gemmlowp),
    "cmsis-nn": (gemmlowp, gemmlowp),
    "cutlass-int8": (cutlass, cutlass),
}
SCALES = {
    "ties": (0.5, 0.25, 2.0),
    "fine ties": (2.0**-7, 2.0**-5, 2.0**-8),
    "thirds": (1 / 3, 1 / 7, 0.7),
}


def quantized(codes, spec, scale, zero):
    """Codes with one scale, or one per output."""
    shape = spec.granularity.parameter_shape(codes.shape)
    return Quantized(
        codes.astype(spec.format.dtype),
        np.broadcast_to(np.asarray(scale, f32).reshape(-1, *(1,) * (codes.ndim - 1)), shape).copy(),
        np.full(shape, zero, np.int32),
        spec,
    )


def zero_points(spec):
    """Two zero points of either parity that the spec allows."""
    return (0, 0) if spec.symmetric else (spec.format.qmin + 5, spec.format.qmax - 1)


def bias_for(target, kernel, rng, outputs, ys, fmt):
    if kernel.bias is targets.BiasKind.FLOAT32:
        return (rng.integers(-40, 40, outputs) / 2 * ys).astype(f32)
    if kernel.bias is targets.BiasKind.INT32:
        return rng.integers(-200, 200, outputs).astype(np.int32)
    return rng.integers(-20, 20, outputs).astype(fmt.dtype)


def codes(rng, spec, shape, largest):
    low = max(spec.format.qmin, -largest)
    return rng.integers(low, largest, shape, endpoint=True)


def problem(target, kernel, rng, scales, per_channel, x_shape, w_shape, zero):
    """Operands and the output spec; None where the target has no such weights."""
    specs = [s for s in target.weights if (s.granularity == PerAxis((0,))) is per_channel]
    if not specs:
        return None
    xs, ws, ys = (f32(s) for s in SCALES[scales])
    outputs = w_shape[0]
    if per_channel:
        ws = ws * rng.choice([1, 3, 5, 1 / 2, 1 / 3] if scales == "thirds" else [1, 2, 4, 0.5], outputs).astype(f32)
    spec = next(s for s in target.activations if s.granularity == PerTensor())
    x = quantized(codes(rng, spec, x_shape, 9), spec, xs, zero_points(spec)[zero])
    w = quantized(codes(rng, specs[0], w_shape, 9), specs[0], ws, zero_points(specs[0])[zero])
    fmt = target.outputs[0]
    y_zero = 0 if kernel.bias is targets.BiasKind.CODES else (fmt.qmin + 77, fmt.qmin + 128)[zero]
    return x, w, np.broadcast_to(ws, (outputs,)), OutputSpec(ys, y_zero, fmt)


def expected(formula, sums, x, w_scale, output, bias, per_channel):
    xs, ys, fmt = x.scale.reshape(-1)[0], output.scale, output.format
    want = np.empty(sums.shape, np.int64)
    for index in np.ndindex(sums.shape):
        n = index[-1]
        one = None if bias is None else bias[n]
        want[index] = formula(int(sums[index]), xs, w_scale[n], ys, output.zero_point, one, per_channel)
    return np.clip(want, fmt.qmin, fmt.qmax)


def steps(q):
    expand = q.spec.granularity.expand
    return q.codes.astype(np.int64) - expand(q.zero_point, q.codes.shape)


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("target", INTEGER, ids=str)
def test_linear__is_the_stated_formula_of_the_exact_sums(target, scales, per_channel):
    rng = np.random.default_rng(1)
    for zero in (0, 1):
        made = problem(target, target.linear, rng, scales, per_channel, (40, 12), (9, 12), zero)
        if made is None:
            assert per_channel
            return
        x, w, w_scale, output = made
        sums = steps(x) @ steps(w).T  # codes of at most 14: no pair saturates
        for bias in (None, bias_for(target, target.linear, rng, 9, output.scale, output.format)):
            got = targets.linear(target, x, w, bias, output)
            want = expected(FORMULAS[target.name][0], sums, x, w_scale, output, bias, per_channel)
            assert got.values.dtype == output.format.dtype
            assert np.count_nonzero(got.values != want) == 0
            assert got.overflowed == 0


def plain_conv(x, w, stride, padding, groups):
    """Sums of a 2-D convolution of integer steps, tap by tap."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    outputs, channels, rows, columns = w.shape
    size = [(n - k) // stride + 1 for n, k in zip(x.shape[1:3], (rows, columns), strict=True)]
    out = np.zeros((len(x), *size, outputs), np.int64)
    for i, j, n in np.ndindex(*size, outputs):
        first = n // (outputs // groups) * channels
        window = x[:, i * stride : i * stride + rows, j * stride : j * stride + columns, first : first + channels]
        out[:, i, j, n] = (window * w[n].transpose(1, 2, 0)).sum(axis=(1, 2, 3))
    return out


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("scales", ["ties", "thirds"])
@pytest.mark.parametrize("target", INTEGER, ids=str)
def test_conv__is_the_stated_formula_of_the_exact_sums(target, scales, per_channel):
    rng = np.random.default_rng(2)
    for zero, (groups, stride) in enumerate(((1, 1), (2, 2))):
        shapes = (2, 5, 6, 4), (6, 4 // groups, 3, 3)
        made = problem(target, target.conv, rng, scales, per_channel, *shapes, zero)
        if made is None:
            assert per_channel
            return
        x, w, w_scale, output = made
        sums = plain_conv(steps(x), steps(w), stride, 1, groups)
        geometry = Geometry.of(2, stride=stride, padding=1, groups=groups)
        for bias in (None, bias_for(target, target.conv, rng, 6, output.scale, output.format)):
            got = targets.conv(target, x, w, bias, geometry, output)
            want = expected(FORMULAS[target.name][1], sums, x, w_scale, output, bias, per_channel)
            assert np.count_nonzero(got.values != want) == 0


def test_targets__differ_where_their_formulas_do():
    """The problems above tell the machines apart: no two of these give the same codes of the same sums."""
    rng = np.random.default_rng(3)
    sums = rng.integers(-400, 400, (60, 4))
    spec = QuantSpec(IntFormat(8, signed=False))
    seen = {}
    for name in ("fbgemm", "onednn", "gemmlowp", "ruy"):
        formula = globals()[name]
        made = []
        for zero in (77, 128):
            for scales in SCALES.values():
                xs, ws, ys = (f32(s) for s in scales)
                x = quantized(np.zeros((1, 1)), spec, xs, 0)
                output = OutputSpec(ys, zero, spec.format)
                made.append(expected(formula, sums, x, np.full(4, ws), output, None, False))
        seen[name] = np.concatenate(made).tobytes()
    assert len(set(seen.values())) == 4


def floats(epilogue, sums, x_scale, w_scale, bias):
    """Element by element, in Fractions where a step is not one float32 operation."""
    out = np.empty(sums.shape, f32)
    for index in np.ndindex(sums.shape):
        acc, n = f32(sums[index]), index[-1]
        xs, ws = x_scale[index[-2]], w_scale[n]
        if epilogue is Epilogue.ONEDNN:
            xs, ws = f32(1) / (f32(1) / xs), f32(1) / (f32(1) / ws)
        if epilogue in (Epilogue.ONEDNN, Epilogue.ROW_THEN_COLUMN):
            value = acc * xs * ws
        elif epilogue is Epilogue.FUSED and bias is not None:
            exact = Fraction(float(acc)) * Fraction(float(xs * ws)) + Fraction(float(bias[n]))
            value = nearest(exact)
        else:
            value = acc * (xs * ws)
        out[index] = value if bias is None or epilogue is Epilogue.FUSED else value + bias[n]
    return out


def unstable(rng, count):
    """Scales that are not f32(1 / f32(1 / scale))."""
    scales = rng.uniform(0.01, 0.1, 100 * count).astype(f32)
    return scales[f32(1) / (f32(1) / scales) != scales][:count]


def nearest(exact: Fraction) -> np.float32:
    """The float32 nearest to a normal number, ties to even."""
    if not exact:
        return f32(0)
    exponent = floor(np.log2(abs(float(exact))))
    exponent -= abs(exact) < Fraction(2) ** exponent
    exponent += abs(exact) >= Fraction(2) ** (exponent + 1)
    step = Fraction(2) ** (exponent - 23)
    return f32(float(round(exact / step) * step))


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("target", FLOATS, ids=str)
def test_linear__float_output_is_the_stated_formula(target, per_channel):
    rng = np.random.default_rng(4)
    specs = [s for s in target.weights if (s.granularity == PerAxis((0,))) is per_channel]
    for weight in specs:
        for activation in target.activations:
            rows = activation.granularity == PerAxis((0,))
            xs, ws = unstable(rng, 17 if rows else 1), unstable(rng, 8 if per_channel else 1)
            x = quantized(codes(rng, activation, (17, 20), 127), activation, xs, zero_points(activation)[0])
            w = quantized(codes(rng, weight, (8, 20), 127), weight, ws, zero_points(weight)[0])
            sums = steps(x) @ steps(w).T
            for bias in (None, (rng.normal(size=8) * 5).astype(f32)):
                got = targets.linear(target, x, w, bias)
                xs, ws = np.broadcast_to(xs, (17,)), np.broadcast_to(ws, (8,))
                want = floats(target.linear.epilogue, sums, xs, ws, bias)
                assert got.values.dtype == f32
                assert np.count_nonzero(got.values != want) == 0


@pytest.mark.parametrize("name", ["torch-onednn", "x86-avx2"])
def test_onednn__linear_sees_a_scale_inverted_twice_per_channel_and_conv_the_scale(name):
    """3 / 7 is not f32(1 / f32(1 / scale)); sums that lie one rounding beside a tie show which one was used."""
    target, rng = TARGETS[name], np.random.default_rng(9)
    xs, ys, ws = f32(1 / 3), f32(0.7), np.full(48, f32(1 / 7) * f32(3))
    twice = f32(1) / (f32(1) / ws)
    assert np.all(twice != ws)
    differ = 0
    for _ in range(8):
        x = quantized(rng.integers(0, 21, (192, 8)), target.activations[0], xs, 17)
        w = quantized(rng.integers(-10, 11, (48, 8)), target.weights[1], ws, 0)
        bias = (rng.integers(-40, 40, 48) / 2 * ys).astype(f32)
        sums, output = steps(x) @ steps(w).T, OutputSpec(ys, 77, target.outputs[0])

        def want(scale, sums=sums, bias=bias):
            real = (sums.astype(f32) * xs * scale + bias) * (f32(1) / ys) + f32(77)
            return np.clip(np.rint(real), 0, 255)

        assert np.array_equal(targets.linear(target, x, w, bias, output).values, want(twice))
        image = replace(x, codes=x.codes.reshape(192, 1, 1, 8), scale=x.scale[:, :, None, None], 
                        zero_point=x.zero_point[:, :, None, None])  # fmt: skip
        kernel = replace(w, codes=w.codes[:, :, None, None], scale=w.scale[:, :, None, None],
                         zero_point=w.zero_point[:, :, None, None])  # fmt: skip
        assert np.array_equal(targets.conv(target, image, kernel, bias, None, output).values[:, 0, 0], want(ws))
        differ += np.count_nonzero(want(twice) != want(ws))
    assert differ > 0


def saturated_pairs(products):
    pairs = [sum(products[i : i + 2]) for i in range(0, len(products), 2)]
    return sum(min(max(p, -(2**15)), 2**15 - 1) for p in pairs), sum(not -(2**15) <= p < 2**15 for p in pairs)


def test_x86_avx2__saturates_pairs_in_linear_and_counts_them():
    target = TARGETS["x86-avx2"]
    rng = np.random.default_rng(5)
    x = quantized(rng.choice([1, 200, 255], (6, 15)), target.activations[0], 2.0**-8, 7)
    w = quantized(rng.choice([-128, 90, 127], (4, 15)), target.weights[0], 2.0**-7, 0)
    output = OutputSpec(0.5, 100, target.outputs[0])
    got = targets.linear(target, x, w, None, output, count=Count.STEPS)
    sums, lost = np.empty((6, 4), np.int64), 0
    for m, n in np.ndindex(6, 4):
        a, b = x.codes[m].astype(int).tolist(), w.codes[n].astype(int).tolist()
        value, pairs = saturated_pairs([p * q for p, q in zip(a, b, strict=True)])
        sums[m, n], lost = value - 7 * sum(b), lost + pairs
    assert got.overflowed == lost > 20
    want = expected(onednn, sums, x, np.full(4, f32(2.0**-7)), output, None, False)
    assert np.array_equal(got.values, want)
    exact = targets.linear(TARGETS["torch-onednn"], x, w, None, output)
    assert np.count_nonzero(exact.values != got.values) > 5


def test_torch_fbgemm__saturates_pairs_of_taps_in_its_depthwise_kernel_alone():
    target = TARGETS["torch-fbgemm"]
    rng = np.random.default_rng(6)
    x = quantized(rng.choice([1, 200, 255], (1, 5, 6, 8)), target.activations[0], 2.0**-8, 7)
    w = quantized(rng.choice([-128, 90, 127], (8, 1, 3, 3)), target.weights[0], 2.0**-7, 0)
    output = OutputSpec(0.5, 100, target.outputs[0])
    geometry = Geometry.of(2, padding=1, groups=8)
    got = targets.conv(target, x, w, None, geometry, output)
    sums = np.empty((1, 5, 6, 8), np.int64)
    padded = np.pad(x.codes.astype(int), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=7)
    for i, j, n in np.ndindex(5, 6, 8):
        taps = padded[0, i : i + 3, j : j + 3, n].reshape(-1).tolist()
        kernel = w.codes[n, 0].astype(int).reshape(-1).tolist()
        value, _ = saturated_pairs([p * q for p, q in zip(taps, kernel, strict=True)])
        sums[0, i, j, n] = value - 7 * sum(kernel)
    want = expected(fbgemm, sums, x, np.full(8, f32(2.0**-7)), output, None, False)
    assert np.array_equal(got.values, want)
    assert got.overflowed > 20
    exact = targets.conv(replace(target, depthwise=None), x, w, None, geometry, output)
    assert exact.overflowed == 0
    assert np.count_nonzero(exact.values != got.values) > 20
    # 3 x 3 depthwise that the kernel does not take: other padding, another stride, dilation
    for other in (
        Geometry.of(2, groups=8),
        Geometry.of(2, padding=1, groups=8, stride=(1, 2)),
        Geometry.of(2, padding=1, groups=8, dilation=2),
    ):
        assert targets.conv(target, x, w, None, other, output).overflowed == 0
    assert targets.conv(target, x, w, None, Geometry.of(2, padding=1, groups=8, stride=2), output).overflowed > 0


@pytest.mark.parametrize("name", ["onnxruntime", "gemmlowp", "cutlass-int8"])
def test_matmul__multiplies_batches_made_at_run_time(name):
    target = TARGETS[name]
    rng = np.random.default_rng(7)
    spec = target.activations[0]
    x = quantized(codes(rng, spec, (2, 3, 5, 6), 9), spec, 0.5, zero_points(spec)[0])
    y = quantized(codes(rng, spec, (2, 3, 4, 6), 9), spec, 0.25, zero_points(spec)[1])
    output = OutputSpec(2.0, 0, target.outputs[0])
    sums = np.einsum("abmk,abnk->abmn", steps(x), steps(y))
    got = targets.matmul(target, x, y, output)
    want = expected(FORMULAS[name][0], sums, x, np.full(4, f32(0.25)), output, None, False)
    assert np.array_equal(got.values, want)


def test_matmul__takes_a_scale_per_row_and_column_on_cuda():
    target = TARGETS["cuda-int8"]
    rng = np.random.default_rng(8)
    spec = replace(target.activations[0], granularity=PerAxis((0, 1)))
    scales = [rng.uniform(0.01, 0.1, (2, n, 1)).astype(f32) for n in (5, 4)]
    x, y = (
        Quantized(rng.integers(-127, 128, (2, n, 6)).astype(np.int8), s, np.zeros((2, n, 1), np.int32), spec)
        for n, s in zip((5, 4), scales, strict=True)
    )
    sums = np.einsum("bmk,bnk->bmn", x.codes.astype(np.int64), y.codes.astype(np.int64))
    want = [floats(Epilogue.ROW_THEN_COLUMN, s, a[:, 0], b[:, 0], None) for s, a, b in zip(sums, *scales, strict=True)]
    assert np.array_equal(targets.matmul(target, x, y).values, np.stack(want))


def test_quantize_bias__rounds_the_double_quotient_to_even():
    bias = np.array([0.75, 1.25, -0.75, 1.0], f32)
    assert targets.quantize_bias(bias, f32(0.5), f32(1.0)).tolist() == [2, 2, -2, 2]
    with pytest.raises(BadInput, match="fit int32"):
        targets.quantize_bias(np.array([1e9], f32), f32(0.1), f32(0.1))


BAD = {
    "no float output": lambda t, x, w, o: targets.conv(
        t("torch-fbgemm"), x("torch-fbgemm", (1, 4, 4, 2)), w("torch-fbgemm", (3, 2, 1, 1))
    ),
    "float outputs only": lambda t, x, w, o: targets.linear(
        t("cuda-int8"), x("cuda-int8"), w("cuda-int8"), None, o("torch-fbgemm")
    ),
    "no kernel for matmul": lambda t, x, w, o: targets.matmul(
        t("torch-fbgemm"), x("torch-fbgemm"), x("torch-fbgemm"), o("torch-fbgemm")
    ),
    "no kernel for conv": lambda t, x, w, o: targets.conv(
        t("cuda-int8"), x("cuda-int8", (1, 4, 4, 2)), w("cuda-int8", (3, 2, 1, 1))
    ),
    "takes x as uint8": lambda t, x, w, o: targets.linear(
        t("torch-fbgemm"), x("tflite-ruy"), w("torch-fbgemm"), None, o("torch-fbgemm")
    ),
    "takes w as": lambda t, x, w, o: targets.linear(
        t("cutlass-int8"), x("cutlass-int8"), w("torch-fbgemm", spec=1), None, o("tflite-ruy")
    ),
    "outputs of uint8": lambda t, x, w, o: targets.linear(
        t("torch-fbgemm"), x("torch-fbgemm"), w("torch-fbgemm"), None, o("tflite-ruy")
    ),
    "bias must be int32": lambda t, x, w, o: targets.linear(
        t("onnxruntime"), x("onnxruntime"), w("onnxruntime"), np.zeros(4, f32), o("onnxruntime")
    ),
    "bias must be float32": lambda t, x, w, o: targets.linear(
        t("torch-fbgemm"), x("torch-fbgemm"), w("torch-fbgemm"), np.zeros(4, np.int32), o("torch-fbgemm")
    ),
    "no zero point": lambda t, x, w, o: targets.linear(
        t("cutlass-int8"), x("cutlass-int8"), w("cutlass-int8"), None, OutputSpec(1.0, 3, IntFormat(8))
    ),
    "zero point 0": lambda t, x, w, o: targets.linear(
        t("torch-fbgemm"), x("torch-fbgemm"), replace(w("torch-fbgemm"), zero_point=np.ones((1, 1), np.int32)), None,
        o("torch-fbgemm"),
    ),
    "must be Quantized": lambda t, x, w, o: targets.linear(
        t("torch-fbgemm"), np.zeros((2, 6), f32), w("torch-fbgemm"), None, o("torch-fbgemm")
    ),
    "finite float16": lambda t, x, w, o: targets.linear(
        t("w4a16-group128"), np.zeros((2, 6), f32), w("w4a16-group128")
    ),
    "one of int8-narrow": lambda t, x, w, o: targets.linear(
        t("tflite-ruy"), x("tflite-ruy"), replace(w("tflite-ruy"), codes=np.full((4, 6), -128, np.int8)), None,
        o("tflite-ruy"),
    ),
    "stay floats": lambda t, x, w, o: targets.quantize_activation(t("w4a16-group128"), np.zeros((2, 6), f32)),
    "needs a scale": lambda t, x, w, o: targets.quantize_activation(t("cuda-int8"), np.zeros((2, 6), f32)),
    "from the data": lambda t, x, w, o: targets.quantize_activation(
        t("onnx-matmulnbits"), np.zeros((2, 6), f32), np.ones((2, 1), f32)
    ),
    "same groups": lambda t, x, w, o: targets.linear(
        t("onnx-matmulnbits"),
        targets.quantize_activation(
            t("onnx-matmulnbits"), np.ones((2, 64), f32), spec=t("onnx-matmulnbits").activations[1]
        ),
        w("onnx-matmulnbits", (4, 64)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("said", BAD)
def test_operations__refuse_what_the_machine_does_not_have(said):
    def x(name, shape=(3, 6)):
        spec = TARGETS[name].activations[0]
        return quantized(np.zeros(shape), spec, 1.0, 0)

    def w(name, shape=(4, 6), spec=0):
        spec = TARGETS[name].weights[spec]
        return Quantized(
            np.zeros(shape, spec.format.dtype), np.ones(spec.granularity.parameter_shape(shape), f32),
            np.zeros(spec.granularity.parameter_shape(shape), np.int32), spec,
        )  # fmt: skip

    def output(name):
        return OutputSpec(1.0, 0, TARGETS[name].outputs[0])

    with pytest.raises(BadInput, match=said):
        BAD[said](targets.target, x, w, output)


def test_linear__refuses_sums_beyond_the_register():
    target = replace(
        TARGETS["cuda-int8"], linear=replace(TARGETS["cuda-int8"].linear, accumulator=Accumulator(bits=16))
    )
    x = quantized(np.full((1, 40), 127), target.activations[1], 1.0, 0)
    w = quantized(np.full((2, 40), 127), target.weights[1], 1.0, 0)
    with pytest.raises(BadInput, match="register of 16 bits"):
        targets.linear(target, x, w)


def test_linear__puts_an_integer_bias_into_a_limited_register():
    base = TARGETS["onnxruntime"]
    narrow = Accumulator(bits=8, overflow=Overflow.SATURATE)
    target = replace(base, linear=replace(base.linear, accumulator=narrow))
    x = quantized(np.array([[1, 1]]), base.activations[1], 1.0, 0)
    w = quantized(np.array([[100, -50]]), base.weights[0], 1.0, 0)
    # 100 first, then + 100 saturates at 127, then - 50; the bias added afterwards would give 150, and 127 as a code
    got = targets.linear(target, x, w, np.array([100], np.int32), OutputSpec(1.0, 0, IntFormat(8)))
    assert got.values.tolist() == [[77]]
    assert got.overflowed == 1


def test_machines__that_saturate_pairs_state_which():
    assert TARGETS["x86-avx2"].linear.accumulator == PairAccumulator(Pairing.CHANNELS)
    assert TARGETS["torch-fbgemm"].depthwise.accumulator == PairAccumulator(Pairing.TAPS)


WITHOUT_TORCH = """
    import sys
    sys.modules["torch"] = sys.modules["xarray"] = None
    import numpy as np
    from simulator import targets

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 128)).astype("f4"), rng.normal(size=(4, 128)).astype("f4")
    for target in targets.TARGETS.values():
        weight = targets.quantize_weight(target, w)
        if target.parameters is targets.Parameters.NONE:
            left = x.astype("f2")
        elif target.parameters is targets.Parameters.DYNAMIC_BLOCKS:
            left = targets.quantize_activation(target, x)
        else:
            reduce = target.activations[0].granularity.reduce
            ends = reduce(x, np.minimum), reduce(x, np.maximum)
            left = targets.quantize_activation(target, x, *targets.activation_parameters(target, *ends))
        output = targets.OutputSpec(0.25, 0, target.outputs[0]) if target.outputs else None
        got = targets.linear(target, left, weight, None, output)
        real = got.values * 0.25 if output else got.values
        error = np.abs(np.clip(real, 0, None) - np.clip(x @ w.T, 0, None)).max()
        assert got.values.shape == (3, 4) and error < 8, (target.name, error)
        print(target.name)
"""


def test_targets__run_where_torch_and_xarray_cannot_be_imported(fresh_python):
    found = fresh_python(textwrap.dedent(WITHOUT_TORCH)).stdout.split()
    assert found == list(TARGETS)
