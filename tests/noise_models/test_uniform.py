"""Claim: the rounding error's moments are exact by two independent routes, by the engine, and where closed forms exist;
the uniform model's verdicts follow from them."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noise_models.theory.densities import FAMILIES, Folded, Gaussian, Laplace, Uniform
from noise_models.theory.uniform import (
    VERDICTS,
    rounding_error,
    rounding_error_series,
    smallest_ratio,
    uniform_noise_power,
    uniform_validity,
    worst_power_error,
)
from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec, dequantize, quantize
from simulator.arithmetic.rounding import Rounding, round_exact

OFFSETS = (0.0, 0.5, 0.31)
SERIES_ERROR = {"gaussian": 1e-13, "laplace": 1e-8, "uniform": 1e-5}
"""Of the truncated series, in steps and squared steps, at 4096 terms and deviations of at least 0.3 steps."""


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("ratio", [0.3, 1.0, 7.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_rounding_error__is_the_same_by_sum_over_cells_and_by_characteristic_function(family, ratio, offset) -> None:
    density = FAMILIES[family](0.37, ratio * 0.25)
    direct = rounding_error(density, 0.25, offset=offset)
    series = rounding_error_series(density, 0.25, offset=offset)
    np.testing.assert_allclose(np.array(series), np.array(direct), rtol=0, atol=SERIES_ERROR[family] * 0.25)


@pytest.mark.parametrize("mode", [Rounding.HALF_EVEN, Rounding.HALF_UP])
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("density", [Gaussian(0.1, 0.08), Laplace(-0.3, 0.2), Uniform(0.2, 0.3)])
def test_rounding_error__is_that_of_the_engine_within_5_standard_errors(density, offset, mode) -> None:
    step, count = 0.25, 200_000
    x = draw(density, count, seed=5)
    spec = QuantSpec(IntFormat(16), rounding=mode)
    shift = np.float32(offset * step)
    made = quantize(x - shift, spec, np.full(1, step, np.float32), np.zeros(1, np.int32))
    e = (dequantize(made) + shift).astype(np.float64) - x
    exact = rounding_error(density, step, offset=offset)
    for values, expected in ((e, exact.mean), (e**2, exact.power), ((x - density.mean) * e, exact.covariance)):
        assert abs(values.mean() - expected) < 5 * values.std() / math.sqrt(count)


def draw(density, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    match density:
        case Gaussian():
            x = rng.normal(density.mean, density.deviation, count)
        case Laplace():
            x = rng.laplace(density.mean, density.scale, count)
        case _:
            x = rng.uniform(*density.support, count)
    return x.astype(np.float32)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_rounding_error__of_a_uniform_input_over_whole_steps_is_the_model(steps) -> None:
    density = Uniform(0.0, steps * 0.5 / math.sqrt(12))
    for offset in OFFSETS:
        found = rounding_error(density, 0.5, offset=offset)
        assert found.power == pytest.approx(0.25 / 12, rel=1e-13)
        assert found.mean == pytest.approx(0, abs=1e-16)


def test_rounding_error__of_a_uniform_input_within_one_cell_is_the_input_itself() -> None:
    density = Uniform(0.05, 0.1)
    found = rounding_error(density, 1.0)
    assert found == pytest.approx((-0.05, 0.1**2 + 0.05**2, -(0.1**2)), rel=1e-12)
    assert found.correlation(density.deviation) == pytest.approx(-1)


def test_rounding_error__over_all_rationals_of_a_fine_grid_tends_to_a_uniform_input() -> None:
    """Rounding of every rational on a grid, exact, against the formula for the interval that they fill."""
    fine, offset, step = 512, Fraction(1, 4), Fraction(1, 2)
    points = [Fraction(2 * k + 1, 2 * fine) for k in range(-fine, 2 * fine)]  # midpoints of cells of [-1, 2]
    errors = [(round_exact(x / step - offset, Rounding.HALF_EVEN) + offset) * step - x for x in points]
    found = rounding_error(Uniform(0.5, 3 / math.sqrt(12)), 0.5, offset=0.25)
    mean = sum(errors) / len(errors)
    power = sum(e**2 for e in errors) / len(errors) + Fraction(1, 12 * fine**2)  # within each cell
    covariance = sum((x - Fraction(1, 2)) * e for x, e in zip(points, errors, strict=True)) / len(errors)
    exact = float(mean), float(power), float(covariance - Fraction(1, 12 * fine**2))
    assert tuple(found) == pytest.approx(exact, abs=1e-14)


@given(
    st.sampled_from(sorted(FAMILIES)),
    st.floats(-3, 3),
    st.floats(0.05, 5),
    st.floats(0, 1),
)
def test_rounding_error__is_bounded_and_repeats_with_the_step(family, mean, deviation, offset) -> None:
    found = rounding_error(FAMILIES[family](mean, deviation), 1.0, offset=offset)
    assert abs(found.mean) <= 0.5 + 1e-12
    assert -1e-12 <= found.variance <= 0.25 + 1e-12
    assert abs(found.power * 12 - 1) <= worst_power_error(FAMILIES[family](mean, deviation), 1.0) + 1e-9
    moved = rounding_error(FAMILIES[family](mean + 2, deviation), 1.0, offset=offset)
    assert tuple(moved) == pytest.approx(tuple(found), abs=1e-10)
    mirrored = rounding_error(FAMILIES[family](-mean, deviation), 1.0, offset=-offset)
    assert tuple(mirrored) == pytest.approx((-found.mean, found.power, found.covariance), abs=1e-10)


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("family", ["gaussian", "laplace"])
def test_smallest_ratio__meets_the_tolerance_exactly_at_the_worst_offset(family, tolerance) -> None:
    ratio = smallest_ratio(family, tolerance)
    worst = rounding_error(FAMILIES[family](0.0, ratio), 1.0, offset=0.5)  # a cell boundary on the mean
    assert abs(worst.power * 12 - 1) == pytest.approx(tolerance, rel=1e-6)
    inside = rounding_error(FAMILIES[family](0.0, ratio * 1.01), 1.0, offset=0.5)
    assert abs(inside.power * 12 - 1) < tolerance


def test_smallest_ratio__of_a_gaussian_is_its_first_harmonic() -> None:
    """(12 / pi^2) exp(-2 pi^2 r^2) = tolerance; the second harmonic is smaller by exp(-6 pi^2 r^2) / 4."""
    assert smallest_ratio("gaussian", 0.01) == pytest.approx(
        math.sqrt(math.log(12 / (math.pi**2 * 0.01)) / (2 * math.pi**2)), rel=1e-6
    )


def test_smallest_ratio__suffices_for_every_wider_uniform_input() -> None:
    ratio = smallest_ratio("uniform", 0.01)
    for wider in np.linspace(1, 1.3, 40):
        for offset in (0.0, 0.5):
            assert abs(rounding_error(Uniform(0.0, ratio * wider), 1.0, offset=offset).power * 12 - 1) <= 0.01


def test_uniform_validity__tells_an_input_that_holds_anywhere_from_one_that_holds_here_and_one_that_fails() -> None:
    def verdicts(deviation: float, mean: float) -> dict[str, str]:
        found = uniform_validity(Gaussian(mean, deviation), 1.0)
        return {name: VERDICTS[int(found[name])] for name in ("power", "mean", "uncorrelated")}

    anywhere, here, fails = VERDICTS
    assert verdicts(2.0, 0.0) == {"power": anywhere, "mean": anywhere, "uncorrelated": anywhere}
    assert verdicts(0.4, 0.0) == {"power": fails, "mean": here, "uncorrelated": fails}
    assert verdicts(0.4, 0.25) == {"power": here, "mean": fails, "uncorrelated": here}  # cos(pi / 2) = 0
    found = uniform_validity(Gaussian(0.0, 0.4), 1.0)
    assert float(found.theorem_1) == pytest.approx(math.exp(-(math.pi**2) * 0.08))
    assert float(found.theorem_2) == pytest.approx(math.exp(-4 * math.pi**2 * 0.08))
    assert float(found.power_error_bound) == pytest.approx(abs(float(found.power_error)), rel=1e-3)
    assert found.power.attrs["flag_meanings"].split() == list(VERDICTS)


def test_uniform_validity__of_wide_and_narrow_inputs_is_finite() -> None:
    for family in FAMILIES.values():
        assert float(uniform_validity(family(0.0, 1e4), 1.0).power_error) == pytest.approx(0, abs=1e-3)
        narrow = uniform_validity(family(0.0, 1e-3), 1.0)
        assert float(narrow.correlation) == pytest.approx(-1, abs=1e-3)  # all of it rounds to 0


def test_partial__of_a_folded_density_covers_its_upper_half() -> None:
    half = Folded(Gaussian(0.0, 2.0))
    assert half.mean == pytest.approx(2 * math.sqrt(2 / math.pi))
    assert half.deviation == pytest.approx(2 * math.sqrt(1 - 2 / math.pi))
    mass, first, second = half.partial(-np.inf, np.inf, 0.0)
    assert (mass, first, second) == pytest.approx((1.0, half.mean, 4.0))
    direct = rounding_error(half, 0.5)
    assert abs(direct.power * 48 - 1) < 0.1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: uniform_noise_power(0.0), "step"),
        (lambda: rounding_error(Gaussian(), -1.0), "step"),
        (lambda: rounding_error(Gaussian(), 1e-7), "direct sum"),
        (lambda: rounding_error_series(Gaussian(), 1.0, terms=0), "terms"),
        (lambda: Gaussian(0.0, 0.0), "deviation must be above 0"),
        (lambda: Laplace(math.nan, 1.0), "mean"),
        (lambda: Folded(Gaussian(1.0, 1.0)), "folded"),
        (lambda: smallest_ratio("cauchy", 0.1), "family"),
        (lambda: smallest_ratio("gaussian", 0.0), "tolerance"),
        (lambda: uniform_validity(Gaussian(), 1.0, tolerance=1.0), "tolerance"),
    ],
)
def test_uniform__refuses_bad_input(call, says) -> None:
    with pytest.raises(BadInput, match=says):
        call()
