"""Claim: the compiled rounding of every kernel is :func:`round_exact` on the exact value of a float32, bit for bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.kernels import quantize as kernels
from simulator.arithmetic.kernels.rounding import philox_word, round_float32
from simulator.arithmetic.operands import ScaledFormat, quantize_image, quantize_matrices
from simulator.arithmetic.quantizer import QuantSpec, quantize
from simulator.arithmetic.rounding import Rounding, random_word, round_exact

pytestmark = pytest.mark.usefixtures("one_thread")

ONE, ZERO = np.float32(1), np.int32(0)


def ties_and_neighbours(bits: int = 16) -> np.ndarray:
    """Those of a format of so many bits, with one that lies beyond its range."""
    ties = np.arange(-(2 ** (bits - 1)) - 1, 2 ** (bits - 1)).astype(np.float32) + np.float32(0.5)
    up, down = np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(-np.inf))
    return np.concatenate([ties, up, down])


def patterns() -> np.ndarray:
    """Every sign and exponent with the mantissas that matter and random ones: a stratum of all float32."""
    rng = np.random.default_rng(1)
    mantissas = np.concatenate([[0, 1, 2, 2**22, 2**22 - 1, 2**22 + 1, 2**23 - 1], rng.integers(0, 2**23, 57)])
    bits = np.arange(512, dtype=np.uint32)[:, None] * np.uint32(2**23) + mantissas.astype(np.uint32)
    return bits.astype(np.uint32).reshape(-1).view(np.float32)


SEED = 2**63 + 12345


def exact(values: np.ndarray, rounding: Rounding) -> np.ndarray:
    """The normative form on each value; the value's position gives its random word."""
    words = [random_word(SEED, i) if rounding is Rounding.STOCHASTIC else 0 for i in range(len(values))]
    return np.array([round_exact(Fraction(float(v)), rounding, w) for v, w in zip(values, words, strict=True)])


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("bits", [13, pytest.param(16, marks=pytest.mark.slow)])
def test_quantize__rounds_every_tie_and_its_neighbours_exactly(rounding, bits):
    x, fmt = ties_and_neighbours(bits), IntFormat(bits)
    codes = quantize(
        x, QuantSpec(fmt, rounding=rounding), np.ones(1, np.float32), np.zeros(1, np.int32), seed=SEED
    ).codes
    assert np.array_equal(codes, np.clip(exact(x, rounding), fmt.qmin, fmt.qmax))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("side", ["left", "right"])
def test_byte_kernel__rounds_as_the_elementwise_kernel_does(rounding, side):
    x = np.concatenate([ties_and_neighbours()[np.abs(ties_and_neighbours()) < 300], patterns()])
    spec = QuantSpec(IntFormat(8), rounding=rounding)
    for zero in (-128, -3, 0, 127):
        how = ScaledFormat(spec, ONE, zero, SEED)
        got = quantize_matrices(x.reshape(1, 1, -1), how, side=side)
        want = quantize(x, spec, np.ones(1, np.float32), np.full(1, zero), seed=SEED)
        shift = 128 if side == "left" else 0
        assert np.array_equal(got.bytes.reshape(-1).astype(int) - shift, want.codes)
        assert got.clipped == want.clipped


@pytest.mark.parametrize("rounding", Rounding)
def test_compiled_code__matches_round_exact_on_a_stratum_of_all_float32(rounding):
    x = patterns()
    finite = x[np.isfinite(x)]
    seed = np.uint64(SEED)
    codes = np.array([kernels.code(v, ONE, ZERO, rounding.value, seed, np.uint64(i)) for i, v in enumerate(finite)])
    limit = int(kernels.LIMIT)
    assert np.array_equal(codes, [min(max(r, -limit), limit) for r in exact(finite, rounding)])


@pytest.mark.parametrize("rounding", Rounding)
def test_round_float32__matches_round_exact_on_a_stratum_of_all_float32(rounding):
    x = np.concatenate([patterns(), ties_and_neighbours()[::7]])
    x = x[np.isfinite(x)]
    rounded = [round_float32(v, rounding.value, np.uint64(SEED), np.uint64(i)) for i, v in enumerate(x)]
    assert [int(v) for v in rounded] == exact(x, rounding).tolist()


@pytest.mark.parametrize("rounding", Rounding)
def test_round_float32__keeps_infinities_and_nan(rounding):
    for special in (np.inf, -np.inf, np.nan):
        got = round_float32(np.float32(special), rounding.value, np.uint64(0), np.uint64(0))
        assert np.isnan(got) if np.isnan(special) else got == special


def test_rounding__docstring_table_is_true():
    rows = [line.split() for line in Rounding.__doc__.splitlines() if line.strip()[:4].isupper()]
    values = [Fraction(n, 10) for n in (-25, -16, -15, 15, 16, 25)]
    assert [row[0] for row in rows] == [mode.name for mode in Rounding if mode is not Rounding.STOCHASTIC]
    for name, *want in rows:
        assert [round_exact(value, Rounding[name]) for value in values] == [int(w) for w in want], name


NEAREST = (Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.HALF_DOWN)
TIE = {
    Rounding.HALF_EVEN: lambda rounded, value: rounded % 2 == 0,
    Rounding.HALF_AWAY: lambda rounded, value: abs(rounded) > abs(value),
    Rounding.HALF_UP: lambda rounded, value: rounded > value,
    Rounding.HALF_DOWN: lambda rounded, value: rounded < value,
}
DIRECTED = {
    Rounding.TOWARD_ZERO: lambda rounded, value: abs(rounded) <= abs(value),
    Rounding.FLOOR: lambda rounded, value: rounded <= value,
    Rounding.CEIL: lambda rounded, value: rounded >= value,
}
RATIONALS = [Fraction(n, d) for n in range(-40, 41) for d in range(1, 9)]


@pytest.mark.parametrize("rounding", NEAREST)
def test_round_exact__is_the_nearest_integer_with_the_stated_tie(rounding):
    for value in RATIONALS:
        rounded = round_exact(value, rounding)
        assert abs(rounded - value) <= Fraction(1, 2)
        if abs(rounded - value) == Fraction(1, 2):
            assert TIE[rounding](rounded, value), value


@pytest.mark.parametrize("rounding", DIRECTED)
def test_round_exact__of_a_directed_mode_is_the_next_integer_on_its_side(rounding):
    for value in RATIONALS:
        rounded = round_exact(value, rounding)
        assert abs(rounded - value) < 1
        assert DIRECTED[rounding](rounded, value), value


# Stochastic rounding


def test_random_word__is_philox_4x32_10():
    # numpy has the 4x64 variant only: known answers of the generator's authors (Random123), counter and key all zero
    # or all ones; here the two high counter words are always zero, so only the first applies
    assert random_word(0, 0) == 0x6627E8D5


def test_philox_word__is_random_word():
    random = np.random.default_rng(0)
    for seed, index in random.integers(0, 2**64, (200, 2), dtype=np.uint64):
        assert int(philox_word(seed, index)) == random_word(int(seed), int(index))
    assert int(philox_word(np.uint64(2**64 - 1), np.uint64(2**64 - 1))) == random_word(2**64 - 1, 2**64 - 1)


def test_random_word__is_uniform():
    words = np.array([random_word(7, i) for i in range(20000)]) / 2**32
    assert abs(words.mean() - 0.5) < 5 * np.sqrt(1 / 12 / len(words))
    counts = np.bincount((words * 16).astype(int), minlength=16)
    chi_squared = ((counts - len(words) / 16) ** 2 / (len(words) / 16)).sum()
    assert chi_squared < 15 + 5 * np.sqrt(30)  # 15 degrees of freedom: mean 15, variance 30
    assert abs(np.corrcoef(words[:-1], words[1:])[0, 1]) < 5 / np.sqrt(len(words))


@pytest.mark.parametrize("value", [0.25, -0.25, 3.7, -3.7, 1e-3])
def test_stochastic__rounds_away_with_the_probability_of_the_fraction(value):
    x = np.full(100_000, value, np.float32)
    spec = QuantSpec(IntFormat(8), rounding=Rounding.STOCHASTIC)
    codes = quantize(x, spec, np.ones(1, np.float32), np.zeros(1, np.int32), seed=3).codes
    assert set(codes.tolist()) == {int(np.floor(value)), int(np.ceil(value))}
    share = abs(value) % 1
    error = np.sqrt(share * (1 - share) / len(x))
    assert abs(codes.mean(dtype=float) - np.float32(value)) < 5 * error


def test_stochastic__codes_depend_on_seed_and_position_only():
    spec = QuantSpec(IntFormat(8), rounding=Rounding.STOCHASTIC)
    x = np.linspace(-3, 3, 2 * 4 * 5 * 6, dtype=np.float32).reshape(2, 4, 5, 6)

    def codes(seed: int) -> np.ndarray:
        return quantize(x, spec, np.ones((1,) * 4, np.float32), np.zeros((1,) * 4, np.int32), seed=seed).codes

    how = ScaledFormat(spec, ONE, 0, seed=11)
    assert np.array_equal(codes(11), codes(11))
    assert not np.array_equal(codes(11), codes(12))
    image = quantize_image(x, how, Geometry.of(2, padding=(1, 2))).bytes[:, 1:-1, 2:-2]
    assert np.array_equal(image.astype(int) - 128, codes(11))
    rows = quantize_matrices(x.reshape(2, 20, 6), how, side="right").bytes
    assert np.array_equal(rows.reshape(x.shape), codes(11))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed__must_fit_64_bits(seed):
    with pytest.raises(BadInput, match="seed"):
        ScaledFormat(QuantSpec(IntFormat(8)), ONE, 0, seed=seed)
    with pytest.raises(BadInput, match="seed"):
        random_word(seed, 0)
