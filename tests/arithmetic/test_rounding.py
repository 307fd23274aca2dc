"""Claim: the compiled rounding of every kernel is :func:`round_exact` on the exact value of a float32, bit for bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.kernels import quantize as kernels
from simulator.arithmetic.operands import ScaledFormat, quantize_matrices
from simulator.arithmetic.quantizer import QuantSpec, quantize
from simulator.arithmetic.rounding import Rounding, round_exact

pytestmark = pytest.mark.usefixtures("one_thread")

WIDE = IntFormat(16)
ONE, ZERO = np.float32(1), np.int32(0)
TIES = np.arange(-(2**15), 2**15).astype(np.float32) + np.float32(0.5)


def ties_and_neighbours() -> np.ndarray:
    up, down = np.nextafter(TIES, np.float32(np.inf)), np.nextafter(TIES, np.float32(-np.inf))
    return np.concatenate([TIES, up, down])


def patterns() -> np.ndarray:
    """Every sign and exponent with the mantissas that matter and random ones: a stratum of all float32."""
    rng = np.random.default_rng(1)
    mantissas = np.concatenate([[0, 1, 2, 2**22, 2**22 - 1, 2**22 + 1, 2**23 - 1], rng.integers(0, 2**23, 57)])
    bits = np.arange(512, dtype=np.uint32)[:, None] * np.uint32(2**23) + mantissas.astype(np.uint32)
    return bits.astype(np.uint32).reshape(-1).view(np.float32)


def exact(values: np.ndarray, rounding: Rounding) -> np.ndarray:
    return np.array([round_exact(Fraction(float(v)), rounding) for v in values])


@pytest.mark.parametrize("rounding", Rounding)
def test_quantize__rounds_every_tie_and_its_neighbours_exactly(rounding):
    x = ties_and_neighbours()
    codes = quantize(x, QuantSpec(WIDE, rounding=rounding), np.ones(1, np.float32), np.zeros(1, np.int32)).codes
    assert np.array_equal(codes, np.clip(exact(x, rounding), WIDE.qmin, WIDE.qmax))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("side", ["left", "right"])
def test_byte_kernel__rounds_as_the_elementwise_kernel_does(rounding, side):
    x = np.concatenate([ties_and_neighbours()[np.abs(ties_and_neighbours()) < 300], patterns()])
    spec = QuantSpec(IntFormat(8), rounding=rounding)
    for zero in (-128, -3, 0, 127):
        how = ScaledFormat(spec, ONE, zero)
        got = quantize_matrices(x.reshape(1, 1, -1), how, side=side)
        want = quantize(x, spec, np.ones(1, np.float32), np.full(1, zero))
        shift = 128 if side == "left" else 0
        assert np.array_equal(got.bytes.reshape(-1).astype(int) - shift, want.codes)
        assert got.clipped == want.clipped


@pytest.mark.parametrize("rounding", Rounding)
def test_compiled_code__matches_round_exact_on_a_stratum_of_all_float32(rounding):
    x = patterns()
    finite = x[np.isfinite(x)]
    codes = np.array([kernels.code(v, ONE, ZERO, rounding.value) for v in finite])
    limit = int(kernels.LIMIT)
    assert np.array_equal(codes, [min(max(r, -limit), limit) for r in exact(finite, rounding)])


def test_round_half_away__matches_round_exact_on_a_stratum_of_all_float32():
    x = patterns()
    for v in np.concatenate([x[np.isfinite(x)], ties_and_neighbours()[::7]]):
        rounded = kernels.round_half_away(v)
        assert int(rounded) == round_exact(Fraction(float(v)), Rounding.HALF_AWAY), v


def test_round_half_away__keeps_infinities_and_nan():
    assert kernels.round_half_away(np.float32(np.inf)) == np.inf
    assert kernels.round_half_away(np.float32(-np.inf)) == -np.inf
    assert np.isnan(kernels.round_half_away(np.float32(np.nan)))


@pytest.mark.parametrize("rounding", Rounding)
def test_round_exact__is_the_nearest_integer_with_the_stated_tie(rounding):
    for n in range(-40, 41):
        for d in range(1, 9):
            value = Fraction(n, d)
            rounded = round_exact(value, rounding)
            assert abs(rounded - value) <= Fraction(1, 2)
            if abs(rounded - value) == Fraction(1, 2):
                assert rounded % 2 == 0 if rounding is Rounding.HALF_EVEN else abs(rounded) > abs(value)
