"""Claim: clipping and rounding together are exact by quadrature, by the engine and in published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from noise_models.theory.densities import Folded, Gaussian, Laplace, Uniform
from noise_models.theory.overload import (
    Convention,
    Grid,
    aciq_clip,
    aciq_distortion,
    distortion,
    optimal_clip,
)
from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec, dequantize, quantize

UNIT_LAPLACE = Laplace(0.0, math.sqrt(2))
"""b = 1, in which ACIQ states Laplace's clips."""

MAX_1960 = {
    2: (1.596, 0.3634),
    4: (0.9957, 0.1188),
    8: (0.5860, 0.03744),
    16: (0.3352, 0.01154),
    32: (0.1881, 0.003495),
}
"""Levels -> (step, mean squared error): Max, "Quantizing for minimum distortion", table II, unit Gaussian."""
JAYANT_NOLL = {
    Gaussian(): {1: (1.5956, 4.40), 2: (0.9957, 9.25), 3: (0.5860, 14.27), 4: (0.3352, 19.38), 5: (0.1881, 24.57),
                 6: (0.1041, 29.83)},
    Laplace(): {1: (1.4142, 3.01), 2: (1.0874, 7.07), 3: (0.7309, 11.44), 4: (0.4610, 15.96), 5: (0.2800, 20.60),
                6: (0.1657, 25.36), 7: (0.0961, 30.23)},
}  # fmt: skip
"""Bits -> (step, SQNR in dB) at unit variance: Jayant and Noll, "Digital coding of waveforms", table 4.1."""
ACIQ = {
    Gaussian(): {1: 1.24, 2: 1.71, 3: 2.15, 4: 2.55, 5: 2.93, 6: 3.28, 7: 3.61, 8: 3.92},
    UNIT_LAPLACE: {1: 1.86, 2: 2.83, 3: 3.89, 4: 5.03, 5: 6.2, 6: 7.41, 7: 8.64, 8: 9.89},
    Folded(Gaussian()): {1: 1.71, 2: 2.15, 3: 2.55, 4: 2.93, 5: 3.28, 6: 3.61, 7: 3.92, 8: 4.2},
    Folded(UNIT_LAPLACE): {1: 2.83, 2: 3.89, 3: 5.02, 4: 6.2, 5: 7.41, 6: 8.64, 7: 9.89, 8: 11.16},
}
"""Bits -> clip, as the authors' released code tabulates them (rounded or cut to two digits)."""


@pytest.mark.parametrize("levels", MAX_1960)
def test_optimal_clip__is_max_s_uniform_quantizer(levels) -> None:
    step, mse = MAX_1960[levels]
    found = optimal_clip(Gaussian(), levels.bit_length() - 1)
    assert 2 * found.clip / levels == pytest.approx(step, rel=5e-4)
    assert found.mse == pytest.approx(mse, rel=5e-4)


@pytest.mark.parametrize("density", JAYANT_NOLL)
def test_optimal_clip__is_jayant_and_noll_s(density) -> None:
    for bits, (step, db) in JAYANT_NOLL[density].items():
        found = optimal_clip(density, bits)
        assert 2 * found.clip / 2**bits == pytest.approx(step, abs=2e-4)
        assert -10 * math.log10(found.mse) == pytest.approx(db, abs=0.006)


@pytest.mark.parametrize("density", ACIQ)
def test_aciq_clip__is_the_released_table(density) -> None:
    for bits, clip in ACIQ[density].items():
        found = aciq_clip(density, bits)
        assert -0.006 < found.clip - clip < 0.02  # the table rounds some entries and cuts others
        nearby = [aciq_distortion(density, bits, found.clip * factor) for factor in (0.99, 1.01)]
        assert found.mse < min(nearby)


def test_aciq_clip__costs_more_than_the_exact_optimum_most_at_few_bits() -> None:
    for density in (Gaussian(), UNIT_LAPLACE):
        loss = []
        for bits in range(2, 9):
            exact, approximate = optimal_clip(density, bits), aciq_clip(density, bits)
            assert approximate.clip < exact.clip
            at_aciq = distortion(density, Grid.of(Convention.MIDRISE, bits, approximate.clip)).total
            assert at_aciq > exact.mse
            loss.append(at_aciq / exact.mse)
        assert loss == sorted(loss, reverse=True)


@pytest.mark.parametrize(
    ("density", "convention"),
    [(Gaussian(), c) for c in Convention if c is not Convention.UNSIGNED]
    + [(Laplace(), Convention.SYMMETRIC), (Folded(Gaussian()), Convention.UNSIGNED)],
)
def test_optimal_clip__has_the_least_distortion_of_all_clips(density, convention) -> None:
    for bits in (2, 5):
        found = optimal_clip(density, bits, convention)
        grid = Grid.of(convention, bits, found.clip)
        assert found.mse == distortion(density, grid).total
        others = [distortion(density, Grid.of(convention, bits, c)).total for c in np.geomspace(0.02, 50, 501)]
        assert found.mse <= min(others)


@pytest.mark.parametrize("convention", Convention)
@pytest.mark.parametrize("density", [Gaussian(0.1, 0.9), Laplace(-0.2, 1.3), Folded(Gaussian()), Folded(UNIT_LAPLACE)])
def test_distortion__is_that_of_quadrature(density, convention) -> None:
    grid = Grid.of(convention, 3, 1.7)
    levels = grid.levels

    def integral(low: float, high: float, level: float, weight=lambda x: 1.0) -> float:
        inside = max(low, density.support[0]), min(high, density.support[1])
        whole = density.whole if isinstance(density, Folded) else density
        if inside[0] >= inside[1]:
            return 0.0
        kinks = [whole.mean] if inside[0] < whole.mean < inside[1] else None
        return quad(lambda x: weight(x) * (x - level) ** 2 * pdf(density, x), *inside, points=kinks, limit=400)[0]

    found, half = distortion(density, grid), grid.step / 2
    far = 40 * density.deviation
    granular = sum(integral(level - half, level + half, level) for level in levels)
    overload = integral(-far, levels[0] - half, levels[0]) + integral(levels[-1] + half, far, levels[-1])
    assert found.granular == pytest.approx(granular, rel=1e-9)
    assert found.overload == pytest.approx(overload, rel=1e-7, abs=1e-12)


def pdf(density, x: float) -> float:
    match density:
        case Folded():
            return 2 * pdf(density.whole, x)
        case Gaussian():
            t = (x - density.mean) / density.deviation
            return math.exp(-t * t / 2) / (density.deviation * math.sqrt(2 * math.pi))
        case _:
            return math.exp(-abs(x - density.mean) / density.scale) / (2 * density.scale)


FORMATS = {
    Convention.MIDRISE: IntFormat(3),
    Convention.SYMMETRIC: IntFormat(3, narrow=True),
    Convention.TWOS_COMPLEMENT: IntFormat(3),
    Convention.UNSIGNED: IntFormat(3, signed=False),
}


@pytest.mark.parametrize("convention", Convention)
@pytest.mark.parametrize("density", [Gaussian(0.2, 1.0), Laplace(), Folded(Gaussian())])
def test_distortion__is_that_of_the_engine_within_5_standard_errors(density, convention) -> None:
    count, clip = 200_000, 0.875 * (7 if convention is Convention.UNSIGNED else 3) / 3
    grid = Grid.of(convention, 3, clip)
    x = draw(density, count)
    shift = np.float32(grid.offset * grid.step)
    spec = QuantSpec(FORMATS[convention])
    made = quantize(x - shift, spec, np.full(1, grid.step, np.float32), np.zeros(1, np.int32))
    assert (spec.format.qmin, spec.format.qmax) == (grid.low, grid.high)
    e = (dequantize(made) + shift).astype(np.float64) - x
    exact = distortion(density, grid)
    outside = np.abs(e) > grid.step / 2 * (1 + 1e-6)
    for values, expected in (
        (e**2, exact.total), (e**2 * outside, exact.overload), (e, exact.mean), (outside, exact.clipped),
        ((x - density.mean) * e, exact.covariance),
    ):  # fmt: skip
        assert abs(values.mean() - expected) < 5 * max(values.std(), 1e-12) / math.sqrt(count)
    if grid.offset == 0:
        assert made.clipped / count == pytest.approx(outside.mean(), abs=1e-4)


def draw(density, count: int) -> np.ndarray:
    rng = np.random.default_rng(11)
    whole = density.whole if isinstance(density, Folded) else density
    noise = rng.laplace(0, 2**-0.5, count) if isinstance(whole, Laplace) else rng.normal(size=count)
    x = whole.mean + whole.deviation * noise
    return (np.abs(x) if isinstance(density, Folded) else x).astype(np.float32)


@pytest.mark.parametrize("convention", [Convention.MIDRISE, Convention.SYMMETRIC])
def test_distortion__without_clipping_is_the_uniform_model_at_many_bits(convention) -> None:
    grid = Grid.of(convention, 14, 12.0)
    found = distortion(Gaussian(), grid)
    assert found.total == pytest.approx(grid.step**2 / 12, rel=1e-6)
    assert found.clipped < 1e-30


@pytest.mark.parametrize("clip", [6.0, 9.0, 20.0])
def test_distortion__keeps_the_digits_of_far_tails(clip) -> None:
    grid = Grid.of(Convention.SYMMETRIC, 8, clip)
    edge = clip + grid.step / 2
    assert distortion(Gaussian(), grid).clipped == pytest.approx(math.erfc(edge / math.sqrt(2)), rel=1e-12, abs=0)
    assert distortion(UNIT_LAPLACE, grid).clipped == pytest.approx(math.exp(-edge), rel=1e-12, abs=0)


def test_distortion__of_an_input_that_is_clipped_throughout_is_its_distance_to_the_last_level() -> None:
    grid = Grid.of(Convention.SYMMETRIC, 4, 1.0)
    found = distortion(Uniform(5.0, 0.1), grid)
    assert found.clipped == pytest.approx(1)
    assert found.granular == 0
    assert found.overload == pytest.approx(16 + 0.01)
    assert found.mean == pytest.approx(-4)


def test_distortion__of_a_grid_too_coarse_for_the_input_is_the_input_itself() -> None:
    found = distortion(Gaussian(0.0, 0.01), Grid.of(Convention.SYMMETRIC, 2, 1.0))
    assert found.total == pytest.approx(1e-4)
    assert found.covariance == pytest.approx(-1e-4)
    assert found.sqnr_db(1e-4) == pytest.approx(0)


@given(st.integers(2, 8), st.floats(0.05, 20), st.integers(-6, 6), st.sampled_from(list(Convention)))
def test_distortion__scales_with_powers_of_two_to_the_bit(bits, clip, exponent, convention) -> None:
    factor = 2.0**exponent
    small = distortion(Laplace(0.25, 1.0), Grid.of(convention, bits, clip))
    large = distortion(Laplace(0.25 * factor, factor), Grid.of(convention, bits, clip * factor))
    assert large.granular == small.granular * factor**2
    assert large.overload == small.overload * factor**2
    assert large.clipped == small.clipped
    assert 0 <= small.clipped <= 1
    assert small.total == small.granular + small.overload


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Grid.of(Convention.MIDRISE, 0, 1.0), "bits"),
        (lambda: Grid.of(Convention.SYMMETRIC, 1, 1.0), "bits"),
        (lambda: Grid.of(Convention.UNSIGNED, 17, 1.0), "bits"),
        (lambda: Grid.of(Convention.MIDRISE, 4, 0.0), "clip"),
        (lambda: Grid(1.0, 3, 2), "level"),
        (lambda: Grid(-1.0, 0, 2), "step"),
        (lambda: optimal_clip(Gaussian(), 0), "bits"),
        (lambda: optimal_clip(Gaussian(), 1, Convention.TWOS_COMPLEMENT), "bits"),
        (lambda: aciq_clip(Gaussian(), 0), "bits"),
        (lambda: aciq_clip(Gaussian(), 17), "bits"),
        (lambda: aciq_clip(Laplace(1.0, 1.0), 4), "mean 0"),
    ],
)
def test_overload__refuses_bad_input(call, says) -> None:
    with pytest.raises(BadInput, match=says):
        call()
