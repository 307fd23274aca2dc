"""Claim: a streamed histogram is, count for count, the one of all data at once on the finest grid that holds them.

Data lie on bin edges and one float beside them, where a wrong rounding or a merge of odd bins moves a value.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from simulator.arithmetic.kernels import accelerate
from simulator.calibration import histogram as module
from simulator.calibration.channels import Observed
from simulator.calibration.histogram import SMALLEST, Histogram, grid_exponent

TINY = np.float32(2.0**-149)


def observed(values: np.ndarray, size: int = 1) -> Observed:
    """(outer, channel, inner) values as groups of ``size`` channels."""
    x = np.ascontiguousarray(values, np.float32).reshape((1, 1, -1) if values.ndim == 1 else values.shape)
    starts = range(0, x.shape[1], size)
    low, high = (np.array([f(x[:, s : s + size]) for s in starts], np.float64) for f in (np.min, np.max))
    return Observed(x, size, low, high)


def filled(bins: int, *parts: np.ndarray, size: int = 1) -> Histogram:
    found = [observed(part, size) for part in parts]
    histogram = Histogram(len(found[0].low), bins)
    for part in found:
        histogram.update(part)
    return histogram


def counted(histogram: Histogram, group: int = 0) -> dict[int, int]:
    """Bin index on the grid (in widths from 0) -> count."""
    first, counts = int(histogram._first[group]), histogram._counts[group]
    return {first + int(i): int(counts[i]) for i in np.flatnonzero(counts)}


def by_fractions(values: np.ndarray, bins: int) -> tuple[int, dict[int, int]]:
    """The same from the definition, in exact arithmetic."""
    exact = [Fraction(float(v)) for v in values]
    for e in itertools.count(SMALLEST):
        width = Fraction(2) ** e
        index = [math.floor(x / width) for x in exact]
        if max(index) - min(index) < bins and max(abs(x) for x in exact) < width * 2**23:
            return e, {k: index.count(k) for k in sorted(set(index))}
    raise AssertionError


def edges(rng: np.random.Generator, size: int, step: float) -> np.ndarray:
    """Multiples of ``step``, and their float neighbours on either side."""
    x = (rng.integers(-40, 60, size) * step).astype(np.float32)
    return np.where(rng.random(size) < 0.5, x, np.nextafter(x, x + rng.choice([-1, 1], size).astype(np.float32)))


CASES = {
    "edges": lambda rng: np.where(rng.random(300) < 0.5, edges(rng, 300, 0.25), np.float32(0.5)),
    "one value": lambda rng: np.full(9, np.float32(1e10)),
    "zeros": lambda rng: np.zeros(5),
    "far from zero": lambda rng: 1000 + rng.integers(0, 5, 50) * np.float32(2.0**-14),
    "subnormal": lambda rng: rng.integers(-50, 50, 60).astype(np.float32) * TINY,
    "around zero": lambda rng: np.array([-TINY, 0, -0.0, TINY, -1, 1, -TINY]),
    "largest": lambda rng: rng.choice([-3.4028235e38, 3.4028235e38, 0, 1], 30),
    "negative": lambda rng: -np.abs(rng.normal(size=200)),
    "powers": lambda rng: 2.0 ** rng.integers(-30, 30, 100),
}


@pytest.mark.parametrize("bins", [2, 7, 64])
@pytest.mark.parametrize("case", CASES)
def test_histogram__has_the_counts_of_exact_arithmetic(case, bins):
    values = CASES[case](np.random.default_rng(1)).astype(np.float32)
    exponent, counts = by_fractions(values, bins)
    for parts in (np.array_split(values, min(len(values), 4)), [values], np.array_split(values[::-1], len(values))):
        histogram = filled(bins, *(part for part in parts))
        assert histogram._exponent[0] == exponent
        assert counted(histogram) == counts


@pytest.mark.parametrize("case", CASES)
def test_points__stand_for_data_at_most_half_a_width_away_and_inside_the_extremes(case):
    values = CASES[case](np.random.default_rng(2)).astype(np.float32)
    for bins in (4, 50):
        points = filled(bins, values[:3], values[3:]).points()
        standing = np.repeat(points.values[0].astype(np.float64), points.counts[0])
        assert (np.abs(standing - np.sort(values)) <= points.width[0] / 2).all()
        assert (points.low[0], points.high[0]) == (values.min(), values.max())
        assert values.min() <= standing.min() <= standing.max() <= values.max()


def test_width__is_below_twice_the_span_over_the_bins():
    rng = np.random.default_rng(3)
    for _ in range(300):
        low, high = (float(np.float32(v)) for v in sorted(rng.normal(size=2) * 2.0 ** rng.integers(-60, 60)))
        bins = int(rng.integers(2, 5000))
        width = math.ldexp(1, grid_exponent(low, high, bins))
        largest = max(abs(low), abs(high))
        assert width < 2 * (high - low) / (bins - 1) or width <= 2.0**-22 * largest
        assert largest < width * 2**23


@pytest.mark.parametrize("size", [1, 3, 4])
def test_groups__have_histograms_of_their_own_and_the_last_may_be_short(size):
    rng = np.random.default_rng(4)
    parts = [(rng.integers(-9, 9, (2, 7, n)) / 4 * 3.0 ** np.arange(7)[:, None]).astype(np.float32) for n in (1, 5, 2)]
    histogram = filled(16, *parts, size=size)
    for group, start in enumerate(range(0, 7, size)):
        alone = filled(16, *(part[:, start : start + size].reshape(-1) for part in parts))
        assert counted(histogram, group) == counted(alone)
        assert histogram._exponent[group] == alone._exponent[0]


def test_large_operands__are_counted_in_parts_of_any_number_of_threads(monkeypatch):
    values = (np.random.default_rng(5).integers(-99, 99, 10_007) / 8).astype(np.float32)
    passes = values[:5000], values[5000:]
    whole = counted(filled(32, *passes))
    before = accelerate.get_threads()
    for task, threads in ((100, 1), (100, 2), (999, 2)):
        monkeypatch.setattr(module, "_TASK", task)
        accelerate.set_threads(threads)
        assert counted(filled(32, *passes)) == whole
    accelerate.set_threads(before)
    assert sum(whole.values()) == len(values)


def test_memory__does_not_grow_with_the_data():
    histogram = Histogram(3, 128)
    rng = np.random.default_rng(6)

    def held() -> int:
        return sum(array.nbytes for array in vars(histogram).values())

    before = held()
    for scale in (1, 10, 1e5, 1e-3):
        histogram.update(observed(rng.normal(size=(50, 3, 20)) * scale))
    assert held() == before
    assert histogram._counts.nbytes == 3 * 128 * 8


def test_kernels__count_alike_without_the_compiler(fresh_python):
    code = (
        "import numpy as np, hashlib\n"
        "from simulator.arithmetic.kernels import accelerate, histogram as k\n"
        "x = (np.arange(-900, 903, dtype=np.float32) / 7).reshape(3, 1, -1)[:, :, :600]\n"
        "x = np.ascontiguousarray(np.concatenate([x, x * 1.5 + 0.25], axis=1))\n"
        "one, two = np.zeros((3, 512), np.int64), np.zeros((2, 1024), np.int64)\n"
        "k.count_all(x[:, 0].reshape(-1).copy(), 1.0, -200, one)\n"
        "k.count_groups(x, 1, np.array([1.0, 2.0]), np.array([-200, -500]), two)\n"
        "print(accelerate.COMPILED, hashlib.sha256(one.tobytes() + two.tobytes()).hexdigest(), one.sum(), two.sum())\n"
    )
    plain, compiled = (fresh_python(code, NUMBA_DISABLE_JIT=flag).stdout.split() for flag in ("1", None))
    assert (plain[0], compiled[0]) == ("False", "True")
    assert plain[1:] == compiled[1:]
    assert plain[2:] == ["1800", "3600"]
