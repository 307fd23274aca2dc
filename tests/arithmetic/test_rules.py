"""Claim: each quantize rule is its written formula, bit for bit, special values included, in both its forms.

The compiled form is held to ``QuantizeRule.code`` on tie-dense data, and that to formulas written here a second time in
exact rationals. The fused rule is tried where a float64 sum that is not rounded to odd gives another code.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from integer_reference import nearest_float32

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.kernels.requantize import fused_multiply_add
from simulator.arithmetic.operands import ScaledFormat
from simulator.arithmetic.quantizer import QuantSpec, dequantize, quantize
from simulator.arithmetic.rounding import Rounding, random_word, round_exact
from simulator.arithmetic.rules import (
    BREVITAS,
    DIVIDE,
    ONNXRUNTIME_BLOCKED,
    QUANTIZE_RULES,
    TFLITE,
    TORCH_FAKE,
    TORCH_FAKE_PER_CHANNEL,
    TORCH_PER_CHANNEL,
    TORCH_PER_TENSOR,
    TORCHAO,
    Conversion,
    QuantizeRule,
    Special,
    ZeroPoint,
    multiply_add_exact,
)

pytestmark = pytest.mark.usefixtures("one_thread")

BYTE, UBYTE, WIDE, UWIDE = IntFormat(8), IntFormat(8, signed=False), IntFormat(16), IntFormat(16, signed=False)
FORMATS = [IntFormat(4), IntFormat(4, narrow=True), BYTE, UBYTE, UWIDE]
SCALES = [np.float32(s) for s in (0.1, 1 / 3, 0.25, 1.0, 7.3, 1e-6, 1e-39, 1e-45, 3e37)]
EDGES = np.array([2.0**24, 2.0**31, 2.0**32, 2.0**62, 2.0**63, 2.0**64, 3.4028235e38, np.inf], np.float32)
SPECIAL = np.concatenate([EDGES, -EDGES, np.nextafter(EDGES[:-1], np.float32(0)), [np.nan, 0, -0.0, 1e-45, -1e-45]])
PAIRS = [(rule, mode) for rule in QUANTIZE_RULES.values() for mode in rule.roundings]


def one(x, rule, fmt, scale, zero, rounding=None, seed=0):
    """Quantize a vector with one scale."""
    spec = QuantSpec(fmt, rounding=rounding or rule.roundings[0], rule=rule)
    return quantize(x.astype(np.float32), spec, np.full(1, scale, np.float32), np.full(1, zero, np.int32), seed=seed)


def tie_dense(scale: np.float32, zero: int, fmt: IntFormat, count: int = 40) -> np.ndarray:
    """Half steps around the range with their neighbours, and special values."""
    rng = np.random.default_rng(zero - fmt.qmin)  # others for another zero point
    steps = rng.integers(2 * (fmt.qmin - zero) - 6, 2 * (fmt.qmax - zero) + 7, count) / 2
    with np.errstate(over="ignore", under="ignore"):
        ties = (steps * np.float64(scale)).astype(np.float32)
    up, down = (np.nextafter(ties, np.float32(sign * np.inf)) for sign in (1, -1))
    return np.concatenate([ties, up, down, SPECIAL]).astype(np.float32)


@pytest.mark.parametrize(("rule", "rounding"), PAIRS, ids=lambda v: getattr(v, "name", str(v)))
def test_quantize__has_the_codes_and_the_count_of_the_scalar_form(rule, rounding):
    for fmt in FORMATS:
        for scale in SCALES:
            for zero in {fmt.qmin, fmt.qmax, 3}:
                x = tie_dense(scale, zero, fmt)
                words = [random_word(5, i) if rounding is Rounding.STOCHASTIC else 0 for i in range(len(x))]
                want = [rule.code(v, scale, zero, fmt, rounding, w) for v, w in zip(x, words, strict=True)]
                got = one(x, rule, fmt, scale, zero, rounding, seed=5)
                assert got.codes.tolist() == [code for code, _ in want]
                assert got.clipped == sum(clipped for _, clipped in want)


def rounded(value: Fraction) -> Fraction:
    got = nearest_float32(value)
    assert got is not None
    return got


FORMULAS = {
    DIVIDE: lambda x, s, z: round(rounded(x / s)) + z,
    ONNXRUNTIME_BLOCKED: lambda x, s, z: round(rounded(x / s)) + z,
    TORCH_PER_TENSOR: lambda x, s, z: round(rounded(x * rounded(1 / s) + z)),
    TORCH_PER_CHANNEL: lambda x, s, z: round(rounded(rounded(x * rounded(1 / s)) + z)),
    TORCH_FAKE: lambda x, s, z: round(rounded(x * rounded(1 / s))) + z,
    TORCH_FAKE_PER_CHANNEL: lambda x, s, z: round(rounded(x * rounded(1 / s))) + z,
    TORCHAO: lambda x, s, z: round(rounded(x * rounded(1 / s))) + z,
    TFLITE: lambda x, s, z: round_exact(rounded(x / s), Rounding.HALF_AWAY) + z,
    BREVITAS: lambda x, s, z: round(rounded(rounded(x / s) + z)),
}


@pytest.mark.parametrize("rule", QUANTIZE_RULES.values(), ids=str)
def test_code__is_the_formula_of_the_table_in_exact_rationals(rule):
    seen = set()
    for scale in SCALES[:6]:
        for zero in (-77, 0, 3, 100):
            x = tie_dense(scale, zero, BYTE, 80)
            for v in x[np.abs(x) < 1e4 * scale]:
                want = FORMULAS[rule](Fraction(float(v)), Fraction(float(scale)), zero)
                got = rule.code(v, scale, zero, BYTE, rule.roundings[0])
                assert got == (min(max(want, -128), 127), not -128 <= want <= 127)
                seen.add(got[0])
    assert len(seen) > 150


def test_rules__differ_from_each_other_on_tie_dense_data():
    codes = {}
    for rule in QUANTIZE_RULES.values():
        parts = [
            one(tie_dense(s, z, BYTE, 1000), rule, BYTE, s, z).codes for s in (SCALES[0], SCALES[3]) for z in (-3, 77)
        ]
        codes[rule.name] = np.concatenate(parts).tobytes()
    assert len(set(codes.values())) == len(QUANTIZE_RULES)


TABLE = {
    DIVIDE: (Special.QMIN, Special.QMAX, Special.QMIN),
    ONNXRUNTIME_BLOCKED: (Special.BY_ZERO_POINT,) * 3,
    TORCH_PER_TENSOR: (Special.QMAX, Special.QMAX, Special.QMIN),
    TORCH_PER_CHANNEL: (Special.ZERO, Special.QMAX, Special.QMIN),
    TORCH_FAKE: (Special.QMIN, Special.QMAX, Special.QMIN),
    TORCH_FAKE_PER_CHANNEL: (Special.QMIN, Special.QMIN, Special.QMIN),
    TORCHAO: (Special.ZERO, Special.QMAX, Special.QMIN),
    TFLITE: (Special.BY_ZERO_POINT,) * 3,
    BREVITAS: (Special.ZERO, Special.QMAX, Special.QMIN),
}


@pytest.mark.parametrize("rule", QUANTIZE_RULES.values(), ids=str)
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_rule__states_its_special_values_and_counts_them_as_clipped(rule, fmt):
    assert (rule.nan, rule.positive_infinity, rule.negative_infinity) == TABLE[rule]
    for zero in {fmt.qmin, 0, fmt.qmax}:
        meaning = {
            Special.QMIN: fmt.qmin,
            Special.QMAX: fmt.qmax,
            Special.ZERO: 0,
            Special.BY_ZERO_POINT: fmt.qmax if zero < 0 else fmt.qmin,
        }
        got = one(np.array([np.nan, np.inf, -np.inf]), rule, fmt, 0.5, zero)
        assert got.codes.tolist() == [meaning[s] for s in TABLE[rule]]
        assert got.clipped == 3


def test_torch_fake_per_channel__sends_quotients_from_two_to_the_63_to_qmin():
    below = np.nextafter(np.float32(2.0**63), np.float32(0))
    x = np.array([below, 2.0**63, -(2.0**63), -(2.0**64)], np.float32)
    assert one(x, TORCH_FAKE_PER_CHANNEL, BYTE, 1, 0).codes.tolist() == [127, -128, -128, -128]
    assert one(x, TORCH_FAKE, BYTE, 1, 0).codes.tolist() == [127, 127, -128, -128]


def test_tflite__converts_to_int32_before_it_clamps():
    below = np.nextafter(np.float32(2.0**31), np.float32(0))
    x = np.array([below, 2.0**31, -(2.0**31), -(2.0**32)], np.float32)
    assert one(x, TFLITE, BYTE, 1, 0).codes.tolist() == [127, -128, -128, -128]
    # int32 min - 1 wraps to int32 max
    assert one(x, TFLITE, BYTE, 1, -1).codes.tolist() == [127, 127, 127, 127]


def hard_for_a_plain_float64_sum() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, scale, inverse) with ``x * inverse`` just above ``1/2 + 2**-9``, nearer than float64 shows beside 40000.

    ``40000 + 1/2 + 2**-9`` is a tie between two float32 numbers, which round to different integers.
    """
    tie = (1 << 46) + (1 << 38)  # in units of 2**-47, those of the product of two significands
    significand = np.arange(2**23, 2**24, dtype=np.int64)
    other = -(-tie // significand)
    hard = (other * significand > tie) & (other * significand < tie + 512) & (other < 2**24)
    inverse = (significand[hard] * 2.0**-23).astype(np.float32)
    x = (other[hard] * 2.0**-24).astype(np.float32)
    near = (1 / inverse.astype(np.float64)).astype(np.float32)
    kept = np.float32(1) / near == inverse
    return x[kept], near[kept], inverse[kept]


def test_torch_per_tensor__rounds_product_and_zero_point_once():
    x, scale, inverse = hard_for_a_plain_float64_sum()
    assert len(x) > 100
    plain = np.rint((x.astype(np.float64) * inverse.astype(np.float64) + 40000).astype(np.float32))
    assert np.all(plain == 40000)
    got = [one(v[None], TORCH_PER_TENSOR, UWIDE, s, 40000).codes[0] for v, s in zip(x, scale, strict=True)]
    assert got == [40001] * len(x)
    assert [TORCH_PER_TENSOR.code(v, s, 40000, UWIDE)[0] for v, s in zip(x, scale, strict=True)] == got


def test_fused_multiply_add__is_the_exact_rational_rounded_once():
    rng = np.random.default_rng(2)
    x, _, inverse = hard_for_a_plain_float64_sum()
    bits = rng.integers(0, 2**32, (2, 20000), dtype=np.uint32).view(np.float32)
    near = rng.normal(size=(2, 20000)).astype(np.float32) * np.float32(100)
    a = np.concatenate([x, -x, bits[0], near[0], SPECIAL.astype(np.float32)])
    b = np.concatenate([inverse, inverse, bits[1], near[1], np.ones(len(SPECIAL), np.float32)])
    c = rng.integers(-65536, 65536, len(a)).astype(np.float32)
    c[: 2 * len(x)] = 40000
    with np.errstate(all="ignore"):
        got = np.array([fused_multiply_add(*v) for v in zip(a, b, c, strict=True)], np.float32)
    want = np.array([multiply_add_exact(*v) for v in zip(a, b, c, strict=True)], np.float32)
    assert np.array_equal(got, want, equal_nan=True)


def test_dequantize__has_the_bits_of_a_float64_product_rounded_once():
    rng = np.random.default_rng(3)
    scale = np.abs(rng.integers(1, 0x7F000000, 4000, dtype=np.uint32).view(np.float32))
    codes, zero = rng.integers(0, 65536, 4000), rng.integers(0, 65536, 4000)
    for s, q, z in zip(scale, codes, zero, strict=True):
        exact = nearest_float32(int(q - z) * Fraction(float(s)))
        with np.errstate(over="ignore"):
            assert float(np.float32(q - z) * s) == (np.sign(q - z) * np.inf if exact is None else float(exact))
            assert np.float32(q - z) * s == np.float32(float(q - z) * float(s))


@pytest.mark.parametrize("rule", QUANTIZE_RULES.values(), ids=str)
def test_quantize__leaves_the_grid_fixed_under_every_rule(rule):
    for fmt, scale in ((BYTE, 0.25), (UBYTE, 0.1), (IntFormat(5), 1 / 3)):
        codes = np.arange(fmt.qmin, fmt.qmax + 1)
        for zero in {fmt.qmin, 3, fmt.qmax}:
            got = one(
                (codes - zero).astype(np.float32) * np.float32(scale),
                rule,
                fmt,
                scale,
                zero,
                Rounding.HALF_EVEN if Rounding.HALF_EVEN in rule.roundings else None,
            )
            assert np.array_equal(got.codes, codes)
            assert got.clipped == 0
            assert dequantize(got).dtype == np.float32


def test_spec__refuses_a_rounding_that_its_rule_does_not_have():
    for rule in QUANTIZE_RULES.values():
        for mode in Rounding:
            if mode in rule.roundings:
                assert QuantSpec(BYTE, rounding=mode, rule=rule).rounding is mode
            else:
                with pytest.raises(BadInput, match="rounds by"):
                    QuantSpec(BYTE, rounding=mode, rule=rule)
    assert QuantSpec(BYTE).rule is DIVIDE
    assert set(DIVIDE.roundings) == set(Rounding)


def test_scaled_format__takes_the_default_rule_only():
    for rule in QUANTIZE_RULES.values():
        spec = QuantSpec(BYTE, rounding=rule.roundings[0], rule=rule)
        if rule is DIVIDE:
            ScaledFormat(spec, np.float32(1), 0)
        else:
            with pytest.raises(BadInput, match="rule"):
                ScaledFormat(spec, np.float32(1), 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"divides": True, "zero_point": ZeroPoint.FUSED},
        {"divides": False, "zero_point": ZeroPoint.BEFORE, "conversion": Conversion.INT64},
        {"divides": True, "conversion": Conversion.INT32},
        {"divides": True, "nan": Special.BY_ZERO_POINT},
    ],
)
def test_rule__refuses_fields_that_contradict_each_other(fields):
    with pytest.raises(BadInput):
        QuantizeRule("mine", "none", **fields)
