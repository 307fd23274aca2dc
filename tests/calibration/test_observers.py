"""Claim: each observer finds what its definition finds on all data, exactly or within the stated part of a bin.

Definitions are written out again here, over the kept data, without a histogram.
"""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerTensor
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.rounding import Rounding
from simulator.arithmetic.scale_formats import PowerOfTwoScale
from simulator.calibration.channels import Observed
from simulator.calibration.divergence import KullbackLeibler, divergences
from simulator.calibration.histogram import Histogram
from simulator.calibration.observers import MinMax, MovingAverage, Observer
from simulator.calibration.percentile import Percentile
from simulator.calibration.points import Points, points_of
from simulator.calibration.search import LpSearch, PercentileSearch

UINT8 = QuantSpec(IntFormat(8, signed=False))
UINT4 = QuantSpec(IntFormat(4, signed=False))
INT8 = QuantSpec(IntFormat(8, narrow=True), symmetric=True)
INT3 = QuantSpec(IntFormat(3), symmetric=True)
ALL = [MinMax(), MovingAverage(0.5), Percentile(90), LpSearch(), PercentileSearch(), KullbackLeibler()]


def passes(case: str, seed: int = 0) -> list[np.ndarray]:
    """Three forward passes' values of one operand, growing in range."""
    rng = np.random.default_rng(seed)
    make = {
        "normal": lambda n: rng.normal(size=n),
        "heavy": lambda n: rng.standard_t(2, size=n),
        "relu": lambda n: np.maximum(rng.normal(size=n), 0),
        "ties": lambda n: rng.integers(-6, 20, n) / 4,
        "negative": lambda n: -(rng.random(n) ** 3) - 1,
        "narrow": lambda n: 100 + rng.random(n),
        "constant": lambda n: np.full(n, 2.5),
    }[case]
    return [(make(n) * scale).astype(np.float32) for n, scale in ((500, 0.5), (2000, 1), (501, 3))]


CASES = ("normal", "heavy", "relu", "ties", "negative", "narrow", "constant")


def streamed(observer: Observer, parts: list[np.ndarray], spec: QuantSpec | None = None) -> tuple[float, float]:
    accumulator = observer.accumulator(1, spec)
    for part in parts:
        low, high = (np.array([f(part)], np.float64) for f in (np.min, np.max))
        accumulator.update(Observed(part.reshape(1, 1, -1), 1, low, high))
    low, high = accumulator.bounds()
    assert low.shape == high.shape == (1,)
    assert low.dtype == high.dtype == np.float64
    return float(low[0]), float(high[0])


def at_hand(observer: Observer, data: np.ndarray, spec: QuantSpec | None = None) -> tuple[float, float]:
    low, high = observer.fit(points_of(data, PerTensor()), spec)
    return float(low[0]), float(high[0])


def width(parts: list[np.ndarray], bins: int) -> float:
    """Bin width of a histogram of these passes."""
    histogram = Histogram(1, bins)
    for part in parts:
        low, high = (np.array([f(part)], np.float64) for f in (np.min, np.max))
        histogram.update(Observed(part.reshape(1, 1, -1), 1, low, high))
    return float(histogram.points().width[0])


# Extremes and averages


@pytest.mark.parametrize("case", CASES)
def test_min_max__is_the_extremes_of_all_passes(case):
    parts = passes(case)
    data = np.concatenate(parts)
    assert streamed(MinMax(), parts) == at_hand(MinMax(), data) == (float(data.min()), float(data.max()))


def test_moving_average__weighs_passes_geometrically_from_the_first():
    parts = [np.array([-k, 10.0 * k], np.float32) for k in (1, 4, 2, 7)]
    m = 0.75
    weights = [m**3, (1 - m) * m**2, (1 - m) * m, 1 - m]
    low, high = streamed(MovingAverage(m), parts)
    assert math.isclose(low, -sum(w * k for w, k in zip(weights, (1, 4, 2, 7), strict=True)))
    assert math.isclose(high, -10 * low)
    assert streamed(MovingAverage(0), parts) == (-7, 70)


def test_moving_average__averages_the_bounds_that_another_observer_finds_in_each_pass():
    parts = passes("heavy")
    inner = LpSearch(2.4, 50)
    each = [streamed(inner, [part], UINT4) for part in parts]
    want = [0.9 * (0.9 * a + 0.1 * b) + 0.1 * c for a, b, c in zip(*each, strict=True)]
    assert np.allclose(streamed(MovingAverage(of=inner), parts, UINT4), want, rtol=1e-14)


# Percentiles


@pytest.mark.parametrize("percent", [50.5, 75, 99, 99.99, 100])
@pytest.mark.parametrize("case", CASES)
def test_percentile__is_numpys_on_data_at_hand_and_within_half_a_bin_of_it_streamed(case, percent):
    parts = passes(case)
    data = np.concatenate(parts).astype(np.float64)
    want = np.percentile(data, [100 - percent, percent])
    assert np.allclose(at_hand(Percentile(percent), np.concatenate(parts)), want, rtol=1e-15, atol=0)
    for bins in (8, 100, 4096):
        error = np.abs(np.array(streamed(Percentile(percent, bins), parts)) - want)
        assert (error <= width(parts, bins) / 2 * (1 + 1e-12)).all()


# Searches for the smallest error


def fake_quantized(data: np.ndarray, low: float, high: float, spec: QuantSpec) -> np.ndarray:
    """x_quantized from the documented formulas, for the rule DIVIDE and scales in float32 or powers of two."""
    qmin, qmax = spec.format.qmin, spec.format.qmax
    if spec.symmetric:
        scale = np.float32(max(abs(low), abs(high)) / qmax)
    else:
        scale = np.float32((max(high, 0.0) - min(low, 0.0)) / (qmax - qmin))
    if scale < np.finfo(np.float32).tiny:
        scale = np.float32(1)
    if spec.scale_format == PowerOfTwoScale():
        scale = np.float32(2.0 ** math.ceil(math.log2(scale)))
    zero = 0 if spec.symmetric else int(np.clip(np.rint(qmin - min(low, 0.0) / np.float64(scale)), qmin, qmax))
    rounded = {Rounding.HALF_EVEN: np.rint, Rounding.FLOOR: np.floor, Rounding.CEIL: np.ceil}[spec.rounding](
        data / scale
    )
    codes = np.clip(rounded.astype(np.float64) + zero, qmin, qmax)
    return (codes - zero).astype(np.float32) * scale


def error(data: np.ndarray, bounds: tuple[float, float], spec: QuantSpec, p: float) -> float:
    """(mean |x - x_quantized|**p)**(1/p)."""
    found = fake_quantized(data, *bounds, spec).astype(np.float64)
    return float((np.abs(found - data) ** p).mean() ** (1 / p))


def candidates(data: np.ndarray, n: int) -> list[tuple[float, float]]:
    low, high = float(data.min()), float(data.max())
    return [(low * ((n - i) / n), high * ((n - i) / n)) for i in range(n)]


SPECS = {
    "uint8": UINT8, "uint4": UINT4, "int8": INT8, "int3": INT3,
    "floor": dataclasses.replace(UINT4, rounding=Rounding.FLOOR),
    "ceil": dataclasses.replace(INT3, rounding=Rounding.CEIL),
    "power of two": dataclasses.replace(UINT4, scale_format=PowerOfTwoScale()),
}  # fmt: skip


@pytest.mark.parametrize("p", [1, 2, 2.4])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("case", CASES)
def test_lp_search__finds_the_best_candidate_on_data_at_hand(case, spec, p):
    data = np.concatenate(passes(case))
    tried = candidates(data, 40)
    errors = [error(data, bounds, SPECS[spec], p) for bounds in tried]
    found = at_hand(LpSearch(p, 40), data, SPECS[spec])
    assert found in tried
    assert math.isclose(errors[tried.index(found)], min(errors), rel_tol=1e-12, abs_tol=1e-30)


@pytest.mark.parametrize("bins", [64, 512, 8192])
@pytest.mark.parametrize("spec", ["uint8", "uint4", "int8", "int3", "power of two"])
@pytest.mark.parametrize("case", CASES)
def test_lp_search__streamed_loses_at_most_one_bin_width(case, spec, bins):
    parts = passes(case)
    data = np.concatenate(parts)
    tried = candidates(data, 40)
    for p in (2, 2.4):
        best = min(error(data, bounds, SPECS[spec], p) for bounds in tried)
        found = streamed(LpSearch(p, 40, bins), parts, SPECS[spec])
        assert found in tried
        assert error(data, found, SPECS[spec], p) <= best + width(parts, bins)


def test_lp_search__of_a_grid_that_fits_keeps_the_whole_range_and_of_ties_the_wider():
    grid = np.arange(-8, 8, dtype=np.float32) / 4  # 16 values, 16 codes
    assert at_hand(LpSearch(2), np.repeat(grid, 3), UINT4) == (-2.0, 1.75)
    steps = np.arange(16, dtype=np.float32) / 2  # every candidate above half of the range gives the scale 1/2
    for find in (
        at_hand(LpSearch(2), steps, SPECS["power of two"]),
        streamed(LpSearch(2), [steps], SPECS["power of two"]),
    ):
        assert find == (0.0, 7.5)
    zeros = np.zeros(5, np.float32)
    assert at_hand(LpSearch(2), zeros, UINT4) == streamed(LpSearch(2), [zeros], UINT4) == (0.0, 0.0)


def test_lp_search__clips_an_outlier_that_min_max_keeps():
    data = np.append(np.random.default_rng(0).normal(size=4000), 60).astype(np.float32)
    for spec in (UINT4, INT3):
        low, high = at_hand(LpSearch(2), data, spec)
        assert high < 30
        assert error(data, (low, high), spec, 2) < 0.95 * error(data, (float(data.min()), 60.0), spec, 2)


@pytest.mark.parametrize("case", CASES)
def test_percentile_search__finds_the_best_percentile_range(case):
    parts = passes(case)
    data = np.concatenate(parts)
    percents = (100.0, 99.5, 98.0, 90.0)
    tried = [at_hand(Percentile(q), data) for q in percents]
    errors = [error(data, bounds, UINT4, 2) for bounds in tried]
    assert at_hand(PercentileSearch(percents), data, UINT4) == tried[int(np.argmin(errors))]
    found = streamed(PercentileSearch(percents, bins=1024), parts, UINT4)
    # each candidate bound is off by half a bin, which moves clipped values by as much, and each error by half a bin
    assert error(data, found, UINT4, 2) <= min(errors) + 2 * width(parts, 1024)


# Entropy


def slides(histogram: np.ndarray, levels: int) -> list[float]:
    """D(i) as the published pseudocode has it, one bin at a time."""
    found = []
    for i in range(levels, len(histogram) + 1):
        p = [float(c) for c in histogram[:i]]
        p[i - 1] += float(sum(histogram[i:]))
        q = [0.0] * i
        for level in range(levels):
            members = [j for j in range(i) if j * levels // i == level]
            filled = [j for j in members if histogram[j]]
            for j in filled:
                q[j] = sum(float(histogram[k]) for k in members) / len(filled)
        if any(a > 0 and b == 0 for a, b in zip(p, q, strict=True)):
            found.append(math.inf)
            continue
        p, q = [a / sum(p) for a in p], [b / sum(q) for b in q]
        found.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a))
    return found


HISTOGRAMS = {
    "exponential": lambda rng: np.bincount(np.minimum(rng.exponential(9, 3000), 63).astype(int), minlength=64),
    "sparse": lambda rng: np.bincount(rng.choice([0, 3, 3, 17, 40, 59, 60], 200), minlength=61),
    "one far bin": lambda rng: np.bincount([0] * 90 + [30] * 5 + [63]),
    "all in the last": lambda rng: np.bincount([50] * 7),
    "full": lambda rng: rng.integers(1, 9, 48),
}


@pytest.mark.parametrize("levels", [1, 4, 7, 16])
@pytest.mark.parametrize("case", HISTOGRAMS)
def test_divergences__are_those_of_the_published_loop(case, levels):
    histogram = HISTOGRAMS[case](np.random.default_rng(1))
    want, got = slides(histogram, levels), divergences(histogram, levels)
    assert len(want) == len(got)
    assert np.array_equal(np.isinf(want), np.isinf(got))
    finite = np.isfinite(want)
    assert np.allclose(got[finite], np.array(want)[finite], rtol=0, atol=1e-12)


def magnitudes(data: np.ndarray, bins: int) -> tuple[np.ndarray, float]:
    """Histogram of |x| from the definition, and its bin width."""
    w, largest = 2.0**-126, float(np.abs(data).max())
    while math.floor(largest / w) >= bins or largest >= w * 2**23:
        w *= 2
    x = data.astype(np.float64)
    index = np.where(x >= 0, np.floor(x / w), np.ceil(-x / w) - 1).astype(int)
    return np.bincount(index), w


@pytest.mark.parametrize(("spec", "signs"), [(UINT8, 1), (UINT8, 2), (INT8, 2), (INT3, 2), (UINT4, 2), (UINT4, 1)])
@pytest.mark.parametrize("case", ["normal", "heavy", "ties"])
def test_kullback_leibler__cuts_at_the_smallest_divergence_streamed_or_at_hand(case, spec, signs):
    parts = [np.abs(part) if signs == 1 else part for part in passes(case)]
    data, bins = np.concatenate(parts), 300
    levels = {(UINT8, 1): 256, (UINT8, 2): 128, (INT8, 2): 128, (INT3, 2): 4, (UINT4, 2): 8, (UINT4, 1): 16}[
        spec, signs
    ]
    histogram, w = magnitudes(data, bins)
    low, high = float(data.min()), float(data.max())
    if len(histogram) > levels:
        found = slides(histogram, levels)
        smallest = max(i for i, d in enumerate(found) if d <= min(found) + 1e-13)
        threshold = (levels + smallest + 0.5) * w
        low, high = max(low, -threshold), min(high, threshold)
    assert at_hand(KullbackLeibler(bins), data, spec) == (low, high)
    assert streamed(KullbackLeibler(bins), parts, spec) == (low, high)


def test_kullback_leibler__cuts_the_tail_of_heavy_data_only():
    data = np.concatenate(passes("heavy"))
    _, high = at_hand(KullbackLeibler(), data, INT8)
    assert high < 0.8 * data.max()
    uniform = np.linspace(-1, 1, 100_001).astype(np.float32)
    assert max(at_hand(KullbackLeibler(), uniform, INT8)) > 0.97


# All of them


@pytest.mark.parametrize("observer", ALL, ids=lambda o: type(o).__name__)
def test_observer__treats_groups_as_if_each_were_alone(observer):
    rng = np.random.default_rng(3)
    parts = [(rng.standard_t(3, (4, 5, 30)) * [[0.1], [1], [1], [50], [7]]).astype(np.float32) for _ in range(3)]
    accumulator, starts = observer.accumulator(3, UINT4), (0, 2, 4)
    for part in parts:
        low, high = (np.array([f(part[:, s : s + 2]) for s in starts], np.float64) for f in (np.min, np.max))
        accumulator.update(Observed(part, 2, low, high))
    low, high = accumulator.bounds()
    for group, start in enumerate(starts):
        alone = streamed(observer, [part[:, start : start + 2].reshape(-1) for part in parts], UINT4)
        assert (low[group], high[group]) == alone


@pytest.mark.parametrize("observer", ALL, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("case", CASES)
def test_observer__stays_inside_the_extremes(observer, case):
    data = np.concatenate(passes(case))
    for low, high in (streamed(observer, passes(case), UINT4), at_hand(observer, data, UINT4)):
        assert min(data.min(), 0) <= low <= high <= max(data.max(), 0)


def test_observer__config_is_json_and_tells_observers_apart():
    observers = [
        *ALL, MovingAverage(), MovingAverage(0.5, LpSearch()), Percentile(), Percentile(90, 99), LpSearch(2),
        LpSearch(candidates=50), LpSearch(bins=99), PercentileSearch((99.0,)), PercentileSearch(p=3),
        KullbackLeibler(99),
    ]  # fmt: skip
    texts = [json.dumps(observer.config()) for observer in observers]
    assert len(set(texts)) == len(texts)
    assert texts[0] == '"min-max"'
    assert all(isinstance(observer, Observer) for observer in observers)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MovingAverage(1.0), lambda: MovingAverage(-0.1), lambda: MovingAverage(0.9, "min-max"),
        lambda: Percentile(50), lambda: Percentile(101), lambda: Percentile(99, 1), lambda: Percentile(float("nan")),
        lambda: LpSearch(0.5), lambda: LpSearch(candidates=0), lambda: LpSearch(bins=1), lambda: PercentileSearch(()),
        lambda: PercentileSearch((20,)), lambda: PercentileSearch(p=0), lambda: KullbackLeibler(1),
    ],
)  # fmt: skip
def test_observer__refuses_arguments_outside_their_rules(make):
    with pytest.raises(BadInput):
        make()


@pytest.mark.parametrize("observer", [LpSearch(), PercentileSearch(), KullbackLeibler()])
def test_search__refuses_to_run_without_a_spec(observer):
    with pytest.raises(BadInput, match="spec"):
        at_hand(observer, np.ones(3, np.float32), None)


def test_search__refuses_specs_it_cannot_judge():
    stochastic = dataclasses.replace(UINT8, rounding=Rounding.STOCHASTIC)
    with pytest.raises(BadInput, match="deterministically"):
        at_hand(LpSearch(), np.ones(3, np.float32), stochastic)
    with pytest.raises(BadInput, match="bins"):
        at_hand(KullbackLeibler(256), np.ones(3, np.float32), UINT8)
    for observer, spec in ((LpSearch(), stochastic), (PercentileSearch(), None), (KullbackLeibler(256), UINT8)):
        with pytest.raises(BadInput):  # before the data
            observer.accumulator(1, spec)


def test_points__of_a_tensor_are_its_groups_in_order():
    points = points_of(np.array([[3, 1, 2], [0, 9, -1]], np.float32), PerTensor())
    assert isinstance(points, Points)
    assert points.values.tolist() == [[-1, 0, 1, 2, 3, 9]]
    assert points.width[0] == 0
