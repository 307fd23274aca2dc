"""Claim: each compiled requantizer equals its scalar form bit for bit, and no two formulas are confused.

Also: codes grow with the sum, stay within one step of the exact quotient, and saturate with every saturation counted.
"""

from __future__ import annotations

import itertools
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.requantize import (
    REQUANTIZERS,
    CutlassRequantizer,
    FbgemmFixedPointRequantizer,
    FbgemmRequantizer,
    GemmlowpRequantizer,
    OnednnRequantizer,
    OnnxRuntimeRequantizer,
    QnnpackRequantizer,
    RuyRequantizer,
    SingleRoundingRequantizer,
    TfliteFullyConnectedRequantizer,
    XnnpackRequantizer,
)
from simulator.arithmetic.requantize.conversion import nearest_float32

pytestmark = pytest.mark.usefixtures("one_thread")

FLOAT_BIAS = [FbgemmRequantizer, QnnpackRequantizer, OnednnRequantizer]
INTEGER_BIAS = [
    OnnxRuntimeRequantizer,
    XnnpackRequantizer,
    TfliteFullyConnectedRequantizer,
    GemmlowpRequantizer,
    RuyRequantizer,
    SingleRoundingRequantizer,
    FbgemmFixedPointRequantizer,
]
SCALED = FLOAT_BIAS + INTEGER_BIAS
KINDS = [*SCALED, CutlassRequantizer]
FORMATS = [IntFormat(8), IntFormat(8, signed=False), IntFormat(4), IntFormat(5, narrow=True)]
WIDE_FORMATS = [IntFormat(16), IntFormat(16, signed=False), IntFormat(12), IntFormat(9, narrow=True)]
WIDE_KINDS = [kind for kind in KINDS if kind.LARGEST_BITS == 16]
SCALES = [
    (0.5, 0.25, 1.0),
    (0.5, 0.5, 1.0),
    (2.0**-8, 2.0**-9, 2.0**-7),
    (0.0123, 0.0371, 0.71),
    (0.1, 0.3, 3e4),
    (3, 5, 0.7),
]
INT32 = np.iinfo(np.int32)
MIN, MAX = int(INT32.min), int(INT32.max)
CHANNELS = 3
int32 = st.integers(MIN, MAX) | st.integers(-1000, 1000) | st.sampled_from([MIN, MIN + 1, -1, 0, 1, MAX])
scale_floats = st.floats(2.0**-12, 2.0**4, width=32)


def make(kind, x_scale, w_scale, y_scale, zero=0, fmt=FORMATS[0], steps=None):
    """A requantizer of any kind; ``steps`` is the bias in units of x_scale * w_scale."""
    ats = np.float32(x_scale) * np.asarray(w_scale, np.float32)
    if kind is CutlassRequantizer:
        source = None if steps is None else np.clip(steps, fmt.qmin, fmt.qmax).astype(fmt.dtype)
        return kind(ats / np.float32(y_scale), 0.3, source, fmt)
    if steps is None:
        return kind(x_scale, w_scale, y_scale, zero, fmt)
    bias = np.asarray(steps * ats, np.float32) if kind in FLOAT_BIAS else np.asarray(np.rint(steps), np.int32)
    return kind(x_scale, w_scale, y_scale, zero, fmt, bias)


def near_ties(scales, rng, count, reach=150):
    """Sums whose quotient lies on or next to a half up to ``reach``, and int32's extremes."""
    ratio = Fraction(np.float32(scales[0]).item()) * Fraction(np.float32(scales[1]).item())
    ratio /= Fraction(np.float32(scales[2]).item())
    halves = (2 * int(n) + 1 for n in rng.integers(-reach, reach, count))
    sums = [int(Fraction(half, 2) / ratio) + int(rng.integers(-2, 3)) for half in halves]
    sums += [0, 1, -1, MIN, MIN + 1, MAX, MAX - 1, 1 << 24, (1 << 24) + 1, -(1 << 24) - 1, 1 << 30]
    return np.clip(sums, MIN, MAX)


def assert_equal_to_one_by_one(requantizer, acc):
    got = requantizer(acc)
    want = [requantizer.one(int(a), i % acc.shape[-1]) for i, a in enumerate(acc.reshape(-1))]
    assert got.codes.dtype == requantizer.format.dtype
    assert got.codes.reshape(-1).tolist() == [code for code, _ in want]
    assert got.saturated == sum(saturated for _, saturated in want)


@pytest.mark.parametrize("kind", KINDS)
def test_requantizer__equals_its_scalar_form_near_ties(kind):
    rng = np.random.default_rng(7)
    for fmt, scales in itertools.product(FORMATS, SCALES):
        for zero in (fmt.qmin, (fmt.qmin + fmt.qmax) // 2 + 1):
            acc = rng.choice(near_ties(scales, rng, 40), (6, CHANNELS)).astype(np.int32)
            per_channel = np.float32(scales[1]) * np.array([1, 0.5, 0.7], np.float32)
            for w_scale in (scales[1], per_channel):
                for steps in (None, rng.uniform(-20, 20, CHANNELS), np.array([-2, 0.5, 1e3])):
                    assert_equal_to_one_by_one(make(kind, scales[0], w_scale, scales[2], zero, fmt, steps), acc)


@pytest.mark.parametrize("kind", WIDE_KINDS)
def test_requantizer__equals_its_scalar_form_near_ties_of_wide_codes(kind):
    rng = np.random.default_rng(10)
    for fmt, scales in itertools.product(WIDE_FORMATS, SCALES):
        span = fmt.qmax - fmt.qmin
        for zero in (fmt.qmin, fmt.qmin + span // 2 + 1, fmt.qmax):
            acc = rng.choice(near_ties(scales, rng, 60, span + 40), (8, CHANNELS)).astype(np.int32)
            for steps in (None, rng.uniform(-20, 20, CHANNELS), np.array([-2, 0.5, 1e6])):
                assert_equal_to_one_by_one(make(kind, *scales, zero, fmt, steps), acc)


def test_kernels_that_pack_through_int16__end_at_8_bits():
    assert set(KINDS) - set(WIDE_KINDS) == {FbgemmRequantizer, QnnpackRequantizer}
    for kind in (FbgemmRequantizer, QnnpackRequantizer):
        with pytest.raises(BadInput, match="at most 8 bits"):
            make(kind, 0.5, 0.25, 1.0, fmt=IntFormat(9))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(st.data())
def test_requantizer__equals_its_scalar_form(kind, data):
    fmt = data.draw(st.builds(IntFormat, st.integers(1, kind.LARGEST_BITS), st.booleans()))
    scales = [data.draw(scale_floats) for _ in range(3)]
    zero = data.draw(st.integers(fmt.qmin, fmt.qmax))
    acc = np.array(data.draw(st.lists(st.tuples(int32, int32), min_size=1, max_size=5)), np.int32)
    steps = data.draw(st.none() | st.tuples(st.floats(-1e6, 1e6), st.floats(-1e9, 1e9)).map(np.array))
    assert_equal_to_one_by_one(make(kind, *scales, zero, fmt, steps), acc)


@pytest.mark.parametrize("kind", KINDS)
def test_requantizer__takes_any_shape_and_memory_order(kind):
    rng = np.random.default_rng(8)
    requantizer = make(kind, 0.5, np.array([0.5, 0.25, 1, 2], np.float32), 3.0)
    acc = rng.integers(-900, 900, (4, 5, 2, 3)).astype(np.int32).transpose(3, 1, 2, 0)
    want = requantizer(np.ascontiguousarray(acc))
    got = requantizer(acc)
    assert np.array_equal(got.codes, want.codes)
    assert got.saturated == want.saturated > 0
    assert np.array_equal(requantizer(acc[0, 0, 0]).codes, want.codes[0, 0, 0])
    assert requantizer(acc[:0]).codes.shape == (0, 5, 2, 4)


def test_requantizers__equal_their_scalar_forms_without_compilation(fresh_python):
    fresh_python(
        """
import warnings
import numpy as np
from simulator.arithmetic.kernels.requantize import wrap_int32
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.requantize import REQUANTIZERS
assert type(wrap_int32).__name__ == "function"
warnings.simplefilter("error")
acc = np.array([[-2**31, 2**31 - 1], [-7, 3], [2**30, 1 - 2**31], [2**24 + 1, -1]], np.int32)
cutlass = REQUANTIZERS.pop("cutlass")
for kind in REQUANTIZERS.values():
    bias = np.array([5, -9]).astype(kind.BIAS)
    for scales in ((0.5, 0.25, 1.0), (3.0, 5.0, 0.01), (0.1, 0.3, 3e6)):
        q = kind(*scales, 3, IntFormat(kind.LARGEST_BITS), bias)
        assert q(acc).codes.tolist() == [[q.one(int(a), c)[0] for c, a in enumerate(row)] for row in acc], kind
q = cutlass(0.1, 0.3, np.array([5, -9], np.int8))
assert q(acc).codes.tolist() == [[q.one(int(a), c)[0] for c, a in enumerate(row)] for row in acc]
""",
        NUMBA_DISABLE_JIT="1",
    )


@pytest.mark.parametrize("kind", KINDS)
@given(x_scale=scale_floats, w_scale=scale_floats, near=st.integers(MIN + 40, MAX - 40) | st.integers(-99, 99))
def test_requantizer__grows_with_the_sum_and_stays_within_one_step(kind, x_scale, w_scale, near):
    y_scale = max(x_scale * w_scale, 2.0**-20) * 1.3  # a multiplier below 1: no left shift, nothing beyond int32
    fmt = FORMATS[0]
    requantizer = make(kind, x_scale, w_scale, y_scale, 0, fmt)
    acc = np.arange(near - 40, near + 41, dtype=np.int32)[:, None]
    codes = requantizer(acc).codes[:, 0].astype(int)
    assert np.all(np.diff(codes) >= 0)
    ratio = Fraction(np.float32(x_scale).item()) * Fraction(np.float32(w_scale).item())
    ratio /= Fraction(np.float32(y_scale).item())
    for total, code in zip(acc[:, 0], codes, strict=True):
        exact = min(max(int(total) * ratio, fmt.qmin), fmt.qmax)
        assert abs(code - exact) < 1


@pytest.mark.parametrize(
    ("kind", "fmt"), [*itertools.product(KINDS, FORMATS), *itertools.product(WIDE_KINDS, WIDE_FORMATS)], ids=str
)
def test_requantizer__saturates_and_counts(kind, fmt):
    requantizer = make(kind, 0.5, 0.25, 1.0, max(fmt.qmin, 0), fmt)
    acc = np.array([[MIN], [MAX], [0], [-1_000_000], [1_000_000]], np.int32)
    got = requantizer(acc)
    zero = 0 if kind is CutlassRequantizer else max(fmt.qmin, 0)
    assert got.codes[:, 0].tolist() == [fmt.qmin, fmt.qmax, zero, fmt.qmin, fmt.qmax]
    assert got.saturated == 4


def test_x86_conversion__sends_values_beyond_int32_to_qmin():
    for kind in KINDS:
        code, saturated = make(kind, 4.0, 4.0, 1.0).one(MAX)
        # gemmlowp and ruy shift left first, and keep the low 32 bits
        wraps = {GemmlowpRequantizer: (-16, False), RuyRequantizer: (-16, False)}
        low = kind in (FbgemmRequantizer, QnnpackRequantizer)
        assert (code, saturated) == wraps.get(kind, (-128 if low else 127, True)), kind


CASES = {
    # multiplier 1/4: even, away from zero and up separate, and an odd zero point moves oneDNN's ties
    "ties": ((0.5, 0.5, 1.0), 77, None, range(-12, 13)),
    # a bias of 0.4 units rounds away as an integer and tips a tie as a float
    "bias": ((0.5, 1.0, 1.0), 0, 0.4, range(-5, 6)),
    "beyond int32": ((4.0, 4.0, 1.0), 0, None, (MIN, MAX)),
    # sums above 2^24 under a multiplier that float32 does not hold
    "large sums": ((0.1, 0.3, 3e4), 0, None, [int((n + 0.5) * 1e6) + d for n in range(100) for d in (-4, -1, 0, 1, 4)]),
}


def test_names__cover_every_requantizer():
    assert set(REQUANTIZERS.values()) == set(KINDS)
    assert len(REQUANTIZERS) == len(KINDS)


def codes_of(kind):
    codes = []
    for scales, zero, step, sums in CASES.values():
        requantizer = make(kind, *scales, zero, FORMATS[0], None if step is None else np.array([step]))
        codes += [requantizer.one(total)[0] for total in sums]
    return tuple(codes)


def test_requantizers__differ_from_each_other():
    codes = {kind: codes_of(kind) for kind in KINDS}
    for one, other in itertools.combinations(KINDS, 2):
        same = {one, other} == {OnnxRuntimeRequantizer, XnnpackRequantizer}  # one formula, two names
        assert (codes[one] == codes[other]) == same, (one, other)


def test_ties__go_where_each_formula_says():
    """Quotients -3/2 and -1/2, 1/2 and 3/2 above a zero point of 1 (sums times 1/4; x86 keeps ties to even steps)."""
    want = {
        FbgemmRequantizer: [-1, 1, 1, 3],
        QnnpackRequantizer: [-1, 1, 1, 3],
        OnednnRequantizer: [0, 0, 2, 2],  # the even code
        OnnxRuntimeRequantizer: [-1, 1, 1, 3],
        XnnpackRequantizer: [-1, 1, 1, 3],
        TfliteFullyConnectedRequantizer: [-1, 0, 2, 3],
        GemmlowpRequantizer: [-1, 0, 2, 3],
        RuyRequantizer: [0, 1, 2, 3],
        SingleRoundingRequantizer: [0, 1, 2, 3],
        FbgemmFixedPointRequantizer: [0, 1, 2, 3],
    }
    for kind, codes in want.items():
        assert [make(kind, 0.5, 0.5, 1.0, 1).one(total)[0] for total in (-6, -2, 2, 6)] == codes, kind
    assert [make(CutlassRequantizer, 0.5, 0.5, 1.0).one(total)[0] for total in (-6, -2, 2, 6)] == [-2, 0, 0, 2]


def test_double_and_single_rounding__differ_where_the_first_makes_a_tie():
    """1/4 as 1/2 and 1/2: the first rounding takes 1/2 to 1, the second 1/2 to 1 again."""
    double, two_step, single = (
        make(kind, 0.5, 0.5, 1.0) for kind in (GemmlowpRequantizer, RuyRequantizer, SingleRoundingRequantizer)
    )
    assert [q.one(1)[0] for q in (double, two_step, single)] == [1, 1, 0]
    assert [q.one(-2)[0] for q in (double, two_step, single)] == [-1, 0, 0]


def test_fbgemm__divides_the_bias_per_channel_and_multiplies_it_per_tensor():
    rng = np.random.default_rng(9)
    differ = 0
    for ats, total in zip(rng.uniform(0.1, 1, 50).astype(np.float32), range(1, 51), strict=True):
        bias = np.array([total], np.float32) * ats
        # sum and bias cancel up to a rounding error, which a tiny y_scale magnifies
        tensor, channel = (FbgemmRequantizer(ats, w, 2e-7, bias=bias) for w in (1.0, np.ones(1, np.float32)))
        differ += tensor.one(-total) != channel.one(-total)
        for requantizer in (tensor, channel):
            assert_equal_to_one_by_one(requantizer, np.array([[-total]], np.int32))
    assert differ > 5


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), int32, st.floats(-(2.0**120), 2.0**120, width=32))
def test_cutlass_multiply_add__rounds_once(alpha, acc, addend):
    from simulator.arithmetic.kernels.requantize import fused_multiply_add

    total = np.float32(acc)
    with np.errstate(over="ignore"):
        want = nearest_float32(Fraction(alpha) * Fraction(float(total)) + Fraction(addend))
    assert fused_multiply_add(np.float32(alpha), total, np.float32(addend)) == want


def test_cutlass_multiply_add__is_not_rounded_to_float64_on_the_way():
    from simulator.arithmetic.kernels.requantize import fused_multiply_add

    # 1 + 2^-23 + 2^-24 (1 - 2^-46) lies below a tie of float32 by less than float64 holds
    alpha, total, addend = (np.float32(v) for v in (2.0**-47 * (1 + 2.0**-23), 2**23 - 1, 1 + 2.0**-23))
    assert fused_multiply_add(alpha, total, addend) == addend
    assert np.float32(float(alpha) * float(total) + float(addend)) > addend


def test_cutlass_multiply_add__decides_a_tie_that_two_roundings_miss():
    # (2^13 + 1)(2^13 - 1) = 2^26 - 1 needs 26 bits: rounded first, it is 2^26, and the difference a tie
    alpha, total, beta = np.float32((2**13 + 1) / 2**16), 2**13 - 1, np.float32(1022.5)
    assert round(float(alpha * np.float32(total) - beta)) == 2
    requantizer = CutlassRequantizer(alpha, beta, np.array([-1], np.int8))
    assert requantizer.one(total) == (1, False)
    assert requantizer(np.array([total], np.int32)).codes.tolist() == [1]


def test_nearest_float32__is_half_even_down_to_subnormals():
    tiny = Fraction(2) ** -149
    assert [float(nearest_float32(tiny * Fraction(n, 2))) for n in (1, 2, 3, -1)] == [0, 2.0**-149, 2.0**-148, 0]
    assert float(nearest_float32(Fraction((1 << 24) + 1))) == 2.0**24
    assert float(nearest_float32(Fraction((1 << 25) - 1))) == 2.0**25
    with np.errstate(over="ignore"):
        assert np.isinf(nearest_float32(Fraction(2) ** 128))


@pytest.mark.parametrize("kind", SCALED)
def test_requantizer__refuses_bad_parameters(kind):
    good = {"x_scale": 0.5, "w_scale": 0.25, "y_scale": 1.0}
    wrong = np.ones(2, np.float64)
    for change in (
        *({name: value} for name in good for value in (0.0, -1.0, np.nan, np.inf, "1", None, 1e-60)),
        *({name: np.float64(1)} for name in good),
        {"x_scale": np.ones(2, np.float32)},
        {"w_scale": np.ones((2, 2), np.float32)},
        {"w_scale": np.ones(0, np.float32)},
        {"w_scale": wrong},
        {"x_scale": 1e-30, "w_scale": 1e-30},
        {"x_scale": 1e30, "w_scale": 1e20},
        {"x_scale": 1e20, "y_scale": 1e-30},
        {"format": "int8"},
        {"zero_point": 128},
        {"zero_point": 0.0},
        {"zero_point": True},
        {"bias": wrong},
        {"bias": [1, 2]},
        {"bias": np.zeros((2, 1), kind.BIAS)},
        {"bias": np.zeros(2, kind.BIAS), "w_scale": np.ones(3, np.float32)},
    ):
        with pytest.raises(BadInput):
            kind(**{**good, **change})
    if kind in FLOAT_BIAS:
        with pytest.raises(BadInput, match="finite"):
            kind(**good, bias=np.array([np.nan], np.float32))


def test_cutlass__refuses_bad_parameters():
    for change in (
        {"alpha": 0.0},
        {"alpha": np.nan},
        {"alpha": np.ones((1, 1), np.float32)},
        {"beta": np.nan},
        {"beta": np.inf},
        {"beta": np.ones(2, np.float32)},
        {"source": np.zeros(2, np.float32)},
        {"source": np.zeros(2, np.int8), "alpha": np.ones(3, np.float32)},
        {"source": np.zeros(2, np.int8), "format": IntFormat(16)},
        {"format": 8},
    ):
        with pytest.raises(BadInput):
            CutlassRequantizer(**{"alpha": 1.0, **change})


@pytest.mark.parametrize("kind", KINDS)
def test_requantizer__refuses_bad_sums(kind):
    requantizer = make(kind, 0.5, np.ones(3, np.float32), 1.0)
    for acc in (
        np.zeros((2, 3)),
        np.zeros((2, 3), np.int64),
        np.zeros((2, 4), np.int32),
        np.int32(1),
        np.zeros((), np.int32),
        [[1, 2, 3]],
    ):
        with pytest.raises(BadInput, match="acc must"):
            requantizer(acc)
    for total in (MIN - 1, MAX + 1, 0.5):
        with pytest.raises(BadInput, match="int32"):
            requantizer.one(total)
    for channel in (-1, 3):
        with pytest.raises(BadInput, match="channel"):
            requantizer.one(0, channel)
    with pytest.raises(FrozenInstanceError):
        requantizer.format = FORMATS[1]
