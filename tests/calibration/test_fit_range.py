"""Claim: ranges of a tensor at hand are those of each group of its granularity alone, ragged groups included."""

from __future__ import annotations

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerBlock, PerGroup, PerTensor
from simulator.arithmetic.quantizer import QuantSpec, dequantize, parameters_from_range, quantize, quantize_to_range
from simulator.calibration.divergence import KullbackLeibler
from simulator.calibration.fit import fit_range
from simulator.calibration.observers import MinMax, MovingAverage
from simulator.calibration.percentile import Percentile
from simulator.calibration.search import LpSearch, PercentileSearch

OBSERVERS = [
    MinMax(),
    MovingAverage(),
    Percentile(95),
    LpSearch(2, 30),
    PercentileSearch((99.0, 90.0)),
    KullbackLeibler(),
]
GRANULARITIES = [
    PerTensor(), PerAxis((0,)), PerAxis((0, 2)), PerGroup(1, 4, (0,)), PerGroup(1, 100), PerBlock((2, 3, None)),
]  # fmt: skip


def weight() -> np.ndarray:
    rng = np.random.default_rng(0)
    ties = rng.integers(-4, 9, (5, 10, 6)) / 2
    return np.where(rng.random(ties.shape) < 0.5, ties, rng.standard_t(2, ties.shape)).astype(np.float32)


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("observer", OBSERVERS, ids=lambda o: type(o).__name__)
def test_fit_range__fits_each_group_alone(observer, granularity):
    w = weight()
    spec = QuantSpec(IntFormat(4, narrow=True), granularity, symmetric=True)
    low, high = fit_range(w, spec, observer)
    shape = granularity.parameter_shape(w.shape)
    assert low.shape == high.shape == shape
    assert low.dtype == high.dtype == np.float64
    number = granularity.expand(np.arange(low.size).reshape(shape), w.shape)
    alone = QuantSpec(spec.format, symmetric=True)
    for group in range(low.size):
        want = fit_range(w[number == group], alone, observer)
        assert [float(b.reshape(-1)[group]) for b in (low, high)] == [float(b.reshape(())) for b in want]


def test_fit_range__with_min_max_is_what_quantize_to_range_takes():
    w = weight()
    for granularity in GRANULARITIES:
        spec = QuantSpec(IntFormat(4, narrow=True), granularity, symmetric=True)
        scale, zero_point = parameters_from_range(*fit_range(w, spec, MinMax()), spec)
        want = quantize_to_range(w, spec)
        assert np.array_equal(scale, want.scale)
        assert np.array_equal(zero_point, want.zero_point)


@pytest.mark.parametrize("p", [2, 2.4])
def test_fit_range__by_search_never_errs_more_than_min_max_in_any_group(p):
    w = weight()
    spec = QuantSpec(IntFormat(3, narrow=True), PerGroup(1, 4, (0,)), symmetric=True)

    def losses(observer) -> np.ndarray:
        parameters = parameters_from_range(*fit_range(w, spec, observer), spec)
        error = np.abs(dequantize(quantize(w, spec, *parameters)).astype(np.float64) - w)
        return spec.granularity.reduce(error**p, np.add)

    searched, plain = losses(LpSearch(p)), losses(MinMax())
    assert (searched <= plain).all()
    assert searched.sum() < 0.9 * plain.sum()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(3), "float32"),
        (np.ones(3, np.float16), "float32"),
        ([1.0], "numpy array"),
        (np.array([1, np.nan], np.float32), "finite"),
        (np.array([1, np.inf], np.float32), "finite"),
        (np.zeros((0,), np.float32), "elements"),
    ],
)
@pytest.mark.parametrize("observer", [MinMax(), LpSearch()])
def test_fit_range__refuses_what_has_no_range(values, message, observer):
    with pytest.raises(BadInput, match=message):
        fit_range(values, QuantSpec(IntFormat(8)), observer)


def test_fit_range__refuses_other_kinds_of_arguments():
    with pytest.raises(BadInput, match="spec"):
        fit_range(weight(), IntFormat(8), MinMax())
    with pytest.raises(BadInput, match="observer"):
        fit_range(weight(), QuantSpec(IntFormat(8)), "min-max")
